"""Figures: peaks where the patterns are, circles around them, and sheets."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from experiments.report import figures
from experiments.report import sheets
import tconv


def pattern(period, amplitude, shape=(151, 170)):
  """Diagonal waves of a period, on noise of 1e-3."""
  rows, columns = np.indices(shape)
  noise = np.random.default_rng(0).normal(0, 1e-3, shape)
  return .5 + noise + amplitude * np.cos(2 * np.pi * (rows + columns) / period)


class FiguresTest(parameterized.TestCase):

  @parameterized.parameters(2, 3, 4)
  def test_a_pattern_is_a_peak_of_its_amplitude(self, period):
    power = figures.patch_spectrum(pattern(period, .1), period)
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

  @parameterized.product(period=[2, 3], amplitude=[0, .1])
  def test_the_middle_of_the_close_view_is_the_grid_level(
      self, period, amplitude):
    image = pattern(period, amplitude)
    close = figures.around_grid_bins(image, period)
    level = tconv.grid_level(np.float32(image)[None, ..., None], period)
    self.assertAlmostEqual(close[10, 10], level.item(), delta=.1)


class SheetsTest(absltest.TestCase):

  def test_mean_spectra_show_a_grid(self):
    rng = np.random.default_rng(0)
    noise = .01 * rng.standard_normal((9, 32, 32))
    grid = noise + .1 * (np.indices((32, 32)).sum(0) % 2)
    figure = sheets.mean_spectra({'none': noise, 'grid': grid}, period=4)
    flat, lines = (figures.mean_power(x) for x in (noise, grid))
    self.assertGreater(lines[16, 16] - flat[16, 16], 20)
    drawn = figure.axes[1].images[0]
    # Frequency zero is moved in by half of the distance between grid bins.
    self.assertEqual(drawn.get_array()[20, 20], lines[16, 16])
    self.assertEqual(figure.axes[0].images[0].get_clim(), drawn.get_clim())
    self.assertEqual(drawn.get_clim()[1], lines.max())
    self.assertLen(figure.axes[1].patches, 15)


if __name__ == '__main__':
  absltest.main()
