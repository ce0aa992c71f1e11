"""Study 1 in a few steps, from config to report."""

import json
import math
import re
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import nnx
import jax.numpy as jnp
import numpy as np

from configs import upsampling as config_lib
from experiments.data import photographs
from experiments.harness import workdir as workdir_lib
from experiments.studies import upsamplers
from experiments.studies import upsampling
import tconv
from tests import smoke

BASELINES = ['nearest', 'bicubic']
LEARNED = ['transposed k4', 'transposed k4 equal phases',
           'transposed k4 repaired', 'transposed k4 penalty',
           'transposed k4 hold', 'sub-pixel', 'sub-pixel ICNR', 'nearest+conv',
           'bilinear+conv']
# Those that cannot paint a grid, whatever they learn.
CLEAN = ['transposed k4 equal phases', 'transposed k4 repaired',
         'transposed k4 hold', 'nearest+conv', 'bilinear+conv']
IMAGES = ['chelsea', 'flower', 'gravel']


class SmokeTest(smoke.Run):
  study = upsampling
  config = config_lib.get_config('smoke')
  figures = ['crops_x2', 'psnr_x2', 'phases_x2', 'spectra_x2', 'curves_x2']
  figure_size = 400

  def test_a_row_for_each_upsampler_stage_and_image(self):
    expected = [('fixed', name, None) for name in BASELINES]
    expected += [(stage, name, 0) for name in LEARNED
                 for stage in ('untrained', 'trained')]
    self.assertEqual(
        [(r['stage'], r['upsampler'], r['seed'], r['image'])
         for r in self.rows],
        [(*row, image) for row in expected for image in IMAGES])

  def test_numbers_are_finite_and_plausible(self):
    for row in self.rows:
      numbers = {name: value for name, value in row.items()
                 if isinstance(value, float)}
      self.assertLen(numbers, 26)
      self.assertTrue(all(map(math.isfinite, numbers.values())), row)
      self.assertBetween(row['psnr_db'], 2, 40)
      self.assertBetween(row['ssim'], -.1, 1)
      truth = photographs.load(row['image'])[2:-2, 2:-2]
      truth = truth[:len(truth) // 2 * 2, :truth.shape[1] // 2 * 2]
      np.testing.assert_allclose(
          row['truth_grid_level_db'],
          tconv.grid_level(truth[None], 2).item(), atol=1e-3)

  def test_what_the_kernel_predicts_is_measured(self):
    for row in self.rows:
      # The photographs' own pattern, .01 to .08 levels, is added to it.
      self.assertAlmostEqual(row['grid_amplitude'], row['predicted_amplitude'],
                             delta=.01 * row['predicted_amplitude'] + .15)
      if row['upsampler'] in CLEAN:
        self.assertLess(row['phase_nonuniformity'], 1e-10)  # float32
        self.assertLess(row['grid_level_db'], 0)
      elif row['upsampler'] == 'transposed k4':
        self.assertGreater(row['phase_nonuniformity'], .1)
        self.assertGreater(row['grid_level_db'], 20)

  def test_icnr_starts_clean(self):
    for row in self.rows:
      if row['upsampler'] == 'sub-pixel ICNR' and row['stage'] == 'untrained':
        self.assertLess(row['phase_nonuniformity'], 1e-10)

  def test_every_network_learns(self):
    lines = [json.loads(line) for line in
             (self.workdir / 'metrics.jsonl').read_text().splitlines()]
    trained = [name for name in LEARNED if not name.endswith('repaired')]
    self.assertLen(lines, 3 * len(trained))
    for name in trained:
      losses = [line['mse'] for line in lines
                if line['run'] == f'x2 {name}, seed 0']
      self.assertLen(losses, 3)
      self.assertLess(losses[-1], losses[0] / 2)

  def test_times_are_kept_apart(self):
    timings = json.loads((self.workdir / 'timings.json').read_text())
    self.assertEqual([t['upsampler'] for t in timings], BASELINES + LEARNED)
    self.assertGreater(min(t['ms_per_image'] for t in timings), 0)
    steps = {t['upsampler']: min(t['ms_per_step_tconv'], t['ms_per_step_flax'])
             for t in timings if 'ms_per_step_tconv' in t}
    self.assertEqual(list(steps), ['transposed k4'])  # Flax has it, too.
    self.assertGreater(steps['transposed k4'], 0)
    self.assertIn('flax / tconv', self.text)

  def test_report_says_it_all(self):
    self.assertIn('CC BY 2.0', self.text)
    for name in LEARNED:
      mean = np.mean([row['psnr_db'] for row in self.rows
                      if (row['upsampler'], row['stage']) == (name, 'trained')])
      self.assertRegex(
          self.text, f'<td>{re.escape(name)}</td><td>{mean:.2f}</td>')


class RunTest(absltest.TestCase):

  def test_scales_and_seeds_have_their_rows(self):
    config = config_lib.get_config('smoke')
    config.upsamplers = ('nearest', 'transposed k3', 'transposed k3 repaired')
    config.update({'seeds': (3, 5), 'scales': (2, 4), 'num_steps': 2})
    config.update({'upsamplers': (*config.upsamplers, 'transposed k4')})
    workdir = workdir_lib.open_workdir(
        self.enter_context(tempfile.TemporaryDirectory()), config)
    with (mock.patch('builtins.print') as printed,
          mock.patch.object(upsampling.costs, 'compare', return_value={
              'ms_per_step_tconv': 1., 'ms_per_step_flax': 2.}),
          mock.patch.object(upsampling, 'learn',
                            side_effect=upsampling.learn) as learn):
      upsampling.run(config, workdir, command='')
    # What is repaired is not trained again.
    self.assertEqual(
        [(*call.args, call.kwargs['scale']) for call in learn.call_args_list],
        [('transposed k3', 3, 2), ('transposed k3', 5, 2),
         ('transposed k4', 3, 2), ('transposed k4', 5, 2),
         ('transposed k4', 3, 4), ('transposed k4', 5, 4)])
    printed.assert_any_call(
        'x4: left out, as their kernels are smaller than the scale: '
        'transposed k3, transposed k3 repaired.')
    rows = json.loads((workdir / 'results.json').read_text())
    seen = dict.fromkeys(
        (row['scale'], row['upsampler'], row['seed']) for row in rows)
    self.assertEqual(list(seen), [
        (2, 'nearest', None), (2, 'transposed k3', 3), (2, 'transposed k3', 5),
        (2, 'transposed k3 repaired', 3), (2, 'transposed k3 repaired', 5),
        (2, 'transposed k4', 3), (2, 'transposed k4', 5), (4, 'nearest', None),
        (4, 'transposed k4', 3), (4, 'transposed k4', 5)])
    text = (workdir / 'report.html').read_text()
    for title in ('x2: Results', 'x2: Cures', 'x4: Results'):
      self.assertIn(title, text)
    self.assertNotIn('x4: Cures', text)

  def test_steps_are_timed_with_both_layers(self):
    config = config_lib.get_config('smoke')
    pair = photographs.downsampled_pair(photographs.load('chelsea'), 2)
    layers = [tconv.nnx.ConvTranspose, nnx.ConvTranspose]

    def compare(build):
      for layer in layers:
        build(layer)
      return {'ms_per_step_tconv': 1.}

    with (mock.patch.object(upsampling.costs, 'compare', compare),
          mock.patch.object(upsampling, 'lesson', wraps=upsampling.lesson
                            ) as lesson):
      times = upsampling._step_times('transposed k4', 2, config, [pair])
      self.assertEqual(times, {'ms_per_step_tconv': 1.})
      self.assertEqual(
          [call.kwargs['conv_transpose'] for call in lesson.call_args_list],
          layers)
      self.assertEqual(
          upsampling._step_times('transposed k4 hold', 2, config, [pair]), {})

  def test_interpolations_need_no_training(self):
    config = config_lib.get_config('smoke')
    config.upsamplers = ('bilinear',)
    workdir = workdir_lib.open_workdir(
        self.enter_context(tempfile.TemporaryDirectory()), config)
    with mock.patch('builtins.print'):
      upsampling.run(config, workdir, command='')
    self.assertNotIn('Before training', (workdir / 'report.html').read_text())


class CheckTest(parameterized.TestCase):

  def test_configs_are_right(self):
    for variant in (None, 'full', 'smoke'):
      upsampling.check(config_lib.get_config(variant))
    with self.assertRaisesRegex(ValueError, "got 'smok'"):
      config_lib.get_config('smok')

  @parameterized.parameters(
      'transposed', 'transposed k', 'transposed k0', 'transposed k3 ', 'cubic',
      'transposed k3 equal', 'transposed k17', 'sub-pixel icnr', 'bicubic+conv',
      '', 4)
  def test_unknown_upsamplers_are_refused(self, name):
    config = config_lib.get_config()
    config.upsamplers = ('nearest', name)
    with self.assertRaisesRegex(workdir_lib.RunError, 'config.upsamplers must'):
      upsampling.check(config)

  def test_upsamplers_that_fit_no_scale_are_refused(self):
    config = config_lib.get_config()
    config.update({'scales': (2, 4), 'upsamplers': ('transposed k3',)})
    with self.assertRaisesRegex(workdir_lib.RunError,
                                'config.upsamplers must be some whose kernels'):
      upsampling.check(config)

  @parameterized.parameters(
      ('scales', (2, 1)), ('scales', ()), ('num_steps', 0), ('batch_size', 0),
      ('log_every', 0), ('patch_size', 0), ('patch_size', 151),
      ('figure.image', 'camera'), ('figure.top', 416), ('figure.left', -1),
      ('seeds', ()), ('seeds', ('a',)), ('seeds', (-1,)), ('upsamplers', ()),
      ('penalty', 0.), ('scales', (2, 2)), ('seeds', (1, 1)),
      ('learning_rate', -1.), ('trunk.channels', 0), ('save_every', 0),
      ('save_every', 30),
      ('trunk.kernel_sizes', (0,)), ('figure.size', 0),
      ('figure.upsamplers', ('cubic',)), ('learning_rate', float('inf')),
      ('learning_rate', float('nan')), ('learning_rate', 1e39),
      ('penalty', float('inf')), ('scales', (2, 51)), ('seeds', (2**32,)),
      ('num_steps', 2**31), ('batch_size', 2**40), ('save_every', 25 * 2**31),
      ('trunk.channels', 2**31), ('trunk.kernel_sizes', (2**31,)))
  def test_useless_values_are_refused(self, field, value):
    config = config_lib.get_config()
    config.update_from_flattened_dict({field: value})
    message = f'^config.{field} must be .*; got {re.escape(repr(value))}'
    with self.assertRaisesRegex(workdir_lib.RunError, message):
      upsampling.check(config)

  def test_patches_fit_the_largest_scale(self):
    config = config_lib.get_config()
    config.update({'scales': (2, 4), 'patch_size': 76})
    with self.assertRaisesRegex(workdir_lib.RunError, '1 to 75; got 76'):
      upsampling.check(config)


class LearnTest(absltest.TestCase):

  def learned(self, name, seed=0, **changes):
    config = config_lib.get_config('smoke')
    config.update({'num_steps': 3, 'patch_size': 8, **changes})
    self.pair = photographs.downsampled_pair(photographs.load('chelsea'), 2)
    folder = self.enter_context(tempfile.TemporaryDirectory())
    workdir = workdir_lib.open_workdir(folder, config)
    return upsampling.learn(
        name, seed, 2, config, [self.pair], workdir=workdir)

  def test_it_is_reproducible(self):
    first, again, other = (
        self.learned('transposed k3', seed)[1](self.pair['low'][None])
        for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    self.assertGreater(jnp.abs(first - other).max(), 1e-3)

  def test_the_start_is_kept(self):
    before, after = self.learned('transposed k3')
    start = upsamplers.Network(
        'transposed k3', config_lib.get_config().trunk, 2, nnx.Rngs(0))
    chex.assert_trees_all_equal(nnx.state(before), nnx.state(start))
    self.assertGreater(
        jnp.abs(after.upsampling.kernel[...]
                - start.upsampling.kernel[...]).max(), 1e-3)

  def test_a_heavy_penalty_equalizes(self):
    light, heavy = (
        tconv.checkerboard_penalty(
            self.learned('transposed k4 penalty', num_steps=60, penalty=weight)
            [1].upsampling.kernel[...], 2)
        for weight in (1e-6, 100.))
    self.assertLess(heavy, light / 5)


if __name__ == '__main__':
  absltest.main()
