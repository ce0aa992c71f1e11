"""The measures of the experiments: their units, and cause against symptom."""

import functools

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np
from skimage import metrics

from experiments import artifacts
import tconv
from tconv.audit import metrics as metrics_lib

# Compiled as a whole, which is quicker than operation by operation.
grid_metrics = jax.jit(metrics_lib.grid_metrics, static_argnums=1)
against_truth = jax.jit(artifacts.against_truth, static_argnums=2)


def noise(*shape, seed=0):
  return np.float32(np.random.default_rng(seed).uniform(.4, .6, shape))


def board(*shape):
  """+-1 at the fields of a checkerboard, [1, H, W, 1]."""
  return np.float32((-1)**np.indices(shape).sum(0))[None, ..., None]


class SymptomsTest(absltest.TestCase):

  def test_amplitudes_are_in_8_bit_levels(self):
    found = grid_metrics(.5 + np.float32(3 / 255) * board(64, 64), 2)
    for name in ('grid_amplitude', 'imaging'):
      self.assertEqual(found[name].shape, (1, 1))
      np.testing.assert_allclose(found[name], 3, rtol=1e-4)
    # A checkerboard is a diagonal line.
    for part, expected in ('diagonals', 3), ('rows', 0), ('columns', 0):
      np.testing.assert_allclose(
          found[f'grid_{part}'], expected, atol=1e-3)
    self.assertGreater(found['grid_level_db'].item(), 40)
    self.assertLess(found['grid_p_value'].item(), .05)

  def test_stripes_that_cancel_are_imaging_only(self):
    # Stripes change their sign from one half to the other.
    sign = np.repeat([1, -1], 32)[:, None, None]
    found = grid_metrics(
        np.float32(.5 + 3 / 255 * sign * board(64, 64)), 2)
    self.assertLess(found['grid_amplitude'].item(), 1e-4)
    self.assertGreater(found['imaging'].item(), 2)


class AgainstTruthTest(absltest.TestCase):

  def test_a_checkerboard_on_the_truth(self):
    truth = noise(1, 40, 42, 1)
    image = truth + np.float32(2 / 255) * board(40, 42)
    found = {name: np.asarray(value).item() for name, value in
             against_truth(image, truth, 2).items()}
    self.assertAlmostEqual(found['psnr_db'], metrics.peak_signal_noise_ratio(
        truth, image, data_range=1), places=3)
    self.assertAlmostEqual(found['grid_share'], 1, places=4)
    # What the checkerboard adds, cross term and all.
    energy = lambda x: 255**2 * tconv.grid_energy(x, 2).item()
    self.assertAlmostEqual(
        found['excess_grid_energy'], energy(image) - energy(truth), places=2)
    found = against_truth(2 * truth, truth, 2)  # Power times 4.
    for name in ('log_spectral_distance_db', 'high_frequency_bias_db'):
      np.testing.assert_allclose(found[name], 20 * np.log10(2), rtol=1e-4)


class CausesTest(absltest.TestCase):

  def test_what_the_kernel_predicts_is_in_the_image(self):
    scale, draw = 3, np.random.default_rng(0)
    kernel = np.float32(draw.normal(.05, .1, (5, 4, 1, 6)))
    bias = np.float32(draw.normal(size=(scale, scale)))

    @jax.jit
    def upsampling(y):
      fine = tconv.conv_transpose(y, kernel, scale, 'SAME')
      return fine + jnp.tile(bias, y.shape[1:3])[None, ..., None]

    features = noise(1, 40, 40, 6)
    means = features.mean((0, 1, 2))
    (numbers, phases), (of_twice, _) = artifacts.kernel_metrics(
        upsampling, np.stack([means, 2 * means]), scale)
    self.assertGreater(of_twice['predicted_amplitude'],
                       1.1 * numbers['predicted_amplitude'])
    self.assertEqual(of_twice['penalty'], numbers['penalty'])
    inner = np.asarray(upsampling(features))[
        :, 2 * scale:-2 * scale, 2 * scale:-2 * scale]
    measured = 255 * np.asarray(tconv.phase_means(inner, scale))[0, ..., 0]
    # The border is cut off, the means are of all: 1 % of their spread remains.
    np.testing.assert_allclose(phases, measured, atol=.01 * phases.std())
    np.testing.assert_allclose(
        numbers['predicted_amplitude'],
        255 * tconv.grid_amplitude(inner, scale).item(), rtol=.01)
    variance = np.asarray(tconv.phase_variance(kernel, scale)).sum((-2, -1))
    for name, expected in dict(
        phase_nonuniformity=tconv.phase_nonuniformity(kernel, scale),
        variance_ratio=variance.max() / variance.min(),
        penalty=tconv.checkerboard_penalty(kernel, scale),
        input_nonuniformity=tconv.phase_nonuniformity(
            kernel, scale, means)).items():
      np.testing.assert_allclose(numbers[name], expected, rtol=1e-4)

  def test_nearest_repeats_and_so_is_even(self):
    [(numbers, phases)] = artifacts.kernel_metrics(
        functools.partial(tconv.upsample, scale=2, method='nearest'), [[.5]], 2)
    np.testing.assert_array_equal(phases, np.full((2, 2), 127.5))
    self.assertEqual(numbers['variance_ratio'], 1)
    self.assertEqual(numbers['predicted_amplitude'], 0)


if __name__ == '__main__':
  absltest.main()
