"""Spectra: peaks where the patterns are."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import tconv
from tconv.audit import spectra


def pattern(period, amplitude, shape=(151, 170)):
  """Diagonal waves of a period, on noise of 1e-3."""
  rows, columns = np.indices(shape)
  noise = np.random.default_rng(0).normal(0, 1e-3, shape)
  return .5 + noise + amplitude * np.cos(2 * np.pi * (rows + columns) / period)


class SpectraTest(parameterized.TestCase):

  @parameterized.parameters(2, 3, 4)
  def test_a_pattern_is_a_peak_of_its_amplitude(self, period):
    power = spectra.power_spectrum(pattern(period, .1), (period, period))
    size = len(power)
    self.assertEqual(power.shape, (size, size))
    self.assertBetween(size, 60, 68)
    at = size // period
    # A cosine is two lines of half its amplitude, except at period 2.
    line = .1 if period == 2 else .05
    self.assertAlmostEqual(power[at, at], 20 * np.log10(line), delta=.1)
    power[at - 1:at + 2, at - 1:at + 2] = -np.inf
    power[-at - 1:size - at + 2, -at - 1:size - at + 2] = -np.inf
    self.assertLess(power.max(), -60)

  @parameterized.parameters(1, 2, 3)
  def test_lines_of_a_pattern_in_the_spectrum(self, n):
    size = (52, 96, 64)[-n:]
    n = min(n, 2)  # The first axis of a volume is one of slices.
    place = np.indices(size)[-1]
    power = spectra.power_spectrum(
        5 + np.cos(np.pi * place / 2), (4,) * n)  # Of period 4.
    line = [0] * (n - 1) + [power.shape[-1] // 4]
    # A line of amplitude .5 at 1/4 and at 3/4; the window spreads it by a bin.
    np.testing.assert_allclose(power[tuple(line)], 20 * np.log10(.5), atol=1e-6)
    self.assertLess(power[..., 0].max(), -120)
    self.assertLess(power[..., power.shape[-1] // 2].max(), -120)

  @parameterized.product(period=[2, 3], amplitude=[0, .1])
  def test_the_middle_of_the_close_view_is_the_grid_level(
      self, period, amplitude):
    image = pattern(period, amplitude)
    close = spectra.around_grid_bins(image, period)
    level = tconv.grid_level(np.float32(image)[None, ..., None], period)
    self.assertAlmostEqual(close[10, 10], level.item(), delta=.1)


if __name__ == '__main__':
  absltest.main()
