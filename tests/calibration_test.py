import io
import math
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import rich.console

from experiments import calibration
from experiments.data import photographs

ROOT = pathlib.Path(__file__).parent.parent
ROW = re.compile(r'^\| ([a-z ]+) \| (\d+) \| (\d) \| (\d+) \|(.*) \|$',
                 re.MULTILINE)


def standard_errors(number, count, rate):
  return number * math.sqrt(rate * (1 - rate) / count)


class CalibrationTest(parameterized.TestCase):

  @parameterized.parameters((2, 48), (3, 48), (4, 64))
  def test_rates_on_white_noise(self, period, size):
    count = 600
    [(*facts, rates)] = [
        row for row in calibration.measure(
            'noise', calibration.white_noise(count, size, seed=1))
        if row[2] == period]
    self.assertEqual(facts, ['noise', size, period, count])
    plain, _, one, two = np.array(rates)
    self.assertAlmostEqual(
        plain[0], .05, delta=standard_errors(4, count, .05))
    # 1.3 % is what thousands of images give; see docs/calibration.md.
    self.assertAlmostEqual(
        plain[1], .013, delta=standard_errors(4, count, .013))
    self.assertGreater(one[0], plain[0] + .2)
    self.assertGreater(two[1], .6)
    self.assertTrue((np.diff(rates, axis=1) <= 0).all())

  def test_crops_are_the_photograph_in_pieces(self):
    image = photographs.load('chelsea')
    crops = calibration.crops(('chelsea', 'gravel'), 100)
    self.assertEqual(crops.shape, (3 * 4 + 5 * 5, 100, 100, 1))
    np.testing.assert_array_equal(crops[6], image[100:200, 200:300])

  @parameterized.parameters(2, 3, 4)
  def test_patterns(self, period):
    patterns = calibration.patterns(5, period, 24, seed=0)
    self.assertEqual(patterns.shape, (5, 24, 24, 1))
    for axis in (1, 2):
      np.testing.assert_array_equal(np.roll(patterns, period, axis), patterns)
    np.testing.assert_allclose(patterns.mean((1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(
        255 * np.sqrt((patterns**2).mean((1, 2))), 1, rtol=1e-5)
    self.assertFalse(np.allclose(patterns[0], patterns[1]))

  def test_table_is_in_per_cent(self):
    row = ('noise', 64, 2, 7, [[.05, .0125], [.5, .25], [1., .5], [1., 1.]])
    header, _, line = calibration.table_of([row]).splitlines()
    self.assertEqual(header, '| images | size | period | number | no pattern '
                             '| rms 0.5 | rms 1 | rms 2 |')
    self.assertEqual(line, '| noise | 64 | 2 | 7 | 5.0 / 1.2 | 50.0 / 25.0 '
                           '| 100.0 / 50.0 | 100.0 / 100.0 |')

  @mock.patch.multiple(calibration, SIZES=(64, 128), PERIODS=(2, 3), NOISES=7,
                       AMPLITUDES=(0., 2.))
  @mock.patch.multiple(photographs, TEST=('chelsea',), TRAIN=('camera',))
  def test_writes_the_page(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    out, screen = pathlib.Path(folder) / 'page.md', io.StringIO()
    out.write_text('Before.\n\n| images |\n| old |\n\nMeasured with x.\n\nEnd.')
    calibration.run(str(out), rich.console.Console(file=screen, width=40))
    page = out.read_text(encoding='utf-8')
    self.assertEqual(
        [match[:4] for match in ROW.findall(page)],
        [(kind, size, period, number) for kind, numbers in (
            ('white noise', (7, 7)), ('test photographs', (28, 6)),
            ('training photographs', (64, 16)))
         for size, number in zip(('64', '128'), map(str, numbers))
         for period in '23'])
    self.assertIn('rms 2', page)
    self.assertRegex(
        page, r'(?s)^Before.\n\n\| images \| size .* \|\n\nMeasured with '
        r'jax \S+, numpy .*\.\n\nEnd.$')
    self.assertNotIn('old', page)
    self.assertEqual(ROW.findall(page), ROW.findall(screen.getvalue()))
    calibration.run('', rich.console.Console(file=screen))

  def test_the_page_that_is_kept_is_complete(self):
    page = (ROOT / 'docs/calibration.md').read_text(encoding='utf-8')
    rows = ROW.findall(page)
    self.assertEqual(
        [match[:3] for match in rows],
        [(kind, str(size), str(period))
         for kind in ('white noise', 'test photographs', 'training photographs')
         for size in calibration.SIZES for period in calibration.PERIODS])
    self.assertEqual({row[3] for row in rows[:9]}, {str(calibration.NOISES)})



if __name__ == '__main__':
  absltest.main()
