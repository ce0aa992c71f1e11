"""Sheets of pictures and spectra: what is drawn where."""

from absl.testing import absltest
import numpy as np

from experiments.report import figures
from experiments.report import sheets


class SheetsTest(absltest.TestCase):

  def test_rows_hold_their_pictures(self):
    grey, colour = np.full((4, 5), .5), np.zeros((4, 5, 3))
    colour[..., 1] = 1
    figure = sheets.sheet({
        'images': [grey, colour], 'masks': [np.eye(4, 5, dtype=np.int32)] * 2})
    images, masks = (
        np.asarray(axes.images[0].get_array()) for axes in figure.axes)
    self.assertEqual(images.shape, (4, 14, 3))
    np.testing.assert_array_equal(images[:, :5], .5)
    np.testing.assert_array_equal(images[:, 5:7], 1)
    np.testing.assert_array_equal(images[:, 7:12], colour)
    np.testing.assert_array_equal(masks[:, :5], masks[:, 7:12])
    different = masks[0, 0] != masks[0, 1]
    self.assertTrue(different.any())
    self.assertEqual([axes.texts[0].get_text() for axes in figure.axes],
                     ['images', 'masks'])

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

  def test_mean_power_of_a_line(self):
    wave = np.cos(np.pi * np.arange(16))[:, None] * np.ones((1, 16))
    self.assertAlmostEqual(figures.mean_power(wave[None])[8, 0], 0, delta=1e-6)


if __name__ == '__main__':
  absltest.main()
