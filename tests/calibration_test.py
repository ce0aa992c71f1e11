import io
import math
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np
import rich.console

from experiments import calibration
from experiments.data import photographs


def standard_errors(number, count, rate):
  return number * math.sqrt(rate * (1 - rate) / count)


class CalibrationTest(absltest.TestCase):

  @mock.patch.object(calibration, 'PERIODS', (2, 3))
  def test_rates_on_white_noise(self):
    count = 600
    images = calibration.white_noise(count, 48, seed=1)
    for period, (*facts, rates) in zip(
        (2, 3), calibration.measure('noise', images), strict=True):
      self.assertEqual(facts, ['noise', 48, period, count])
      plain, _, one, two = np.array(rates)
      self.assertAlmostEqual(
          plain[0], .05, delta=standard_errors(4, count, .05))
      # 1.3 % is what thousands of images give; see docs/calibration.md.
      self.assertAlmostEqual(
          plain[1], .013, delta=standard_errors(4, count, .013))
      self.assertGreater(one[0], plain[0] + .2)
      self.assertGreater(two[1], .6)

  def test_crops_are_the_photograph_in_pieces(self):
    image = photographs.load('chelsea')
    crops = calibration.crops(('chelsea', 'gravel'), 100)
    self.assertEqual(crops.shape, (3 * 4 + 5 * 5, 100, 100, 1))
    np.testing.assert_array_equal(crops[6], image[100:200, 200:300])

  def test_patterns(self):
    patterns = calibration.patterns(5, 3, 24, seed=0)
    self.assertEqual(patterns.shape, (5, 24, 24, 1))
    for axis in (1, 2):
      np.testing.assert_array_equal(np.roll(patterns, 3, axis), patterns)
    np.testing.assert_allclose(patterns.mean((1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(
        255 * np.sqrt((patterns**2).mean((1, 2))), 1, rtol=1e-5)
    self.assertFalse(np.allclose(patterns[0], patterns[1]))

  @mock.patch.multiple(calibration, SIZES=(64,), PERIODS=(2,), NOISES=7,
                       AMPLITUDES=(0., 2.))
  @mock.patch.multiple(photographs, TEST=('chelsea',), TRAIN=('camera',))
  def test_writes_the_page(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    out, screen = pathlib.Path(folder) / 'page.md', io.StringIO()
    out.write_text('Before.\n\n| images |\n| old |\n\nMeasured with x.\n\nEnd.')
    calibration.run(str(out), rich.console.Console(file=screen, width=40))
    page = out.read_text(encoding='utf-8')
    for facts in ('white noise | 64 | 2 | 7', 'test photographs | 64 | 2 | 28',
                  'training photographs | 64 | 2 | 64'):
      self.assertIn(f'\n| {facts} |', page)
      self.assertIn(f'\n| {facts} |', screen.getvalue())
    self.assertRegex(
        page, r'(?s)^Before.\n\n\| images \| size .* \|\n\nMeasured with '
        r'jax \S+, numpy .*\.\n\nEnd.$')
    self.assertNotIn('old', page)


if __name__ == '__main__':
  absltest.main()
