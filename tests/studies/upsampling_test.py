"""Study 1 in a few steps, and the configs that it refuses."""

import contextlib
import io
import re

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from configs import upsampling as config_lib
from experiments.data import photographs
from experiments.harness import records
from experiments.harness import workdir as workdir_lib
from experiments.studies import upsampling
import tconv
from tests.studies import smoke

CURES = ['equal phases', 'repaired', 'penalty', 'hold']
K3 = 'transposed k3'
LEARNED = [K3, *(f'{K3} {cure}' for cure in CURES), 'sub-pixel ICNR']
# Those that cannot paint a grid, whatever they learn.
CLEAN = [f'{K3} {cure}' for cure in ('equal phases', 'repaired', 'hold')]
IMAGES = ['chelsea', 'flower', 'gravel']


def small(**changes):
  config = config_lib.get_config('smoke')
  config.update({'upsamplers': ('nearest', *LEARNED), 'seeds': (3,), **changes})
  return config


class RunTest(smoke.Run):
  """At x4, kernels of 3 taps are left out."""
  study = upsampling.Study
  config = small(scales=(2, 4))
  figures = [f'{name}_x{scale}' for scale in (2, 4) for name in (
      'crops', 'psnr', 'phases', 'spectra', 'curves')]
  trainings = 5 + 1  # What is repaired is not trained again.

  def test_a_row_for_each_upsampler_stage_and_image(self):
    expected = [
        (scale, name, *row) for scale, names in (
            (2, LEARNED), (4, ['sub-pixel ICNR']))
        for name, row in [('nearest', (None, 'fixed')), *(
            (name, (3, stage)) for name in names
            for stage in ('untrained', 'trained'))]]
    self.assertEqual(
        [(r['scale'], r['upsampler'], r['seed'], r['stage'], r['image'])
         for r in self.rows],
        [(*row, image) for row in expected for image in IMAGES])
    self.assertIn(
        f'x4: left out, because their kernels are smaller than the scale: '
        f'{", ".join(LEARNED[:-1])}.', self.printed)

  def test_the_truth_is_measured_as_it_is(self):
    for row in self.rows:
      s = row['scale']
      truth = photographs.load(row['image'])
      height, width = (size - size % s for size in truth.shape[:2])
      np.testing.assert_allclose(
          row['truth_grid_level_db'], tconv.grid_level(
              truth[None, s:height - s, s:width - s], s).item(), atol=1e-3)
      self.assertBetween(row['psnr_db'], 2, 40)

  def test_what_the_kernel_predicts_is_measured(self):
    for row in self.rows:
      # The photographs' own pattern, .01 to .1 levels, is added to it.
      self.assertAlmostEqual(row['grid_amplitude'], row['predicted_amplitude'],
                             delta=.01 * row['predicted_amplitude'] + .2)
      clean = row['upsampler'] in CLEAN or (
          row['upsampler'], row['stage']) == ('sub-pixel ICNR', 'untrained')
      if clean:
        self.assertLess(row['phase_nonuniformity'], 1e-10)  # float32
        self.assertLess(row['grid_level_db'], 0)
      elif row['upsampler'] == K3:
        self.assertGreater(row['phase_nonuniformity'], .1)
        self.assertGreater(row['grid_level_db'], 20)

  def test_every_network_learns(self):
    curves = records.history(self.workdir)
    self.assertCountEqual(curves, [
        *(f'x2 {name}, seed 3' for name in LEARNED if 'repaired' not in name),
        'x4 sub-pixel ICNR, seed 3'])
    for of_run in curves.values():
      _, losses = of_run['mse']
      self.assertLess(losses[-1], losses[0] / 2)
    self.assertIn('penalty', curves[f'x2 {K3} penalty, seed 3'])

  def test_times(self):
    self.assertEqual(
        [(row['scale'], row['upsampler']) for row in self.timings],
        [(2, name) for name in ('nearest', *LEARNED)]
        + [(4, 'nearest'), (4, 'sub-pixel ICNR')])
    self.assertGreater(min(row['ms_per_image'] for row in self.timings), 0)
    # Flax has this layer, too.
    steps, = (row for row in self.timings if 'ms_per_step_tconv' in row)
    self.assertEqual((steps['scale'], steps['upsampler']), (2, K3))
    self.assertGreater(
        min(steps['ms_per_step_tconv'], steps['ms_per_step_flax']), 0)

  def test_report_has_means_sections_and_credits(self):
    self.assertIn('CC BY 2.0', self.text)
    for name in LEARNED:
      mean = np.mean(self.values(
          'psnr_db', scale=2, upsampler=name, stage='trained'))
      self.assertRegex(
          self.text, f'<td>{re.escape(name)}</td><td>{mean:.2f}</td>')
      self.assertIn(f'{mean:.2f}', self.printed)
    for title in 'x2: Results', 'x2: Cures', 'x4: Results':
      self.assertIn(f'>{title}</h2>', self.text)
    self.assertNotIn('x4: Cures', self.text)


class TrialsTest(absltest.TestCase):

  def test_seeds_and_scales_have_trainings_of_their_own(self):
    study = upsampling.Study(small(
        scales=(2, 4), seeds=(3, 5), upsamplers=(
            'nearest', K3, f'{K3} repaired', 'transposed k4')))
    with contextlib.redirect_stdout(io.StringIO()):
      study.load()
      trials = list(study.trials())
    label = lambda trial: trial.training and trial.training.label
    self.assertEqual(
        [(*trial.key.values(), label(trial)) for trial in trials], [
            (2, 'nearest', None, None),
            *((2, name, seed, f'x2 {K3}, seed {seed}')
              for name in (K3, f'{K3} repaired') for seed in (3, 5)),
            (2, 'transposed k4', 3, 'x2 transposed k4, seed 3'),
            (2, 'transposed k4', 5, 'x2 transposed k4, seed 5'),
            (4, 'nearest', None, None),
            (4, 'transposed k4', 3, 'x4 transposed k4, seed 3'),
            (4, 'transposed k4', 5, 'x4 transposed k4, seed 5')])
    first, second = (next(trial.training.batches())['high']
                     for trial in trials[1:3])
    self.assertGreater(np.abs(first - second).max(), .1)

  def test_interpolations_need_no_training(self):
    study = upsampling.Study(small(upsamplers=('bilinear',)))
    study.check()
    study.load()
    trial, = study.trials()
    self.assertIsNone(trial.training)


class CheckTest(parameterized.TestCase):

  def test_configs_are_right(self):
    for variant in (None, 'full', 'smoke'):
      upsampling.Study(config_lib.get_config(variant)).check()
    with self.assertRaisesRegex(ValueError, "got 'smok'"):
      config_lib.get_config('smok')

  @parameterized.parameters(
      ('scales', (2, 1)), ('scales', ()), ('scales', (2, 2)),
      ('scales', (2, 51)), ('upsamplers', ()), ('upsamplers', ('nearest', 4)),
      ('upsamplers', ('transposed k2', 'cubic')),
      ('upsamplers', ('transposed k1',)), ('figure.upsamplers', ('cubic',)),
      ('seeds', ()), ('seeds', ('a',)), ('seeds', (-1,)), ('seeds', (1, 1)),
      ('seeds', (2**32,)), ('num_steps', 0), ('num_steps', 2**31),
      ('batch_size', 0), ('batch_size', 2**40), ('log_every', 0),
      ('save_every', 0), ('save_every', 30), ('save_every', 25 * 2**31),
      ('patch_size', 0), ('patch_size', 151), ('figure.image', 'camera'),
      ('figure.top', 416), ('figure.left', -1), ('figure.size', 0),
      ('penalty', 0.), ('penalty', float('inf')), ('learning_rate', -1.),
      ('learning_rate', float('inf')), ('learning_rate', float('nan')),
      ('learning_rate', 1e39), ('trunk.channels', 0),
      ('trunk.channels', 2**31), ('trunk.kernel_sizes', (0,)),
      ('trunk.kernel_sizes', (2**31,)))
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
