import itertools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tconv import spectrum
from tests.spectrum_test import jitted
from tests.spectrum_test import noise

excess_grid_energy = jitted(spectrum.excess_grid_energy)
grid_amplitude = jitted(spectrum.grid_amplitude)
grid_energy = jitted(spectrum.grid_energy)
grid_share = jitted(spectrum.grid_share)
local_grid_energy = jitted(spectrum.local_grid_energy)
phase_means = jitted(spectrum.phase_means)


def cropped(image, period):
  return image[tuple(slice(s - s % p) for s, p in zip(image.shape, period))]


def energy_of_bins(image, period, exclude, part=lambda k: True):
  """Parseval: the power of a [*size] image's grid bins, by NumPy's DFT."""
  image = cropped(image, period)
  dft = np.fft.fftn(image)
  total = 0.
  for k in itertools.product(*map(range, period)):
    kept = any(m % (p // e) for m, p, e in zip(k, period, exclude))
    if kept and part(k):
      place = tuple(m * s // p for m, s, p in zip(k, image.shape, period))
      total += abs(dft[place])**2
  return total / image.size**2


def local_energy_by_loops(image, period, exclude, patch):
  """Windowed phase variance of each patch of an [H, W] image, averaged."""
  repeats = [max(t // p, 2) for t, p in zip(patch, period)]
  hann = lambda n: np.sin(np.pi * np.arange(n) / n)**2
  shape = [r * p for r, p in zip(repeats, period)]
  window = np.outer(hann(shape[0]), hann(shape[1]))
  steps = [r // 2 * p for r, p in zip(repeats, period)]
  energies = []
  for top in range(0, image.shape[0] // period[0] * period[0] - shape[0] + 1,
                   steps[0]):
    for left in range(0, image.shape[1] // period[1] * period[1] - shape[1] + 1,
                      steps[1]):
      inside = image[top:top + shape[0], left:left + shape[1]]
      means = {}
      for a in itertools.product(*map(range, period)):
        own = tuple(slice(i, None, p) for i, p in zip(a, period))
        means[a] = (inside * window)[own].sum() / window[own].sum()
      for a, mean in means.items():
        like = [m for b, m in means.items()
                if all((i - j) % e == 0 for i, j, e in zip(a, b, exclude))]
        energies.append((mean - np.mean(like))**2)
  return np.mean(energies)


class GridEnergyTest(parameterized.TestCase):

  @parameterized.parameters(((13,), (3,)), ((8, 9, 12), (1, 2, 3)))
  def test_phase_means(self, size, period):
    x = noise(2, *size, 3).astype('f')
    actual = phase_means(x, period)
    self.assertEqual(actual.shape, (2, *period, 3))
    for n, c in np.ndindex(2, 3):
      image = cropped(x[n, ..., c], period)
      for a in np.ndindex(*period):
        own = image[tuple(slice(i, None, p) for i, p in zip(a, period))]
        np.testing.assert_allclose(
            actual[(n, *a, c)], own.mean(), rtol=1e-6, atol=1e-6)

  @parameterized.parameters(
      ((21,), (4,), (2,)), ((17, 19), (3, 4), (1, 2)),
      ((25, 24), (6, 4), (3, 2)), ((9, 12), (1, 3), (1, 1)),
      ((8, 9, 13), (2, 2, 3), (1, 2, 1)))
  def test_is_the_power_of_the_grid_bins(self, size, period, exclude):
    with jax.enable_x64(True):
      x = noise(2, *size, 2)
      bins = lambda **options: [
          [energy_of_bins(x[n, ..., c], period, exclude, **options)
           for c in range(2)] for n in range(2)]
      actual = grid_energy(x, period, exclude=exclude)
      np.testing.assert_allclose(actual, bins(), rtol=1e-11)
      np.testing.assert_allclose(
          grid_amplitude(x, period, exclude=exclude), np.sqrt(bins()),
          rtol=1e-11)
      if len(size) != 2:
        return
      parts = grid_energy(x, period, exclude=exclude, parts=True)
      for name, part in (('rows', lambda k: not k[1]),
                         ('columns', lambda k: not k[0]),
                         ('diagonals', lambda k: k[0] and k[1])):
        np.testing.assert_allclose(  # A part without bins rounds to 1e-18.
            parts[name], bins(part=part), rtol=1e-11, atol=1e-18)

  def test_parts_are_those_of_two_axes(self):
    with self.assertRaisesRegex(ValueError, 'parts=True .*two spatial axes'):
      grid_energy(np.ones((1, 16, 1), 'f'), 2, parts=True)

  @parameterized.parameters(grid_energy, local_grid_energy)
  def test_float32_sees_a_faint_pattern_on_a_bright_image(self, energy):
    board = np.indices((64, 64)).sum(0)[None, ..., None] % 2
    x = (1000 + .01 * (noise(1, 64, 64, 1) + board)).astype('f')
    with jax.enable_x64(True):
      expected = energy(x.astype('d'), 2)
    # Sums of numbers around 1000 would be off by 1e-2 of the pattern.
    np.testing.assert_allclose(energy(x, 2), expected, rtol=1e-4)


class LocalGridEnergyTest(parameterized.TestCase):

  @parameterized.parameters(
      ((3, 3), (1, 1), (16, 16), (33, 31)),
      ((4, 2), (2, 1), (9, 7), (19, 18)), ((1, 2), (1, 1), (5, 4), (12, 13)),
      ((4, 4), (1, 1), (1, 1), (16, 18)))
  def test_equals_its_definition(self, period, exclude, patch, size):
    with jax.enable_x64(True):
      x = noise(2, *size, 2)
      actual = local_grid_energy(x, period, exclude=exclude, patch=patch)
      expected = [[local_energy_by_loops(x[n, ..., c], period, exclude, patch)
                   for c in range(2)] for n in range(2)]
      np.testing.assert_allclose(actual, expected, rtol=1e-11)

  def test_signals_and_volumes(self):
    with jax.enable_x64(True):
      for n in (1, 3):
        pattern = noise(1, *(2,) * n, 1)
        np.testing.assert_allclose(
            local_grid_energy(
                np.tile(pattern, (1, *(8,) * n, 1)), 2, patch=8),
            pattern.var(tuple(range(1, n + 1))))

  def test_patch_must_fit(self):
    x = np.ones((1, 16, 12, 1), 'f')
    with self.assertRaisesRegex(ValueError, r'patch must fit.*16.*\(16, 12\)'):
      local_grid_energy(x, 2)
    with self.assertRaisesRegex(ValueError, 'patch must be one int .*got 0'):
      local_grid_energy(x, 2, patch=0)


class WithReferenceTest(parameterized.TestCase):

  @parameterized.parameters((3, 1), (4, 2))
  def test_share_is_that_of_the_error(self, period, exclude):
    with jax.enable_x64(True):
      x, y = noise(1, 26, 25, 1), noise(1, 26, 25, 1, seed=1)
      periods, excluded = (period,) * 2, (exclude,) * 2
      error = cropped((x - y)[0, ..., 0], periods)
      np.testing.assert_allclose(
          grid_share(x, y, period, exclude=exclude)[0, 0],
          energy_of_bins(error, periods, excluded) / (error**2).mean(),
          rtol=1e-10)

  def test_excess_is_a_difference(self):
    with jax.enable_x64(True):
      x, y = noise(1, 17, 18, 1), noise(1, 17, 18, 1, seed=1)
      np.testing.assert_allclose(
          excess_grid_energy(x, y, 4, exclude=2)[0, 0],
          energy_of_bins(x[0, ..., 0], (4, 4), (2, 2))
          - energy_of_bins(y[0, ..., 0], (4, 4), (2, 2)), rtol=1e-10)


if __name__ == '__main__':
  absltest.main()
