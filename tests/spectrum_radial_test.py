import math

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tconv import spectrum
from tests.spectrum_test import jitted
from tests.spectrum_test import noise

high_frequency_bias = jitted(spectrum.high_frequency_bias)
legacy_radial_profile = jitted(spectrum.legacy_radial_profile)
log_spectral_distance = jitted(spectrum.log_spectral_distance)
radial_spectrum = jitted(spectrum.radial_spectrum)


def rings_by_loops(power):
  """Means of [*size] powers by ring, from the definition, bin by bin."""
  shortest, rings = min(power.shape), {}
  for k in np.ndindex(power.shape):
    radius = math.sqrt(sum(
        (min(i, s - i) * shortest / s)**2 for i, s in zip(k, power.shape)))
    rings.setdefault(math.floor(radius + .5), []).append(power[k])
  return np.array([np.mean(rings[r]) for r in range(len(rings))])


def legacy_by_loops(image):
  """The profile of one [H, W] image, as it is described."""
  h, w = image.shape
  bins = np.roll(np.fft.fft2(image), (h // 2, w // 2), (0, 1)) + 1e-8
  rings = {}
  for i, j in np.ndindex(h, w):
    radius = int(math.hypot(i - (h - 1) / 2, j - (w - 1) / 2))
    rings.setdefault(radius, []).append(20 * math.log(abs(bins[i, j])))
  return np.array([np.mean(rings[r]) for r in sorted(rings)[1:-1]])


class RadialSpectrumTest(parameterized.TestCase):

  @parameterized.parameters(
      ((9, 14),), ((4, 40),), ((11,),), ((6, 7, 8),))
  def test_equals_its_definition(self, size):
    with jax.enable_x64(True):
      x = noise(3, *size, 2)
      power = abs(np.fft.fftn(x, axes=range(1, x.ndim - 1)))**2
      power /= math.prod(size)
      expected = np.stack(
          [rings_by_loops(power.mean(0)[..., c]) for c in range(2)], 1)
      np.testing.assert_allclose(
          radial_spectrum(x), expected, rtol=1e-11)


class DistanceTest(parameterized.TestCase):

  def test_equal_their_definitions(self):
    with jax.enable_x64(True):
      x, y = noise(2, 18, 22, 2), .5 * noise(2, 18, 22, 2, seed=1)
      ratio = 10 * np.log10(
          np.divide(*map(radial_spectrum, (x, y))))
      np.testing.assert_allclose(
          log_spectral_distance(x, y),
          np.sqrt((ratio**2).mean(0)), rtol=1e-9)
      # Nyquist is ring 9: from 6.75 on.
      np.testing.assert_allclose(
          high_frequency_bias(x, y), ratio[7:10].mean(0), rtol=1e-9)

  def test_zero_and_constant_images(self):
    x, zero = noise(1, 16, 16, 1).astype('f'), np.zeros((1, 16, 16, 1), 'f')
    third = zero + np.float32(1 / 3)
    for f in log_spectral_distance, high_frequency_bias:
      # Two equal logarithms, up to how XLA rounds them.
      np.testing.assert_allclose(f(zero, zero), [0], atol=1e-4)
      for pair in ((x, zero), (zero, x), (zero + 1, zero), (x, zero + 1)):
        self.assertTrue(np.isfinite(f(*pair)).all())
      # Beside the constant are rounding errors, or nothing, as it happens.
      np.testing.assert_allclose(f(10 * third, third), [20], atol=3)


class LegacyProfileTest(parameterized.TestCase):

  @parameterized.parameters(((15, 15),), ((12, 18),))
  def test_equals_the_published_code(self, size):
    with jax.enable_x64(True):
      x = noise(2, *size, 2)
      actual = legacy_radial_profile(x)
      for n, c in np.ndindex(2, 2):
        np.testing.assert_allclose(
            actual[n, :, c], legacy_by_loops(x[n, ..., c]), rtol=1e-10)

  def test_takes_two_axes(self):
    with self.assertRaisesRegex(ValueError, r'x must have 4 .*\[N, H, W, C\]'):
      legacy_radial_profile(np.ones((1, 16, 1), 'f'))


if __name__ == '__main__':
  absltest.main()
