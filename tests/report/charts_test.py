"""Charts, read back from what they draw."""

import math

from absl.testing import absltest
from absl.testing import parameterized
from matplotlib import text as text_lib
import numpy as np

from experiments.harness import results
from experiments.report import charts
import tconv


def interval(mean, reach):
  return results.Interval(mean, mean - reach, mean + 2 * reach)


def lines_of(axes):
  """Labelled lines by their labels, without the others."""
  return {line.get_label(): line for line in axes.lines
          if not line.get_label().startswith('_')}


def legend_of(figure):
  [legend] = figure.legends
  return [text.get_text() for text in legend.get_texts()]


class PsnrAgainstGridLevelTest(parameterized.TestCase):

  def draw(self, points, reach=.1):
    figure = charts.psnr_against_grid_level(
        {name: (interval(level, 2), interval(psnr, reach))
         for name, (level, psnr) in points.items()}, truth_level=-.5)
    [axes] = figure.axes
    return figure, axes

  def test_points_bars_and_truth(self):
    points = {'nearest': (-11.7, 29.74), 'sub-pixel': (28.3, 31.9)}
    figure, axes = self.draw(points)
    self.assertEqual(legend_of(figure),
                     ['ground truth', '1  nearest', '2  sub-pixel'])
    truth, *drawn = lines_of(axes).values()
    np.testing.assert_array_equal(truth.get_xdata(), -.5)
    bars = [bar.get_segments()[0].tolist() for bar in axes.collections]
    for line, (level, psnr) in zip(drawn, points.values(), strict=True):
      self.assertEqual(line.get_xydata().tolist(), [[level, psnr]])
      self.assertIn([[level - 2, psnr], [level + 4, psnr]], bars)
      self.assertIn([[level, psnr - .1], [level, psnr + .2]], bars)
    self.assertLen(bars, 4)

  def test_numbers_cover_no_point_and_no_other_number(self):
    # Two crowds, as learned upsamplers with and without a grid make them.
    draw = np.random.default_rng(0)
    points = {str(i): (draw.normal(-10 + i % 2 * 30, 4), draw.normal(32.2, .2))
              for i in range(20)} | {'far': (-12, 29.7)}
    figure, axes = self.draw(points)
    figure.draw_without_rendering()
    self.assertEqual([text.get_text() for text in axes.texts],
                     [str(number) for number in range(1, 22)])
    # An annotation's own extent has the leader line in it.
    boxes = [text_lib.Text.get_window_extent(text) for text in axes.texts]
    places = axes.transData.transform(list(points.values()))
    self.assertEqual([text.xy for text in axes.texts], list(points.values()))
    for number, box in enumerate(boxes):
      self.assertEqual(box.count_contains(places), 0)
      self.assertEqual(box.count_overlaps(boxes[:number]), 0)
      centre = (box.min + box.max) / 2
      self.assertLess(np.hypot(*(centre - places[number])), 45)

  def test_no_two_look_alike(self):
    _, axes = self.draw({str(i): (i, 30) for i in range(35)})
    looks = {(line.get_color(), line.get_marker())
             for line in list(lines_of(axes).values())[1:]}
    self.assertLen(looks, 35)

  @parameterized.parameters((.1, 31.9, 33.2), (5, 31.5, 33.5))
  def test_bars_fit_unless_they_hide_the_differences(self, reach, low, high):
    _, axes = self.draw({'a': (0, 32), 'b': (1, 33)}, reach)
    bottom, top = axes.get_ylim()
    self.assertBetween(bottom, low - .1, low)
    self.assertBetween(top, high, high + .1)


class LearningCurvesTest(parameterized.TestCase):

  @parameterized.parameters(19, 100)
  def test_losses_are_medians_of_those_around(self, count):
    losses = np.random.default_rng(0).lognormal(size=count).tolist()
    reach = count // 20
    expected = [np.median(losses[max(i - reach, 0):i + reach + 1])
                for i in range(count)]
    steps = list(range(0, 10 * count, 10))
    figure = charts.learning_curves({'k3': (steps, losses)}, label='error')
    [axes] = figure.axes
    np.testing.assert_array_equal(
        lines_of(axes)['k3'].get_xydata(), np.transpose([steps, expected]))
    if count < 20:  # Nothing is changed.
      self.assertEqual(expected, losses)

  def test_no_two_look_alike(self):
    names = [f'k{i}' for i in range(28)]
    figure = charts.learning_curves(
        {name: ([1, 2], [.1, .2]) for name in names}, label='error')
    self.assertEqual(legend_of(figure), names)
    self.assertLen({(line.get_color(), line.get_linestyle())
                    for line in figure.axes[0].lines}, 28)


class RadialSpectraTest(parameterized.TestCase):

  def draw(self, images, truth, period):
    spectrum = lambda x: np.asarray(
        tconv.spectrum.radial_spectrum(x[None, ..., None])[:, 0])
    figure = charts.radial_spectra(
        {name: spectrum(image) for name, image in images.items()},
        spectrum(truth), period=period, size=min(truth.shape))
    return figure, figure.axes[0]

  @parameterized.parameters(2, 3, 4)
  def test_lines_of_a_pattern_are_where_marked(self, period):
    truth = np.random.default_rng(0).normal(size=(48, 60)).astype(np.float32)
    pattern = np.zeros((48, 60), np.float32)
    pattern[::period, ::period] = 9  # Has all lines, of the same height.
    figure, axes = self.draw({'grid': truth + pattern, 'half': truth / 2},
                             truth, period)
    self.assertEqual(legend_of(figure), ['ground truth', 'grid', 'half'])
    expected = sorted({
        math.hypot(min(row, period - row), min(column, period - column))
        / period for row in range(period) for column in range(period)} - {0})
    marks = sorted(line.get_xdata()[0] for line in axes.lines
                   if line.get_label().startswith('_'))
    np.testing.assert_allclose(marks, expected, rtol=1e-12)
    frequency, ratio = lines_of(axes)['grid'].get_data()
    self.assertAlmostEqual(frequency[24], .5)
    # A ring is 1/48 wide: half of that is between a line and its ring.
    for found in frequency[1:][ratio[1:] > 6]:
      self.assertLess(np.abs(marks - found).min(), .51 / 48)
    for mark in marks:
      self.assertGreater(ratio[np.abs(frequency - mark).argmin()], 6)
    np.testing.assert_allclose(
        lines_of(axes)['half'].get_ydata(), 20 * np.log10(.5), rtol=1e-5)
    np.testing.assert_array_equal(lines_of(axes)['ground truth'].get_ydata(), 0)

  def test_black_images_are_finite(self):
    black = np.zeros((16, 16), np.float32)
    _, axes = self.draw({'black': black}, black, 2)
    np.testing.assert_array_equal(lines_of(axes)['black'].get_ydata(), 0)


class PhaseMapsTest(parameterized.TestCase):

  def draw(self, maps):
    """The images drawn, [maps, 2]."""
    _, body = charts.phase_maps(maps).subfigs
    return [[axes.images[0] for axes in box.axes]
            for box in body.subfigs[:len(maps)]]

  @parameterized.parameters(2, 5)
  def test_maps_are_drawn_less_their_mean(self, period):
    maps = {f'k{i}': tuple(np.random.default_rng(i).normal(
        100, 1, (2, period, period))) for i in range(4)}
    for drawn, pair in zip(self.draw(maps), maps.values(), strict=True):
      for image, values in zip(drawn, pair, strict=True):
        np.testing.assert_array_equal(
            image.get_array(), values - values.mean())

  @parameterized.parameters(
      ((.5,), .5), ((9, .5, .3), 1), ((.3, 9, .5), 1), ((0, 0), .01),
      ((1e-9, 1e-3), .01), ((.5, 0), .5))
  def test_colors_are_those_of_all_but_an_outlier(self, peaks, limit):
    maps = {str(i): (np.zeros((2, 2)), np.array([[-peak, peak], [0, 0]]))
            for i, peak in enumerate(peaks)}
    for drawn in self.draw(maps):
      for image in drawn:
        np.testing.assert_allclose(
            image.get_clim(), (-limit, limit), rtol=1e-12)


if __name__ == '__main__':
  absltest.main()
