"""Every form of every operation equals a NumPy loop over the trilinear sum."""

import itertools

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

# (kernel_size, strides, dilation) of one axis, k_eff < s and k_eff > s too.
AXES = tuple(itertools.product((1, 2, 3, 4), (1, 2, 3), (1, 2)))
PADDINGS = ('SAME', 'VALID', ((1, 2),), ((-1, 1),))


def cases_1d():
  """Half of `AXES`, in which each pair of their values occurs."""
  for i, axis in enumerate(AXES):
    if (i + i // 2) % 2:
      yield ((9 + i // 12,), *((a,) for a in axis),
             PADDINGS[(i // 6 + i // 2 % 3 * 3 // 2) % 4], 1 + i // 4 % 2)


def cases_nd():
  yield (), (), (), (), (), 1
  yield (), (), (), (), (), 3
  draw = np.random.default_rng(0)
  for n, count in ((2, 6), (3, 3)):
    for i in range(count):
      chosen = [AXES[draw.integers(len(AXES))] for _ in range(n)]
      pads = [tuple(draw.integers(-1, 3, 2).tolist()) for _ in range(n)]
      yield (tuple(draw.integers(7, 10, n).tolist()),
             *zip(*chosen), ('SAME', 'VALID', pads)[i % 3], 1 + i % 3)


def check_all_forms(geometry, batch=2, channels=(2, 3), dtype=np.float32,
                    methods=dispatch.METHODS):
  """Compares each form of each operation with the loop, to the last bit."""
  groups = geometry.feature_group_count
  fine, coarse = channels
  x = integers(0, (batch, *geometry.fine_size, groups * fine), dtype)
  w = integers(1, (*geometry.kernel_size, fine, groups * coarse), dtype)
  y = integers(2, (batch, *geometry.coarse_size, groups * coarse), dtype)
  operands = {'conv': (x, w), 'conv_transpose': (y, w),
              'conv_kernel_grad': (x, y)}

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


class AgreementTest(parameterized.TestCase):

  @parameterized.parameters(*cases_1d())
  def test_forms_equal_the_loop(self, size, kernel_size, strides, dilation,
                                padding, groups):
    check_all_forms(geometry_lib.conv_geometry(
        size, kernel_size, strides, padding, dilation, groups))

  @parameterized.parameters(*cases_nd())
  @pytest.mark.gpu
  def test_forms_equal_the_loop_on_other_axes(
      self, size, kernel_size, strides, dilation, padding, groups):
    check_all_forms(geometry_lib.conv_geometry(
        size, kernel_size, strides, padding, dilation, groups))

  @parameterized.parameters('float16', 'float32', 'float64', 'complex64',
                            'complex128', jnp.bfloat16)
  @pytest.mark.gpu
  def test_dtypes(self, dtype):
    with jax.enable_x64(True):
      # One channel and few taps: sums stay within the 8 bits of bfloat16.
      check_all_forms(geometry_lib.conv_geometry(
          (4,), (2,), (2,), 'SAME', (1,), 2), 1, (1, 1), dtype)

  def test_sizes_of_one_and_none(self):
    unit = geometry_lib.conv_geometry((1, 5), (1, 3), (2, 1), 'SAME', (1, 1))
    check_all_forms(unit, channels=(1, 1))
    check_all_forms(unit, batch=0)


@st.composite
def geometries(draw):
  """Geometries that the front door may never make, but that are legal."""
  n = draw(st.integers(1, 2))
  axis = lambda low, high: tuple(
      draw(st.integers(low, high)) for _ in range(n))
  coarse, kernel, strides, dilation = (
      axis(1, 4), axis(1, 4), axis(1, 5), axis(1, 3))
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


class DrawnGeometriesTest(parameterized.TestCase):

  @hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
  @hypothesis.given(geometries(), st.integers(0, 2))
  def test_forms_equal_the_loop(self, geometry, batch):
    check_all_forms(geometry, batch, channels=(1, 2))
