"""Which upsampler of a stack made the lines: the theory, with ReLU between."""

from absl.testing import absltest
from absl.testing import parameterized
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


class StackTest(parameterized.TestCase):

  @parameterized.parameters(
      (transposed, transposed, True, True),
      (nearest, transposed, True, False),
      (transposed, nearest, False, True),
      (nearest, nearest, False, False))
  def test_lines_name_the_upsampler(self, first, last, of_two, of_four_only):
    draw = np.random.default_rng(0)
    y = jnp.float32(draw.normal(1, .2, (4, 32, 32, CHANNELS)))
    wide, narrow = (jnp.float32(draw.normal(1, .5, (4, 4, c, CHANNELS)))
                    for c in (CHANNELS, 1))
    y = first(wide, y)
    y = last(narrow, jax.nn.relu(y - y.mean()))  # It cuts half of it off.
    # Lines at period 2 are the last layer's; at 4 and not 2 the first one's.
    for expected, options in ((of_two, dict(period=2)),
                              (of_four_only, dict(period=4, exclude=2))):
      level = np.asarray(tconv.grid_level(y, **options))
      p_values = np.asarray(tconv.grid_test(y, **options))
      share = np.asarray(tconv.grid_amplitude(y, **options) / y.std((1, 2)))
      if expected:
        self.assertGreater(level.min(), 15)
        self.assertLess(p_values.max(), .05)
        self.assertGreater(share.min(), .1)
      else:
        self.assertLess(level.max(), 5)
        self.assertGreater(np.median(p_values), .05)
        self.assertLess(share.max(), .01)


if __name__ == '__main__':
  absltest.main()
