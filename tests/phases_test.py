"""The theorem of `tconv.phases`, and its exact values."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

import tconv
from tests.references import integers

# kernel_size, strides, dilation, groups.
CASES = (
    ((5,), (3,), (2,), 2), ((2,), (4,), (1,), 1), ((3, 5), (2, 3), (2, 1), 2),
    ((4, 4), (4, 4), (3, 3), 1), ((2, 3, 5), (2, 3, 1), (1, 2, 1), 2),
)


def normal(*shape, seed=0, mean=0):
  return np.random.default_rng(seed).normal(mean, 1, shape)


def kernel_of(kernel_size, groups, *, seed=0, mean=0):
  """[*K, 2, 3 * groups], so that C = 2 * groups."""
  return normal(*kernel_size, 2, 3 * groups, seed=seed, mean=mean)


def gains_by_loops(kernel, strides, dilation):
  """Phase gains [*strides, C, O] tap by tap."""
  gains = np.zeros((*strides, *kernel.shape[-2:]))
  for tap in np.ndindex(*kernel.shape[:-2]):
    phase = tuple(t * d % s for t, d, s in zip(tap, dilation, strides))
    gains[phase] += kernel[tap]
  return gains


def grid_energy_by_loops(image, period):
  """Variance of the means over residue classes of one [*size] image."""
  means = [image[tuple(slice(a, None, p) for a, p in zip(phase, period))].mean()
           for phase in np.ndindex(*period)]
  return np.var(means)


class TheoremTest(parameterized.TestCase):

  @parameterized.parameters(*CASES)
  def test_predicted_energy_is_the_measured_one(
      self, kernel_size, strides, dilation, groups):
    with jax.enable_x64(True):
      kernel = kernel_of(kernel_size, groups, mean=.3)
      coarse = tuple(8 + i for i in range(len(kernel_size)))
      y = normal(2, *coarse, 3 * groups, seed=1, mean=1)
      fine = np.asarray(tconv.conv_transpose(
          y, kernel, strides, 'CIRCULAR', kernel_dilation=dilation,
          feature_group_count=groups))
      gains, response = jax.tree.map(np.asarray, jax.jit(lambda kernel: tuple(
          f(kernel, strides, kernel_dilation=dilation) for f in (
              tconv.phase_gains, tconv.frequency_response)))(kernel))
    # That of the response at the grid frequencies.
    power = np.abs(response)**2
    power[(0,) * len(strides)] = 0
    axes = tuple(range(len(strides)))
    np.testing.assert_allclose(
        np.var(gains, axes), power.sum(axes) / np.prod(strides)**2, atol=1e-12)
    means = y.mean(tuple(range(1, y.ndim - 1)))  # [N, O]
    for n, group, c in np.ndindex(2, groups, 2):
      own = slice(3 * group, 3 * group + 3)
      predicted = np.var(gains[..., c, own] @ means[n, own])
      measured = grid_energy_by_loops(fine[n, ..., 2 * group + c], strides)
      self.assertAlmostEqual(measured, predicted, delta=1e-10)


class KernelTest(parameterized.TestCase):

  @parameterized.parameters(
      (3, 2, 4, .2346), (5, 4, 4, .2544), (4, 2, 1, 0))
  def test_overlap_of_square_kernels(self, k, s, ratio, variation):
    counts = tconv.overlap_count((k, k), s)
    self.assertEqual(counts.max() / counts.min(), ratio)
    self.assertAlmostEqual(counts.var() / counts.mean()**2, variation, places=4)
    self.assertEqual(tconv.overlap_count(3, (2, 1)).tolist(), [[6], [3]])
    self.assertEqual(
        tconv.overlap_count(3, 2, kernel_dilation=2).tolist(), [3, 0])

  @parameterized.parameters(*CASES)
  def test_gains_and_variance(self, kernel_size, strides, dilation, groups):
    kernel = np.float32(kernel_of(kernel_size, groups))
    results = jax.jit(lambda kernel: [
        function(kernel, strides, kernel_dilation=dilation)
        for function in (tconv.phase_gains, tconv.phase_variance)])(kernel)
    for actual, taps in zip(results, (kernel, kernel**2)):
      chex.assert_shape(actual, (*strides, 2, 3 * groups))
      np.testing.assert_allclose(  # A few dozen float32 additions.
          actual, gains_by_loops(taps, strides, dilation), atol=1e-5)

  @parameterized.parameters(((3, 4), 1), ((7, 5), 2))
  def test_frequency_response(self, size, dilation):
    kernel = np.float32(normal(3, 4, 2, 3))
    expected = np.zeros((*size, 2, 3), complex)
    for f in np.ndindex(*size):
      for tap in np.ndindex(3, 4):
        turn = sum(k * t * dilation / n for k, t, n in zip(f, tap, size))
        expected[f] += kernel[tap] * np.exp(-2j * np.pi * turn)
    np.testing.assert_allclose(
        tconv.frequency_response(kernel, size, kernel_dilation=dilation),
        expected, atol=1e-5)

  def test_nonuniformity_with_means(self):
    groups = 2
    kernel, means = kernel_of((3, 4), groups), normal(3 * groups, seed=1)
    gains = gains_by_loops(kernel, (2, 3), (1, 2))
    variance = power = 0
    for group, c in np.ndindex(groups, 2):
      own = slice(3 * group, 3 * group + 3)
      g = gains[..., c, own] @ means[own]
      variance, power = variance + g.var(), power + (g**2).mean()
    rho = tconv.phase_nonuniformity(
        np.float32(kernel), (2, 3), np.float32(means), kernel_dilation=(1, 2),
        feature_group_count=groups)
    np.testing.assert_allclose(rho, variance / power, rtol=1e-5)

  def test_nonuniformity_pools_pairs_of_channels(self):
    # One pair is even, the other is nothing but a pattern.
    kernel = jnp.array([[[1., 3.]], [[1., -3.]]])
    self.assertEqual(tconv.phase_nonuniformity(kernel, 2), 9 / 10)
    self.assertEqual(tconv.phase_nonuniformity(kernel, 2, [1., 0.]), 0)
    self.assertEqual(tconv.phase_nonuniformity(0 * kernel, 2), 0)
    self.assertEqual(tconv.checkerboard_penalty(kernel, 2), 9)

  @parameterized.parameters(
      (dict(kernel=np.ones((3, 3), 'f')), 'kernel must have 3 to 5'),
      (dict(kernel=np.ones((3, 1, 1), int)), 'kernel must be of a floating'),
      (dict(strides=(2, 2)), r'strides must be .*\(2, 2\)'),
      (dict(kernel_dilation=1.5), 'kernel_dilation must be .*1.5'),
      (dict(means=[1.]), r'means must be \[O\] = \[3\]; got shape \(1,\)'),
      (dict(means=[1.] * 3, feature_group_count=2),
       "must divide the kernel's 3 input channels; got 2"),
      (dict(means=[1.] * 3, feature_group_count=1.),
       'feature_group_count must .*1.0'))
  def test_errors_name_the_argument(self, changes, message):
    arguments = dict(kernel=np.ones((3, 1, 3), np.float32), strides=2)
    with self.assertRaisesRegex(ValueError, message):
      tconv.phase_nonuniformity(**arguments | changes)


class HalfTypesTest(parameterized.TestCase):

  @parameterized.parameters(
      ((9,), dict(strides=4), 'bfloat16', 1),
      ((16, 16), dict(strides=2), 'bfloat16', 1e-3),
      ((4, 5), dict(strides=(2, 3), kernel_dilation=(1, 2)), 'float16', 1))
  def test_gains_are_exactly_equal(self, kernel, options, dtype, scale):
    w = jnp.asarray(scale * normal(*kernel, 3, 4), dtype)
    equalize = jax.jit(lambda w: tconv.equalize_phases(w, **options))
    equal = equalize(w)
    self.assertEqual(equal.dtype, dtype)
    exact = np.asarray(equal, np.float64)
    with jax.enable_x64(True):
      # In float64 these sums are exact.
      gains = np.asarray(tconv.phase_gains(exact, **options))
      nearest = np.asarray(equalize(np.asarray(w, np.float64)))
    flat = gains.reshape(-1, *gains.shape[-2:])
    np.testing.assert_array_equal(flat, np.broadcast_to(flat[:1], flat.shape))
    # Half a unit in the last place for all but one tap of each phase, which
    # makes up for the others, 63 of them at most.
    error = np.linalg.norm(exact - nearest) / np.linalg.norm(nearest)
    self.assertLess(error, 3 * float(jnp.finfo(dtype).eps))

  def test_taps_of_zero(self):
    w = jnp.zeros((4, 2, 2), 'bfloat16').at[0, 0, 0].set(1)
    np.testing.assert_array_equal(
        np.asarray(jax.jit(lambda w: tconv.equalize_phases(w, 2))(w),
                   'f')[:, :, 0].T,
        [[.75, .25, -.25, .25], [0] * 4])

  def test_gradient_is_that_of_float32(self):
    w = jnp.asarray(integers(0, (4, 3, 2, 2)), 'float16')
    weights = integers(1, w.shape)
    gradient = jax.jit(jax.grad(lambda w: (tconv.equalize_phases(
        w, (2, 1)).astype('float32') * weights).sum()))
    np.testing.assert_allclose(
        gradient(w), gradient(w.astype('float32')), atol=2e-3)

  def test_nothing_is_promoted(self):
    dtype = 'bfloat16'
    w = jax.ShapeDtypeStruct((4, 3, 2, 2), dtype)
    with jax.numpy_dtype_promotion('strict'):
      for function in (tconv.phase_gains, tconv.phase_variance,
                       tconv.equalize_phases, tconv.phase_nonuniformity,
                       tconv.checkerboard_penalty):
        self.assertEqual(jax.eval_shape(
            lambda w, f=function: f(w, (2, 1)), w).dtype, dtype)
      self.assertEqual(jax.eval_shape(
          lambda w: tconv.frequency_response(w, 4), w).dtype, 'complex64')

  def test_squares_are_taken_in_float32(self):
    w = jnp.full((4, 4, 1, 1), 1e-4, 'float16')
    # Of 4 taps each; float16 has steps of 6e-8 there.
    np.testing.assert_allclose(tconv.phase_variance(w, 2), 4e-8, atol=3e-8)
    uneven = w.at[::2].set(0)
    self.assertGreater(
        float(tconv.checkerboard_penalty(300 * uneven, 2)), 1e-4)


class ShardingTest(parameterized.TestCase):

  def test_channels_may_be_sharded_explicitly(self):
    kernel = jnp.float32(normal(3, 4, 2, 4))
    functions = (tconv.phase_gains, tconv.phase_variance, tconv.equalize_phases,
                 tconv.phase_nonuniformity, tconv.checkerboard_penalty)
    compute = jax.jit(lambda w: (
        [function(w, 2) for function in functions],
        jax.grad(lambda w: tconv.checkerboard_penalty(w, 2))(w)))
    expected, slope = compute(kernel)
    spec = 'a', 'b'
    explicit = (jax.sharding.AxisType.Explicit,) * 2
    with jax.set_mesh(jax.make_mesh((2, 2), ('a', 'b'), explicit)):
      sharded = jax.sharding.reshard(
          kernel, jax.sharding.PartitionSpec(None, None, *spec))
      results = compute(sharded)
      chex.assert_trees_all_close(
          results, (expected, slope), rtol=1e-5, atol=1e-6)
      for result in results[0]:
        if result.ndim:  # The channels stay where they are.
          self.assertEqual(tuple(jax.typeof(result).sharding.spec[-2:]), spec)


if __name__ == '__main__':
  absltest.main()
