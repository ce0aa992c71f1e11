"""The example of every public function and class runs and prints what it says.

Examples assume the names in `NAMES`, as docs/api/index.md says.
"""

import doctest
import inspect
import os
import tempfile
from unittest import mock

from _extensions.public import public
from absl.testing import absltest
from absl.testing import parameterized
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

import tconv

NAMES = {'jax': jax, 'jnp': jnp, 'np': np, 'nnx': nnx, 'tconv': tconv}


class ExamplesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    # What the example of `tune` measures must not decide in other tests.
    cache = self.enter_context(tempfile.TemporaryDirectory())
    self.enter_context(mock.patch.dict(os.environ, {'XDG_CACHE_HOME': cache}))

  @parameterized.named_parameters(public().items())
  def test_example(self, function):
    doc = inspect.getdoc(function) or ''
    _, heading, example = doc.partition('\nExample:\n')
    self.assertTrue(heading, 'The docstring has no section `Example:`.')
    test = doctest.DocTestParser().get_doctest(
        example, dict(NAMES), function.__name__, None, None)
    self.assertNotEmpty(test.examples)
    report = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    self.assertFalse(report, ''.join(report))


if __name__ == '__main__':
  absltest.main()
