"""The theorem of `tconv.phases`, and its exact values."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

import tconv
from tests.references import integers

# kernel_size, strides, dilation, groups.
CASES = (
    ((4,), (2,), (1,), 1), ((5,), (3,), (2,), 2), ((2,), (4,), (1,), 1),
    ((3, 3), (2, 2), (1, 1), 1), ((4, 4), (2, 2), (1, 1), 3),
    ((5, 4), (3, 2), (1, 1), 1), ((3, 5), (2, 3), (2, 1), 2),
    ((6, 2), (1, 2), (1, 3), 1), ((4, 4), (4, 4), (3, 3), 1),
    ((3, 4, 3), (2, 2, 2), (1, 1, 1), 1), ((2, 3, 5), (2, 3, 1), (1, 2, 1), 2),
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
      gains = np.asarray(tconv.phase_gains(
          kernel, strides, kernel_dilation=dilation))
    means = y.mean(tuple(range(1, y.ndim - 1)))  # [N, O]
    for n, group, c in np.ndindex(2, groups, 2):
      own = slice(3 * group, 3 * group + 3)
      predicted = np.var(gains[..., c, own] @ means[n, own])
      measured = grid_energy_by_loops(fine[n, ..., 2 * group + c], strides)
      self.assertAlmostEqual(measured, predicted, delta=1e-10)

  @parameterized.parameters(*CASES)
  def test_energy_is_that_of_the_response_at_the_grid_frequencies(
      self, kernel_size, strides, dilation, groups):
    with jax.enable_x64(True):
      kernel = kernel_of(kernel_size, groups)
      gains = np.asarray(tconv.phase_gains(
          kernel, strides, kernel_dilation=dilation))
      response = np.asarray(tconv.frequency_response(
          kernel, strides, kernel_dilation=dilation))
    power = np.abs(response)**2
    power[(0,) * len(strides)] = 0
    axes = tuple(range(len(strides)))
    np.testing.assert_allclose(
        np.var(gains, axes), power.sum(axes) / np.prod(strides)**2, atol=1e-12)

  def test_spectrum_of_the_output_is_a_product(self):
    # Y(f) = H(f) X(s f), at every frequency.
    with jax.enable_x64(True):
      kernel, y = normal(5, 1, 1), normal(1, 7, 1, seed=1)
      fine = np.asarray(tconv.conv_transpose(y, kernel, 3, 'CIRCULAR'))
      response = np.asarray(tconv.frequency_response(kernel, 21))
    # The padding shifts the image by two positions.
    shift = np.exp(2j * np.pi * np.arange(21) * 2 / 21)
    expected = np.tile(np.fft.fft(y[0, :, 0]), 3) * response[:, 0, 0] * shift
    np.testing.assert_allclose(
        np.fft.fft(fine[0, :, 0]), expected, atol=1e-10)


class KernelTest(parameterized.TestCase):

  @parameterized.parameters(
      (3, 2, 4, .2346), (5, 2, 2.25, .0816), (5, 3, 4, .1664),
      (5, 4, 4, .2544), (4, 2, 1, 0), (6, 3, 1, 0))
  def test_overlap_of_square_kernels(self, k, s, ratio, variation):
    counts = tconv.overlap_count((k, k), s)
    self.assertEqual(counts.max() / counts.min(), ratio)
    self.assertAlmostEqual(counts.var() / counts.mean()**2, variation, places=4)
    np.testing.assert_array_equal(
        counts, tconv.phase_gains(jnp.ones((k, k, 1, 1)), s)[..., 0, 0])

  def test_overlap_takes_numbers_for_axes(self):
    self.assertEqual(tconv.overlap_count(3, 2).tolist(), [2, 1])
    self.assertEqual(tconv.overlap_count(3, (2, 1)).tolist(), [[6], [3]])
    self.assertEqual(tconv.overlap_count((2, 3), 2).tolist(), [[2, 1], [2, 1]])
    self.assertEqual(
        tconv.overlap_count(3, 2, kernel_dilation=2).tolist(), [3, 0])

  @parameterized.parameters(*CASES)
  def test_gains_and_variance(self, kernel_size, strides, dilation, groups):
    kernel = np.float32(kernel_of(kernel_size, groups))
    for actual, taps in (
        (tconv.phase_gains(kernel, strides, kernel_dilation=dilation), kernel),
        (tconv.phase_variance(kernel, strides, kernel_dilation=dilation),
         kernel**2)):
      chex.assert_shape(actual, (*strides, 2, 3 * groups))
      np.testing.assert_allclose(  # A few dozen float32 additions.
          actual, gains_by_loops(taps, strides, dilation), atol=1e-5)

  def test_variance_is_that_of_filtered_noise(self):
    kernel = np.float32(normal(3, 3, 1, 4))
    y = np.float32(normal(200, 16, 16, 4, seed=1))
    fine = np.asarray(tconv.conv_transpose(y, kernel, 2, 'CIRCULAR'))[..., 0]
    # 'SAME' of 3 taps at stride 2 starts with tap 1, hence the rotation.
    measured = [[fine[:, a::2, b::2].var() for b in (1, 0)] for a in (1, 0)]
    predicted = tconv.phase_variance(kernel, 2).sum((-2, -1))
    # 51,200 samples for each phase: the standard error is below one percent.
    np.testing.assert_allclose(measured, predicted, rtol=.04)

  @parameterized.product(size=[(3, 4), (2, 2), (7, 5)], dilation=[1, 2])
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

  def test_nonuniformity_of_positive_kernels_shows_divisibility(self):
    rho = {}
    for k in (3, 4):
      kernel = np.random.default_rng(k).normal(1, .5, (k, k, 64, 64))
      rho[k] = tconv.phase_nonuniformity(
          np.float32(kernel), 2, np.ones(64, np.float32)).item()
    # All-ones kernels have .19 and 0; the rest is what 64 random ones add.
    self.assertAlmostEqual(rho[3], .191, delta=.001)
    self.assertAlmostEqual(rho[4], .0007, delta=.0001)

  @parameterized.product(k=(3, 4, 5, 6), s=(2, 3))
  def test_nonuniformity_of_random_kernels_does_not(self, k, s):
    kernel = np.float32(normal(k, k, 32, 32))
    rho = tconv.phase_nonuniformity(kernel, s).item()
    if k % s:  # Phases with more taps weigh more, yet near enough.
      self.assertAlmostEqual(rho, 1 - 1 / s**2, delta=.03)
    else:
      self.assertAlmostEqual(rho, 1 - 1 / s**2, delta=.01)
    unequal = np.ptp(tconv.phase_variance(kernel, s).sum((-2, -1)))
    self.assertEqual(unequal > .2 * k**2 / s**2 * 32**2, k % s != 0)

  @parameterized.parameters(1, 2)
  def test_nonuniformity_with_means(self, groups):
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

  def test_nonuniformity_does_not_depend_on_scale(self):
    kernel = np.float32(normal(3, 2, 2))
    np.testing.assert_allclose(tconv.phase_nonuniformity(1e-6 * kernel, 2),
                               tconv.phase_nonuniformity(kernel, 2), rtol=1e-5)

  def test_nonuniformity_of_half_precision_does_not_overflow(self):
    kernel = jnp.full((3, 3, 1, 1), 200, jnp.float16)
    np.testing.assert_allclose(  # float16 has three digits.
        tconv.phase_nonuniformity(kernel, 2), .19, rtol=1e-3)

  def test_half_precision_adds_up_in_float32(self):
    kernel = jnp.ones((601, 1, 1), jnp.bfloat16)
    np.testing.assert_array_equal(  # Alone, bfloat16 ends at 256.
        np.float32(tconv.phase_gains(kernel, 2)[:, 0, 0]), [300, 300])

  def test_padding_only_rotates(self):
    kernel = np.float32(normal(4, 3, 1, 1))
    gains = tconv.phase_gains(kernel, (2, 3))
    moved = tconv.phase_gains(
        np.pad(kernel, ((1, 0), (2, 0), (0, 0), (0, 0))), (2, 3))
    np.testing.assert_array_equal(moved, np.roll(gains, (1, 2), (0, 1)))

  def test_kernels_of_layers(self):
    layer = nnx.ConvTranspose(3, 2, (3, 3), strides=2, padding='CIRCULAR',
                              rngs=nnx.Rngs(0))
    kernel = tconv.equalize_phases(layer.kernel, 2)
    chex.assert_shape(kernel, (3, 3, 3, 2))
    y = np.float32(normal(1, 8, 8, 3, mean=2))
    energy = lambda: grid_energy_by_loops(np.asarray(layer(y))[0, ..., 0],
                                          (2, 2))
    self.assertGreater(energy(), 1e-3)
    layer.kernel[...] = kernel
    self.assertLess(energy(), 1e-12)

  @parameterized.parameters(
      (dict(kernel=np.ones((3, 1, 1), int)), 'kernel must be of a floating'),
      (dict(kernel=np.ones((3, 1, 1), complex)), 'kernel must be of a float'),
      (dict(strides=0), r'strides must be .*0'),
      (dict(strides=(2, 2)), r'strides must be .*\(2, 2\)'),
      (dict(kernel_dilation=1.5), 'kernel_dilation must be .*1.5'),
      (dict(means=[1.]), r'means must be \[O\] = \[3\]; got shape \(1,\)'),
      (dict(means=[1.] * 3, feature_group_count=2),
       "must divide the kernel's 3 input channels; got 2"),
      (dict(means=[1.] * 3, feature_group_count=-1),
       'feature_group_count must .*-1'),
      (dict(means=[1.] * 3, feature_group_count=1.),
       'feature_group_count must .*1.0'))
  def test_errors_name_the_argument(self, changes, message):
    arguments = dict(kernel=np.ones((3, 1, 3), np.float32), strides=2)
    with self.assertRaisesRegex(ValueError, message):
      tconv.phase_nonuniformity(**arguments | changes)

  def test_rank_is_checked(self):
    for shape in ((3, 3), (3,) * 6):
      with self.assertRaisesRegex(ValueError, 'kernel must have 3 to 5'):
        tconv.phase_gains(jnp.ones(shape), 2)


class HalfTypesTest(parameterized.TestCase):

  @parameterized.product(
      case=[((4, 4), dict(strides=2)), ((3, 5), dict(strides=(2, 3))),
            ((9,), dict(strides=4)), ((16, 16), dict(strides=2)),
            ((4, 5), dict(strides=(2, 3), kernel_dilation=(1, 2)))],
      dtype=['bfloat16', 'float16'], scale=[1, 1e-3])
  def test_gains_are_exactly_equal(self, case, dtype, scale):
    kernel, options = case
    w = jnp.asarray(scale * normal(*kernel, 3, 4), dtype)
    equal = tconv.equalize_phases(w, **options)
    self.assertEqual(equal.dtype, dtype)
    exact = np.asarray(equal, np.float64)
    with jax.enable_x64(True):
      # In float64 these sums are exact.
      gains = np.asarray(tconv.phase_gains(exact, **options))
      nearest = np.asarray(tconv.equalize_phases(
          np.asarray(w, np.float64), **options))
    flat = gains.reshape(-1, *gains.shape[-2:])
    np.testing.assert_array_equal(flat, np.broadcast_to(flat[:1], flat.shape))
    # Half a unit in the last place for all but one tap of each phase, which
    # makes up for the others, 63 of them at most.
    error = np.linalg.norm(exact - nearest) / np.linalg.norm(nearest)
    self.assertLess(error, 3 * float(jnp.finfo(dtype).eps))

  def test_taps_of_zero(self):
    w = jnp.zeros((4, 2, 2), 'bfloat16').at[0, 0, 0].set(1)
    np.testing.assert_array_equal(
        np.asarray(tconv.equalize_phases(w, 2), 'f')[:, :, 0].T,
        [[.75, .25, -.25, .25], [0] * 4])

  def test_gradient_is_that_of_float32(self):
    w = jnp.asarray(integers(0, (4, 3, 2, 2)), 'float16')
    weights = integers(1, w.shape)
    gradient = lambda w: jax.grad(lambda w: (tconv.equalize_phases(
        w, (2, 1)).astype('float32') * weights).sum())(w)
    np.testing.assert_allclose(
        gradient(w), gradient(w.astype('float32')), atol=2e-3)

  @parameterized.parameters('bfloat16', 'float16')
  def test_nothing_is_promoted(self, dtype):
    w = jnp.asarray(normal(4, 3, 2, 2), dtype)
    with jax.numpy_dtype_promotion('strict'):
      for function in (tconv.phase_gains, tconv.phase_variance,
                       tconv.equalize_phases, tconv.phase_nonuniformity,
                       tconv.checkerboard_penalty):
        self.assertEqual(function(w, (2, 1)).dtype, dtype)
      self.assertEqual(tconv.frequency_response(w, 4).dtype, 'complex64')

  def test_squares_are_taken_in_float32(self):
    w = jnp.full((4, 4, 1, 1), 1e-4, 'float16')
    # Of 4 taps each; float16 has steps of 6e-8 there.
    np.testing.assert_allclose(tconv.phase_variance(w, 2), 4e-8, atol=3e-8)
    np.testing.assert_allclose(tconv.phase_variance(w, 1), 1.6e-7, atol=3e-8)
    uneven = w.at[::2].set(0)
    self.assertGreater(
        float(tconv.checkerboard_penalty(300 * uneven, 2)), 1e-4)


class ShardingTest(parameterized.TestCase):

  @parameterized.parameters('O', 'C', 'both')
  def test_channels_may_be_sharded_explicitly(self, which):
    kernel = jnp.float32(normal(3, 4, 2, 4))
    functions = (tconv.phase_gains, tconv.phase_variance, tconv.equalize_phases,
                 tconv.phase_nonuniformity, tconv.checkerboard_penalty)
    expected = [function(kernel, 2) for function in functions]
    spec = {'O': (None, 'b'), 'C': ('a', None), 'both': ('a', 'b')}[which]
    explicit = (jax.sharding.AxisType.Explicit,) * 2
    with jax.set_mesh(jax.make_mesh((2, 2), ('a', 'b'), explicit)):
      sharded = jax.sharding.reshard(
          kernel, jax.sharding.PartitionSpec(None, None, *spec))
      for function, value in zip(functions, expected):
        result = jax.jit(function, static_argnums=1)(sharded, 2)
        np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-6)
        if result.ndim:  # The channels stay where they are.
          self.assertEqual(tuple(jax.typeof(result).sharding.spec[-2:]), spec)
      slope = jax.grad(lambda w: tconv.checkerboard_penalty(w, 2))(sharded)
    np.testing.assert_allclose(
        slope, jax.grad(lambda w: tconv.checkerboard_penalty(w, 2))(kernel),
        rtol=1e-5, atol=1e-6)


if __name__ == '__main__':
  absltest.main()
