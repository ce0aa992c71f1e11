"""Values of the function and the layer, and both gradients, on any device.

Kernels come as the function takes them, and turned around as a layer does:
to compilers for GPUs these are two programs.
"""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.timing import layers
from experiments.timing import through_jax
from tests import references

pytestmark = pytest.mark.gpu
LAYERS = {
    'square': layers.Layer('square', '', 2, (5, 4), 16, 8, 4, 2, 1),
    'odd': layers.Layer('odd', '', 2, (4, 5), 16, 8, 3, 2, 1, 1),
    'coarser': layers.Layer('coarser', '', 1, (3, 3), 4, 4, 16, 8, 4),
    'volume': layers.Layer('volume', '', 1, (3, 2, 3), 8, 8, 3, 2, 1, 1),
    'grouped': layers.Layer('grouped', '', 2, (4, 4), 16, 16, 4, 2, 1,
                            groups=4),
    'depthwise': layers.Layer('deep', '', 1, (5, 4), 8, 8, 4, 2, 1, groups=8),
    'dilated': layers.Layer('dilated', '', 1, (4, 4), 8, 8, 3, 2, 2, 1, 2),
}


def pairs(layer, arrays, dtype='float32', precision='default'):
  """Output and both gradients by function and layer; each with the expected."""
  y, w, x = (a.astype(np.float64) for a in arrays)
  expected = (references.conv_transpose(y, w, layer.geometry),
              references.conv(x, w, layer.geometry),
              references.conv_kernel_grad(x, y, layer.geometry))
  for name in 'tconv', 'tconv.nnx':
    with jax.default_matmul_precision(precision):
      lowered, call_of = through_jax.lowered_steps(
          name, layer, arrays, 'training', dtype, 1)
      call = call_of(lowered.compile())
      yield from zip(call.read(call.run()), expected, strict=True)


def units_apart(a, b, dtype):
  """How many numbers of a dtype positive `a` is above or below `b`."""
  steps = [array.astype(dtype).view(np.int16).astype(np.int32)
           for array in (a, b)]
  return np.abs(steps[0] - steps[1]).max()


class ValuesTest(parameterized.TestCase):

  @parameterized.parameters(*LAYERS)
  def test_whole_numbers_are_exact(self, name):
    # In TF32, too: it keeps the factors, which are below 2**11, and adds up in
    # float32.
    layer = LAYERS[name]
    arrays = [references.integers(i, a.shape)
              for i, a in enumerate(layer.arrays())]
    for a, b in pairs(layer, arrays):
      np.testing.assert_array_equal(a, b)

  @parameterized.parameters('square', 'grouped')
  def test_highest_precision_is_that_of_float32(self, name):
    layer = LAYERS[name]
    for a, b in pairs(layer, layer.arrays(), precision='highest'):
      # Some hundred products of order 1, rounded to 24 bits; with factors of
      # 10 bits, as in TF32, the differences would be 1e-3.
      np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())

  @parameterized.parameters(
      ('grouped', 'bfloat16'), ('dilated', 'bfloat16'), ('odd', 'float16'))
  def test_half_types_are_rounded_once(self, name, dtype):
    layer, dtype = LAYERS[name], jnp.dtype(dtype)
    # Positive numbers: where terms cancel, all digits of a sum may be lost.
    arrays = [(1 + np.abs(a)).astype(dtype).astype(np.float32) / 4
              for a in layer.arrays()]
    limit = 1 if jax.default_backend() == 'cpu' else 2
    for a, b in pairs(layer, arrays, dtype.name):
      self.assertLessEqual(units_apart(a, b, dtype), limit)


if __name__ == '__main__':
  absltest.main()
