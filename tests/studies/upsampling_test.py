"""Study 1 in a few steps, and the configs that it refuses."""

import contextlib
import io
import re
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from configs import upsampling as config_lib
from experiments.data import photographs
from experiments.harness import records
from experiments.harness import workdir as workdir_lib
from experiments.studies import upsampling
from experiments.studies.upsampling import metrics
from tests.studies import smoke

K3 = 'transposed k3'
CLEAN = [f'{K3} equal phases', f'{K3} repaired']  # They cannot paint a grid.
NAMES = [K3, *CLEAN]
IMAGES = ['chelsea', 'flower', 'gravel']


def small(**changes):
  config = config_lib.get_config('smoke')
  config.update({'upsamplers': ('nearest', *NAMES), 'seeds': (3,), **changes})
  return config


class RunTest(smoke.Run):
  study = upsampling.Study
  config = small()
  figures = ['crops_x2', 'psnr_x2', 'phases_x2', 'spectra_x2', 'curves_x2']

  @classmethod
  def setUpClass(cls):
    load = photographs.load  # Images of one size are compiled for once.
    cls.enterClassContext(mock.patch.object(
        photographs, 'load', lambda name: load(name)[:257, :300]))
    super().setUpClass()

  def test_a_row_for_each_upsampler_stage_and_image(self):
    self.assertEqual(
        [(r['upsampler'], r['seed'], r['stage'], r['image'])
         for r in self.rows],
        [(*row, image) for row in (('nearest', None, 'fixed'), *(
            (name, 3, stage) for name in NAMES
            for stage in ('untrained', 'trained'))) for image in IMAGES])
    for row in self.rows:
      truth = photographs.load(row['image'])[:256]
      self.assertAlmostEqual(
          row['truth_grid_level_db'],
          metrics.measure(truth, truth, 2)['grid_level_db'], places=4)
      self.assertBetween(row['psnr_db'], 2, 40)

  def test_what_the_kernel_predicts_is_measured(self):
    for row in self.rows:
      # The photographs' own pattern, .01 to .1 levels, is added to it.
      self.assertAlmostEqual(row['grid_amplitude'], row['predicted_amplitude'],
                             delta=.01 * row['predicted_amplitude'] + .2)
      if row['upsampler'] == K3:
        self.assertGreater(row['phase_nonuniformity'], .1)
        self.assertGreater(row['grid_level_db'], 20)
      else:
        self.assertLess(row['phase_nonuniformity'], 1e-10)  # float32
        self.assertLess(row['grid_level_db'], 9)  # Small images: chance.

  def test_every_network_learns_once(self):
    curves = records.history(self.workdir)
    # What is repaired is not trained again.
    self.assertEqual(list(curves), [f'x2 {name}, seed 3' for name in NAMES[:2]])
    for of_run in curves.values():
      _, losses = of_run['mse']
      self.assertLess(losses[-1], losses[0] / 2)

  def test_times(self):
    self.assertEqual([row['upsampler'] for row in self.timings],
                     ['nearest', *NAMES])
    self.assertGreater(min(row['ms_per_image'] for row in self.timings), 0)
    # Flax has this layer, too.
    steps, = (row for row in self.timings if 'ms_per_step_tconv' in row)
    self.assertEqual(steps['upsampler'], K3)

  def test_report_has_means_and_credits(self):
    self.assertIn('CC BY 2.0', self.text)
    for name in NAMES:
      mean = np.mean([row['psnr_db'] for row in self.rows if (
          row['upsampler'], row['stage']) == (name, 'trained')])
      self.assertIn(f'<td>{name}</td><td>{mean:.2f}</td>', self.text)
    self.assertIn('>Cures</h2>', self.text)


class TrialsTest(absltest.TestCase):

  def test_seeds_and_scales_have_trainings_of_their_own(self):
    study = upsampling.Study(small(
        scales=(2, 4), seeds=(3, 5), upsamplers=(
            'nearest', f'{K3} repaired', 'transposed k4')))
    with contextlib.redirect_stdout(io.StringIO()) as screen:
      study.load()
      trials = list(study.trials())
    self.assertIn(
        'x4: left out, because their kernels are smaller than the scale: '
        f'{K3} repaired.', screen.getvalue())
    label = lambda trial: trial.training and trial.training.label
    self.assertEqual(
        [(*trial.key.values(), label(trial)) for trial in trials], [
            (2, 'nearest', None, None),
            (2, f'{K3} repaired', 3, f'x2 {K3}, seed 3'),
            (2, f'{K3} repaired', 5, f'x2 {K3}, seed 5'),
            (2, 'transposed k4', 3, 'x2 transposed k4, seed 3'),
            (2, 'transposed k4', 5, 'x2 transposed k4, seed 5'),
            (4, 'nearest', None, None),
            (4, 'transposed k4', 3, 'x4 transposed k4, seed 3'),
            (4, 'transposed k4', 5, 'x4 transposed k4, seed 5')])
    first, second = (next(trial.training.batches())['high']
                     for trial in trials[1:3])
    self.assertGreater(np.abs(first - second).max(), .1)


class CheckTest(parameterized.TestCase):

  def test_configs_are_right(self):
    for variant in (None, 'full', 'smoke'):
      upsampling.Study(config_lib.get_config(variant)).check()
    with self.assertRaisesRegex(ValueError, "got 'smok'"):
      config_lib.get_config('smok')

  @parameterized.parameters(
      ('scales', (2, 1)), ('scales', ()), ('scales', (2, 2)),
      ('scales', (2, 51)), ('upsamplers', ('nearest', 4)),
      ('upsamplers', ('transposed k2', 'cubic')),
      ('figure.upsamplers', ('cubic',)), ('seeds', (2**32,)), ('seeds', (1, 1)),
      ('num_steps', 2**31), ('batch_size', 0), ('save_every', 30),
      ('patch_size', 151), ('figure.image', 'camera'), ('figure.top', 416),
      ('figure.left', -1), ('figure.size', 0), ('penalty', 0.),
      ('learning_rate', float('nan')), ('learning_rate', 1e39),
      ('trunk.channels', 0), ('trunk.kernel_sizes', (0,)))
  def test_values_that_cannot_be_used_are_named(self, field, value):
    config = config_lib.get_config()
    config.update_from_flattened_dict({field: value})
    message = f'^config.{field} must be .*; got {re.escape(repr(value))}'
    with self.assertRaisesRegex(workdir_lib.RunError, message):
      upsampling.Study(config).check()

  def test_fields_must_fit_each_other(self):
    for changes, message in (
        ({'scales': (2, 4), 'upsamplers': (K3,)},
         'config.upsamplers must be some whose kernels'),
        ({'scales': (2, 4), 'patch_size': 76}, '1 to 75; got 76')):
      config = config_lib.get_config()
      config.update(changes)
      with self.assertRaisesRegex(workdir_lib.RunError, message):
        upsampling.Study(config).check()


if __name__ == '__main__':
  absltest.main()
