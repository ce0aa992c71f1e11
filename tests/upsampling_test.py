"""Study 1 in a few steps, from config to report."""

import csv
import json
import math
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import nnx
import jax
import jax.numpy as jnp
from matplotlib import image as image_lib
import numpy as np
from skimage import metrics

from configs import upsampling as config_lib
from experiments import intervals
from experiments import workdir as workdir_lib
from experiments.data import photographs
from experiments.studies import upsamplers
from experiments.studies import upsampling
from experiments.studies import upsampling_measures
from experiments.studies import upsampling_tables
import tconv

BASELINES = ['nearest', 'bicubic']
LEARNED = ['transposed k4', 'transposed k4 equal phases',
           'transposed k4 repaired', 'transposed k4 penalty',
           'transposed k4 hold', 'sub-pixel', 'sub-pixel ICNR', 'nearest+conv',
           'bilinear+conv']
# Those that cannot paint a grid, whatever they learn.
CLEAN = ['transposed k4 equal phases', 'transposed k4 repaired',
         'transposed k4 hold', 'nearest+conv', 'bilinear+conv']
IMAGES = ['chelsea', 'flower', 'gravel']
COMMAND = 'python -m experiments.main --config=a.py --workdir="<b>"'


class SmokeTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    config = config_lib.get_config('smoke')
    upsampling.check(config)
    cls.workdir = workdir_lib.open_workdir(
        cls.enterClassContext(tempfile.TemporaryDirectory()), config)
    with mock.patch('builtins.print') as cls.printed:
      upsampling.run(config, cls.workdir, command=COMMAND)
    cls.rows = json.loads((cls.workdir / 'results.json').read_text())

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

  def test_both_tables_are_the_same(self):
    with open(self.workdir / 'results.csv', newline='') as file:
      table = list(csv.DictReader(file))
    self.assertEqual(table, [
        {name: '' if cell is None else str(cell) for name, cell in row.items()}
        for row in self.rows])

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

  def test_figures_are_pictures(self):
    for name in ('crops', 'psnr', 'phases', 'spectra', 'curves'):
      pixels = image_lib.imread(self.workdir / 'figures' / f'{name}_x2.png')
      self.assertGreater(min(pixels.shape[:2]), 400)
      self.assertGreater(pixels.std(), .05)

  def test_report_says_it_all(self):
    text = (self.workdir / 'report.html').read_text()
    self.assertIn('--config=a.py --workdir=&#34;&lt;b&gt;&#34;', text)
    self.assertIn('CC BY 2.0', text)
    self.assertEqual(text.count('src="data:image/png;base64,'), 5)
    for name in LEARNED:
      mean = np.mean([row['psnr_db'] for row in self.rows
                      if (row['upsampler'], row['stage']) == (name, 'trained')])
      self.assertRegex(text, f'<td>{re.escape(name)}</td><td>{mean:.2f}</td>')

  def test_last_line_says_where_the_report_is(self):
    self.printed.assert_called_with(f'report: {self.workdir / "report.html"}')


class RunTest(absltest.TestCase):

  def test_scales_and_seeds_have_their_rows(self):
    config = config_lib.get_config('smoke')
    config.upsamplers = ('nearest', 'transposed k3', 'transposed k3 repaired')
    config.update({'seeds': (3, 5), 'scales': (2, 4), 'num_steps': 2})
    config.update({'upsamplers': (*config.upsamplers, 'transposed k4')})
    workdir = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))
    with (mock.patch('builtins.print') as printed,
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

  def test_interpolations_need_no_training(self):
    config = config_lib.get_config('smoke')
    config.upsamplers = ('bilinear',)
    workdir = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))
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
      ('learning_rate', -1.), ('trunk.channels', 0),
      ('trunk.kernel_sizes', (0,)), ('figure.size', 0),
      ('figure.upsamplers', ('cubic',)))
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


class NetworkTest(parameterized.TestCase):

  def network(self, name, scale=2, seed=0):
    trunk = config_lib.get_config().trunk
    return upsamplers.Network(name, trunk, scale, nnx.Rngs(seed))

  @parameterized.product(name=[*LEARNED, 'transposed k7'], scale=[2, 3])
  def test_enlarges(self, name, scale):
    low = jax.random.uniform(jax.random.key(0), (2, 5, 6, 1))
    high = self.network(name, scale)(low)
    self.assertEqual(high.shape, (2, 5 * scale, 6 * scale, 1))
    # Neither blown up nor vanished: ready to learn.
    self.assertBetween(float(high.std()), .003, 1)

  @parameterized.product(name=['nearest', 'bilinear'], scale=[2, 3])
  def test_interpolation_is_a_fixed_transposed_convolution(self, name, scale):
    low = photographs.downsampled_pair(
        photographs.load('chelsea'), scale)['low'][None]
    taps = tconv.interpolation_kernel((scale, scale), method=name)
    fixed = tconv.conv_transpose(
        low, np.float32(taps)[..., None, None], scale)
    inner = slice(scale, -scale)  # Beyond the border it takes zeros.
    np.testing.assert_allclose(
        self.network(name, scale)(low)[:, inner, inner],
        fixed[:, inner, inner], atol=2e-6)

  def test_trunks_start_the_same(self):
    trunks = [nnx.state(self.network(name).trunk) for name in LEARNED]
    for trunk in trunks[1:]:
      jax.tree.map(np.testing.assert_array_equal, trunk, trunks[0])
    other = nnx.state(self.network('sub-pixel', seed=1).trunk)
    self.assertFalse(np.array_equal(*(
        jax.tree.leaves(trunk)[1] for trunk in (trunks[0], other))))

  @parameterized.parameters(*LEARNED)
  def test_only_some_can_paint_a_grid(self, name):
    # A constant image: is a pattern made of it?
    network = self.network(name)
    if name.endswith('repaired'):
      network = upsamplers.repair(network, 2)
    image = network(jnp.full((1, 24, 24, 1), .5))[:, 16:-16, 16:-16]
    if name in CLEAN or name == 'sub-pixel ICNR':
      self.assertLess(image.std(), 1e-6)
    else:
      self.assertGreater(image.std(), 1e-2)

  def test_folded_layer_gives_the_same(self):
    network = self.network('transposed k4 equal phases')
    low = jax.random.uniform(jax.random.key(0), (2, 5, 6, 1))
    before, kernel = network(low), network.upsampling.kernel[...]
    network.upsampling.fold()
    np.testing.assert_array_equal(network(low), before)
    self.assertGreater(
        jnp.abs(network.upsampling.kernel[...] - kernel).max(), 1e-2)
    # What is left is a plain transposed convolution.
    np.testing.assert_array_equal(before, tconv.conv_transpose(
        network.features(low), network.upsampling.kernel[...], 2))

  def test_repairing_leaves_the_network_as_it_was(self):
    network = self.network('transposed k3')
    kernel = network.upsampling.kernel[...]
    repaired = upsamplers.repair(network, 2)
    np.testing.assert_array_equal(network.upsampling.kernel[...], kernel)
    np.testing.assert_array_equal(repaired.upsampling.kernel[...],
                                  tconv.equalize_phases(kernel, 2))

  def test_equal_networks_are_equal_to_the_compiler(self):
    graphs = [nnx.graphdef(self.network(name, seed=seed)) for name, seed in (
        ('transposed k4', 0), ('transposed k4', 1), ('transposed k4 penalty', 0)
    )]
    self.assertLen(set(graphs), 1)

  @parameterized.parameters(
      ('nearest', 0, 0), ('bilinear', 0, 4), ('bicubic', 0, 16),
      # Trunk: (25 + 9 * 32) * 32 products for each of a quarter of the pixels.
      ('transposed k3', 9 * 32 + 1, 2504 + 72),
      ('transposed k4 equal phases', 16 * 32 + 1, 2504 + 128),
      ('transposed k4 hold', 16 * 32 + 1, 2504 + 128 + 4),
      ('sub-pixel', 4 * 9 * 32 + 4, 2504 + 288),
      ('nearest+conv', 9 * 32 + 1, 2504 + 288),
      ('bilinear+conv', 9 * 32 + 1, 2504 + 288 + 128))
  def test_costs(self, name, parameters, multiply_adds):
    network = self.network(name)
    trunk = (25 + 9 * 32) * 32 + 64 if name not in upsamplers.BASELINES else 0
    self.assertEqual(upsamplers.num_parameters(network), trunk + parameters)
    self.assertEqual(
        upsamplers.multiply_adds(name, network, 2), multiply_adds)

  def test_costs_of_odd_scales(self):
    # One fine position of three is a coarse one: 1 tap on each axis, else 2.
    self.assertAlmostEqual(
        upsamplers.multiply_adds('bilinear', self.network('bilinear', 3), 3),
        (5 / 3)**2)

  @parameterized.parameters('nearest', 'bilinear')
  def test_resize_convolution_interpolates(self, method):
    network = self.network(f'{method}+conv')
    low = jax.random.uniform(jax.random.key(0), (1, 5, 6, 1))
    np.testing.assert_array_equal(network(low), tconv.resize_conv(
        network.features(low), network.upsampling.kernel[...], 2,
        method=method))


class LearnTest(absltest.TestCase):

  def learned(self, name, seed=0, **changes):
    config = config_lib.get_config('smoke')
    config.update({'num_steps': 3, 'patch_size': 8, **changes})
    self.pair = photographs.downsampled_pair(photographs.load('chelsea'), 2)
    folder = self.enter_context(tempfile.TemporaryDirectory())
    return upsampling.learn(
        name, seed, 2, config, [self.pair],
        metrics_file=pathlib.Path(folder) / 'metrics.jsonl')

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


class MeasureTest(absltest.TestCase):

  def test_numbers_are_those_of_scikit_image(self):
    truth, image = np.random.default_rng(0).uniform(
        size=(2, 40, 42, 1)).astype(np.float32)
    found = upsampling_measures.measure(image, truth, 3)
    inner = truth[3:-3, 3:-3, 0], image[3:-3, 3:-3, 0]
    self.assertAlmostEqual(
        found['psnr_db'],
        metrics.peak_signal_noise_ratio(*inner, data_range=1), places=4)
    self.assertAlmostEqual(
        found['ssim'], metrics.structural_similarity(*inner, data_range=1),
        places=5)

  def test_border_is_left_out(self):
    truth = photographs.load('chelsea')[:300, :450]
    image = np.roll(truth, 1, 0)
    frame = np.pad(image[2:-2, 2:-2], ((2, 2), (2, 2), (0, 0)))
    self.assertEqual(upsampling_measures.measure(frame, truth, 2),
                     upsampling_measures.measure(image, truth, 2))

  def test_a_checkerboard_has_a_level(self):
    truth = photographs.load('flower')[:426, :636]
    for scale, tile in (2, [1, -1]), (3, [1, 1, -2]):
      row, column = (np.resize(tile, size) for size in truth.shape[:2])
      board = np.multiply.outer(row, column)
      board = .01 * board / np.sqrt(np.mean(board**2))
      result = upsampling_measures.measure(
          truth + board[..., None].astype(np.float32), truth, scale)
      self.assertAlmostEqual(result['psnr_db'], 40, places=2)
      self.assertGreater(result['grid_level_db'], 20)
      self.assertLess(result['truth_grid_level_db'], 5)


class TablesTest(absltest.TestCase):

  def results(self):
    numbers = {('transposed k4', 0): (10, 30), ('transposed k4', 1): (12, 32),
               ('transposed k4 repaired', 0): (-11, 29.5),
               ('transposed k4 repaired', 1): (-9, 31.5)}
    rows = [
        {'scale': 2, 'stage': 'trained', 'upsampler': name, 'seed': seed,
         'image': image, 'psnr_db': psnr + i, 'grid_level_db': level,
         'grid_amplitude': .25, 'ssim': .5, 'truth_grid_level_db': i,
         'truth_grid_amplitude': .125, 'grid_p_value': .01 + .1 * i,
         'truth_grid_p_value': .5, 'parameters': 7, 'multiply_adds': 9.}
        for (name, seed), (level, psnr) in numbers.items()
        for i, image in enumerate(IMAGES)]
    others = [{**row, 'scale': 3} for row in rows]
    others += [{**row, 'stage': 'untrained'} for row in rows]
    return upsampling_tables.Results(others + rows, 2)

  def test_headline_has_means(self):
    table = upsampling_tables.headline(self.results())
    self.assertEqual(table.rows, [
        ('ground truth', None, None, '1.0', '0.125'),
        ('transposed k4', '32.00', '0.5000', '11.0', '0.250'),
        ('transposed k4 repaired', '31.50', '0.5000', '-10.0', '0.250')])

  def test_cures_are_compared_pair_by_pair(self):
    [row] = upsampling_tables.cures(self.results()).rows
    # Each seed and image changes by just as much: no doubt is left.
    self.assertEqual(row, (
        'transposed k4', 'repaired', '-21.0 [-21.0, -21.0]',
        '-0.500 [-0.500, -0.500]', '0.000 [0.000, 0.000]'))

  def test_intervals_are_of_seeds_and_images(self):
    cell = self.results().interval('transposed k4', 'psnr_db')
    self.assertEqual(cell, intervals.bootstrap([[30, 31, 32], [32, 33, 34]]))

  def test_costs(self):
    results = self.results()
    table = upsampling_tables.costs(
        results, {name: 1.25 + i for i, name in enumerate(results.names)})
    self.assertEqual(
        [row[3:] for row in table.rows],
        [('0 of 6', None, None, None), ('2 of 6', '7', '9', '1.2'),
         ('2 of 6', '7', '9', '2.2')])
    self.assertRegex(table.rows[1][1], r'^32\.00 \[3\d\.\d\d, 3\d\.\d\d\]$')
    self.assertIsNone(table.rows[0][1])
    self.assertEqual(table.rows[0][2], '1.0 [0.0, 2.0]')

  def test_each_image_has_its_numbers(self):
    table = upsampling_tables.by_image(self.results())
    self.assertEqual(table.rows[:2], [
        ('ground truth', None, '0.0', None, '1.0', None, '2.0'),
        ('transposed k4', '31.00', '11.0', '32.00', '11.0', '33.00', '11.0')])

  def test_every_measure_is_under_its_heading(self):
    measures = upsampling_tables._COLUMNS
    rows = [{'scale': 2, 'stage': 'trained', 'upsampler': 'n',
             **{measure: float(i) for i, measure in enumerate(measures)}}
            for _ in IMAGES]
    table = upsampling_tables.every_measure(
        upsampling_tables.Results(rows, 2), '')
    headings = [heading for heading, _ in measures.values()]
    self.assertSequenceEqual(table.columns, ['upsampler', *headings])
    self.assertEqual([float(cell) for cell in table.rows[1][1:]],
                     list(range(len(measures))))

  def test_every_cure_has_its_plain_layer(self):
    for cure in ('equal phases', 'repaired', 'penalty', 'hold'):
      self.assertEqual(upsampling_tables._plain(f'transposed k4 {cure}'),
                       ('transposed k4', cure))
    self.assertEqual(
        upsampling_tables._plain('sub-pixel ICNR'), ('sub-pixel', 'ICNR'))
    self.assertEqual(
        upsampling_tables._plain('nearest+conv'), ('nearest+conv', None))


if __name__ == '__main__':
  absltest.main()
