"""Sheets of images, and mean spectra with circles around the grid bins."""

from absl.testing import absltest
import numpy as np

from experiments.report import sheets


class SheetsTest(absltest.TestCase):

  def test_mean_spectra_show_a_grid(self):
    rng = np.random.default_rng(0)
    noise = .01 * rng.standard_normal((9, 32, 32))
    grid = noise + .1 * (np.indices((32, 32)).sum(0) % 2)
    figure = sheets.mean_spectra({'none': noise, 'grid': grid}, period=4)
    flat, lines = (sheets.mean_power(x) for x in (noise, grid))
    self.assertGreater(lines[16, 16] - flat[16, 16], 20)
    drawn = figure.axes[1].images[0]
    # Frequency zero is moved in by half of the distance between grid bins.
    self.assertEqual(drawn.get_array()[20, 20], lines[16, 16])
    self.assertEqual(figure.axes[0].images[0].get_clim(), drawn.get_clim())
    self.assertEqual(drawn.get_clim()[1], lines.max())
    self.assertLen(figure.axes[1].lines[0].get_xdata(), 15)  # Circles.


if __name__ == '__main__':
  absltest.main()
