"""Which upsampler of a stack made the lines: the theory, with ReLU between."""

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

import tconv

CHANNELS = 8


def transposed(kernel, y):
  return tconv.conv_transpose(y, kernel, 2, 'CIRCULAR')


def nearest(kernel, y):
  kernel = kernel[:3, :3].swapaxes(-2, -1)
  return tconv.resize_conv(y, kernel, 2, 'CIRCULAR')


class StackTest(absltest.TestCase):

  def test_lines_name_the_upsampler(self):
    draw = np.random.default_rng(0)
    y = jnp.float32(draw.normal(1, .2, (4, 32, 32, CHANNELS)))
    wide, narrow = (jnp.float32(draw.normal(1, .5, (4, 4, c, CHANNELS)))
                    for c in (CHANNELS, 1))
    for first, last, *expected in (
        (transposed, transposed, True, True),
        (nearest, transposed, True, False),
        (transposed, nearest, False, True),
        (nearest, nearest, False, False)):
      x = first(wide, y)
      x = last(narrow, jax.nn.relu(x - x.mean()))  # It cuts half of it off.
      # Lines at period 2 are the last layer's; at 4 and not 2 the first one's.
      for seen, options in zip(
          expected, (dict(period=2), dict(period=4, exclude=2))):
        level = np.asarray(tconv.grid_level(x, **options))
        if seen:
          self.assertGreater(level.min(), 15)
        else:
          self.assertLess(level.max(), 5)


if __name__ == '__main__':
  absltest.main()
