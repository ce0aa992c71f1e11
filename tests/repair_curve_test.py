"""The command that measures how much data a repair needs."""

import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest

from configs import upsampling as config_lib
from experiments import repair_curve
from experiments.studies import upsampling


class RepairCurveTest(absltest.TestCase):

  def test_more_pixels_cost_less(self):
    config = config_lib.get_config('smoke')
    config.upsamplers = ('transposed k4', 'transposed k4 repaired', 'nearest')
    config.num_steps = 60  # From then on, a repair changes something.
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    (folder / 'metrics.jsonl').touch()  # As in the folder of a run.
    with mock.patch.multiple(repair_curve, SIZES=(8,), DRAWS=2):
      [[scale, name, *cells]] = repair_curve.run(
          upsampling.Study(config), folder)
    self.assertEqual((scale, name), ('x2', 'transposed k4'))
    without, _, full = (float(cell.split()[0]) for cell in cells)
    self.assertGreater(full, without)


if __name__ == '__main__':
  absltest.main()
