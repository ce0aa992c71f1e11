"""Kernels that cannot paint a grid: made so, drawn so, or so by nature."""

import itertools

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

import tconv
from tests.phases_test import CASES
from tests.phases_test import kernel_of
from tests.phases_test import normal

# Those with a tap on every phase.
WHOLE = tuple(case for case in CASES
              if tconv.overlap_count(*case[:2], kernel_dilation=case[2]).all())


class CureTest(parameterized.TestCase):

  @parameterized.parameters(*WHOLE)
  def test_equalized_kernel_is_the_nearest(
      self, kernel_size, strides, dilation, groups):
    kernel = kernel_of(kernel_size, groups)
    with jax.enable_x64(True):
      equal = np.asarray(jax.jit(lambda kernel: tconv.equalize_phases(
          kernel, strides, kernel_dilation=dilation))(kernel))
    # Least squares by the normal equations: rows are g_a - g_0 and the sum.
    taps = int(np.prod(kernel_size))
    phases = np.zeros((*strides, taps))
    for i, tap in enumerate(np.ndindex(*kernel_size)):
      phases[(*(t * d % s for t, d, s in zip(tap, dilation, strides)), i)] = 1
    phases = phases.reshape(-1, taps)
    rows = np.vstack([phases[1:] - phases[:1], np.ones((1, taps))])
    flat = kernel.reshape(taps, -1)
    target = np.zeros((len(rows), flat.shape[1]))
    target[-1] = flat.sum(0)
    nearest = flat - np.linalg.pinv(rows) @ (rows @ flat - target)
    np.testing.assert_allclose(equal.reshape(taps, -1), nearest, atol=1e-12)

  def test_the_penalty_and_the_measure_are_differentiable(self):
    with jax.enable_x64(True):
      kernel = jnp.asarray(normal(3, 2, 2))
      chex.assert_numerical_grads(jax.jit(
          lambda w: tconv.checkerboard_penalty(w, 2)
          * tconv.phase_nonuniformity(w, 2)), (kernel,), 1)
      gradient = jax.grad(lambda w: tconv.phase_nonuniformity(w, 2))(0 * kernel)
    np.testing.assert_array_equal(gradient, 0)

  def test_a_phase_without_taps_cannot_be_equal(self):
    with self.assertRaisesRegex(
        ValueError, r'none on phase \(0, 2\) with kernel_size \(3, 2\), '
        r'strides \(2, 3\)'):
      tconv.equalize_phases(jnp.ones((3, 2, 1, 1)), (2, 3))
    with self.assertRaisesRegex(ValueError, r'phase \(1,\).*kernel_dilation 2'):
      tconv.equalize_phases(jnp.ones((3, 1, 1)), 2, kernel_dilation=2)


class EquivalentKernelTest(parameterized.TestCase):

  def test_clean_upsamplers_have_equal_phases(self):
    draw = lambda *shape: jnp.asarray(normal(*shape, mean=.5))
    with jax.enable_x64(True):
      icnr = tconv.initializers.icnr(2)(
          jax.random.key(0), (3, 3, 4, 8), float)
      small, wide = draw(3, 3, 4, 2), draw(3, 3, 2, 4)
      up = lambda y, kernel=wide: tconv.conv_transpose(y, kernel, 2)
      upsamplers = {
          'icnr': lambda y: tconv.sub_pixel_conv(y, icnr, 2),
          'nearest': lambda y: tconv.resize_conv(y, small, 2),
          'bilinear': lambda y: tconv.resize_conv(
              y, small, 2, method='bilinear'),
          'equal': lambda y: up(y, tconv.equalize_phases(wide, 2)),
          'hold': lambda y: tconv.zero_order_hold(up(y), 2),
          'painted': up}
      rho = {name: tconv.phase_nonuniformity(tconv.equivalent_kernel(
          jax.jit(upsampler), (2, 2), 4), (2, 2)).item()
             for name, upsampler in upsamplers.items()}
    self.assertGreater(rho.pop('painted'), .01)
    for name, value in rho.items():
      self.assertLess(value, 1e-12, name)

  def test_it_is_the_kernel_of_a_transposed_convolution(self):
    kernel = jnp.float32(normal(5, 2, 3, 4))
    seen = tconv.equivalent_kernel(
        lambda y: tconv.conv_transpose(y, kernel, (2, 1), 'CIRCULAR') + 7,
        (2, 1), 4, reach=3)
    chex.assert_shape(seen, (14, 7, 3, 4))
    at = tuple(np.argwhere(np.abs(seen).sum((-2, -1)) > 1e-4).min(0))
    window = tuple(slice(a, a + k) for a, k in zip(at, (5, 2)))
    # The bias of 7 is added and taken off again.
    np.testing.assert_allclose(seen[window], kernel, atol=2e-6)
    y = jnp.float32(normal(1, 9, 8, 4))
    upsampled, again = (
        tconv.conv_transpose(y, w, (2, 1), 'CIRCULAR') for w in (kernel, seen))
    shifts = itertools.product(range(18), range(8))
    self.assertLess(min(np.abs(np.roll(again, s, (1, 2)) - upsampled).max()
                        for s in shifts), 1e-4)

  def test_errors(self):
    for changes, message in (
        ({'strides': 2}, 'strides must be a sequence'),
        ({'channels': 2.5}, 'channels must be .*2.5'),
        ({'reach': -1}, 'reach must be .*-1'),
        ({}, r'enlarge size \(9,\) by \(2,\) to \(18,\); got \(9,\)')):
      with self.assertRaisesRegex(ValueError, message):
        tconv.equivalent_kernel(
            lambda y: y, **{'strides': (2,), 'channels': 1} | changes)


if __name__ == '__main__':
  absltest.main()
