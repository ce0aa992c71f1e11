"""Every form of every operation equals a NumPy loop over the trilinear sum."""

from absl.testing import parameterized
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tconv import dispatch
from tconv import geometry as geometry_lib
from tconv import trilinear
from tests import references
from tests.references import integers


def operands_of(geometry, batch=2, channels=(2, 3), dtype=np.float32):
  groups = geometry.feature_group_count
  fine, coarse = channels
  x = integers(0, (batch, *geometry.fine_size, groups * fine), dtype)
  w = integers(1, (*geometry.kernel_size, fine, groups * coarse), dtype)
  y = integers(2, (batch, *geometry.coarse_size, groups * coarse), dtype)
  return {'conv': (x, w), 'conv_transpose': (y, w), 'conv_kernel_grad': (x, y)}


def check_forms(geometry, *options, methods=tuple(dispatch.FORMS)):
  """Compares forms of each operation with the loop, to the last bit."""
  operands = operands_of(geometry, *options)

  @jax.jit  # One program for all forms compiles in half the time.
  def compute(operands):
    return {(operation, method): trilinear.contract(
        operation, *arrays, geometry=geometry, method=method)
            for operation, arrays in operands.items()
            for method in methods}

  expected = {operation: getattr(references, operation)(*arrays, geometry)
              for operation, arrays in operands.items()}
  for (operation, method), actual in compute(operands).items():
    np.testing.assert_array_equal(
        actual, expected[operation], f'{method} {operation} {geometry}',
        strict=True)


# Coarse size, kernel, stride, dilation, groups, padding.
GPU_CASES = {
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


@st.composite
def geometries(draw):
  """Geometries that the front door may never make, but that are legal."""
  n = draw(st.integers(1, 2))
  axis = lambda low, high: tuple(
      draw(st.integers(low, high)) for _ in range(n))
  coarse, kernel, strides, dilation = (
      axis(1, 4), axis(1, 3), axis(1, 4), axis(1, 3))
  low = axis(-3, 4)
  smallest = [(c - 1) * s + (k - 1) * d + 1 - lo for c, k, s, d, lo in zip(
      coarse, kernel, strides, dilation, low)]
  # Any high padding that leaves something of the fine grid, up to four zeros
  # of it cropped away and up to four written.
  high = [draw(st.integers(-4, min(4, f - 1))) for f in smallest if f > -4]
  hypothesis.assume(len(high) == n)
  fine = tuple(f - hi for f, hi in zip(smallest, high))
  return geometry_lib.Geometry(
      fine, coarse, kernel, strides, dilation, tuple(zip(low, high)),
      draw(st.integers(1, 2)))


class AgreementTest(parameterized.TestCase):

  @hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
  @hypothesis.given(geometries(), st.integers(0, 2))
  def test_drawn_geometries(self, geometry, batch):
    check_forms(geometry, batch, (1, 2))

  # Size of the fine grid, kernel, strides, padding, dilation, groups.
  @parameterized.parameters(
      ((), (), (), (), (), 3),
      ((9,), (3,), (2,), 'SAME', (1,), 1),
      ((8, 7), (4, 2), (2, 3), 'VALID', (1, 2), 3),
      ((1, 5), (1, 3), (2, 1), 'SAME', (1, 1), 1),
      ((7, 8, 6), (2, 3, 1), (2, 1, 2), ((-1, 1), (0, 2), (1, -1)), (2, 1, 1),
       2))
  @pytest.mark.gpu
  def test_any_number_of_axes(self, *arguments):
    check_forms(geometry_lib.conv_geometry(*arguments))

  @parameterized.parameters('float64', 'complex64', jnp.bfloat16)
  @pytest.mark.gpu
  def test_dtypes(self, dtype):
    with jax.enable_x64(True):
      # One channel and few taps: sums stay within the 8 bits of bfloat16.
      check_forms(geometry_lib.conv_geometry(
          (4,), (2,), (2,), 'SAME', (1,), 2), 1, (1, 1), dtype)

  # By the rule for GPUs, on any device. A result that is added up of several
  # convolutions is rounded twice.
  @parameterized.parameters(
      *((name, 'float32', 0) for name in GPU_CASES),
      ('uneven groups', 'bfloat16', 2**-7),
      ('dilated groups', 'bfloat16', 2**-7))
  def test_what_a_gpu_is_asked_to_compute(self, name, dtype, rtol):
    size, *numbers, groups, padding = GPU_CASES[name]
    kernel, strides, dilation = ((number,) * len(size) for number in numbers)
    geometry, _ = geometry_lib.conv_transpose_geometry(
        size, kernel, strides, padding, dilation, groups).trimmed()
    arrays = operands_of(geometry)

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
