"""What a GPU is asked to compute, computed on a CPU: the values are right."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from tconv import dispatch
from tconv import geometry as geometry_lib
from tests import references
from tests.references import integers

# Coarse size, kernel, stride, dilation, groups, padding.
CASES = {
    'unequal padding': ((5, 6), 3, 2, 1, 1, ((0, 1), (2, 0))),
    'groups': ((5, 6), 4, 2, 1, 2, 'SAME'),
    'uneven groups': ((5, 6), 3, 2, 1, 2, 'SAME'),
    'more uneven groups': ((9,), 7, 3, 1, 2, ((1, 3),)),
    'uneven groups in 3-D': ((3, 4, 3), 3, 2, 1, 2, 'SAME'),
    'kernel larger than the image': ((3, 3), 8, 4, 1, 1, 'SAME'),
    'dilated with a common divisor': ((5, 6), 3, 4, 6, 1, 'SAME'),
    'dilated groups': ((5, 6), 3, 2, 3, 2, 'SAME'),
    'dilated, stride 1': ((5, 6), 3, 1, 2, 2, 'SAME'),
    'groups without spatial axes': ((), 1, 1, 1, 2, 'SAME'),
}


def geometry_of(coarse_size, taps, stride, dilation, groups, padding):
  each = lambda value: (value,) * len(coarse_size)
  return geometry_lib.conv_transpose_geometry(
      coarse_size, each(taps), each(stride), padding, each(dilation), groups
  ).trimmed()[0]


class GpuTest(parameterized.TestCase):

  # A result that is added up of several convolutions is rounded twice.
  @parameterized.parameters(
      *((name, 'float32', 0) for name in CASES),
      ('uneven groups', 'bfloat16', 2**-7),
      ('dilated groups', 'bfloat16', 2**-7))
  def test_values(self, name, dtype, rtol):
    geometry = geometry_of(*CASES[name])
    groups = geometry.feature_group_count
    x = integers(0, (2, *geometry.fine_size, 2 * groups))
    w = integers(1, (*geometry.kernel_size, 2, 3 * groups))
    y = integers(2, (2, *geometry.coarse_size, 3 * groups))
    arrays = {'conv': (x, w), 'conv_transpose': (y, w),
              'conv_kernel_grad': (x, y)}

    @jax.jit
    def compute(arrays):
      return {operation: dispatch.compute(
          operation, dispatch.choose(
              operation, geometry, (lhs.shape, rhs.shape), 'cuda'),
          'cuda', lhs, rhs, geometry, precision=None, dtype=jnp.dtype(dtype))
              for operation, (lhs, rhs) in arrays.items()}

    results = compute(jax.tree.map(lambda a: jnp.asarray(a, dtype), arrays))
    for operation, actual in results.items():
      expected = getattr(references, operation)(*arrays[operation], geometry)
      np.testing.assert_allclose(
          actual.astype('float32'), expected, rtol=rtol, err_msg=operation)


if __name__ == '__main__':
  absltest.main()
