"""Charts, read back from what they draw."""

import math

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from experiments.report import charts
import tconv


def lines_of(axes):
  """Labelled lines by their labels, without the others."""
  return {line.get_label(): line for line in axes.lines
          if not line.get_label().startswith('_')}


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


class RadialSpectraTest(parameterized.TestCase):

  @parameterized.parameters(2, 3, 4)
  def test_lines_of_a_pattern_are_where_marked(self, period):
    truth = np.random.default_rng(0).normal(size=(48, 60)).astype(np.float32)
    pattern = np.zeros((48, 60), np.float32)
    pattern[::period, ::period] = 9  # Has all lines, of the same height.
    spectrum = lambda x: np.asarray(
        tconv.spectrum.radial_spectrum(x[None, ..., None])[:, 0])
    axes, = charts.radial_spectra(
        {'grid': spectrum(truth + pattern), 'half': spectrum(truth / 2)},
        spectrum(truth), period=period, size=48).axes
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


if __name__ == '__main__':
  absltest.main()
