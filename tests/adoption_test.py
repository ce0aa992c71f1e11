"""The measurement of models of other libraries, on a tiny one."""

import contextlib
import io
import pathlib
import tempfile
from unittest import mock

from absl import flags
from absl.testing import absltest
from absl.testing import flagsaver
import jax
from jax import lax
import jax.numpy as jnp

from experiments import adoption
from experiments.timing import adopted

ROOT = pathlib.Path(__file__).parent.parent


def tiny():
  k, x = jnp.ones((4, 4, 2, 2)), jnp.ones((2, 3, 3, 2))
  loss = lambda k, x: (lax.conv_transpose(x, k, (2, 2), 'SAME')**2).mean()
  return adopted._descended(loss), (k, x)


def missing():
  import a_library_that_is_not_there  # noqa: F401  # pyrefly: ignore


class AdoptionTest(absltest.TestCase):

  def test_differences_of_gradients_are_seen(self):
    step, args = tiny()
    value, weights, gradients = before = jax.jit(step)(*args)
    self.assertGreater(adoption._difference(
        before, (value, weights, 1.01 * gradients)), .005)

  def test_page(self):
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    with tempfile.TemporaryDirectory() as folder:
      page = pathlib.Path(folder) / 'page.md'
      text = (ROOT / 'docs/accelerate.md').read_text(encoding='utf-8')
      page.write_text(text, encoding='utf-8')
      printed = io.StringIO()
      with (flagsaver.flagsaver(page=str(page), repeats=1),
            mock.patch.object(adopted, 'MODELS',
                              {'Tiny: net': tiny, 'Other': missing}),
            contextlib.redirect_stdout(printed)):
        adoption.main([])
      written = page.read_text(encoding='utf-8')
    self.assertIn('Other: skipped, a_library_that_is_not_there',
                  printed.getvalue())
    self.assertIn('| Tiny: net | 2 | 0 |', written)  # Replaced, and left.
    self.assertNotIn('Other', written)
    # The text around the table stays.
    self.assertEqual(written.split('| model')[0], text.split('| model')[0])
    self.assertEqual(written.split('*Left with zeros*')[1],
                     text.split('*Left with zeros*')[1])


if __name__ == '__main__':
  absltest.main()
