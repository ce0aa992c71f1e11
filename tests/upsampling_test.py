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
from flax import nnx
import jax
import jax.numpy as jnp
from matplotlib import image as image_lib
import numpy as np
from skimage import metrics

from configs import upsampling as config_lib
from experiments import workdir as workdir_lib
from experiments.data import photographs
from experiments.studies import upsamplers
from experiments.studies import upsampling
import tconv

BASELINES = ['nearest', 'bilinear', 'bicubic']
LEARNED = ['transposed k3', 'transposed k4', 'sub-pixel', 'nearest+conv']
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

  def rows(self):
    return json.loads((self.workdir / 'results.json').read_text())

  def test_a_row_for_each_upsampler_seed_and_image(self):
    self.assertEqual(
        [(row['upsampler'], row['seed'], row['image']) for row in self.rows()],
        [(name, None if name in BASELINES else 0, image)
         for name in BASELINES + LEARNED
         for image in ('chelsea', 'flower', 'gravel')])

  def test_numbers_are_finite_and_plausible(self):
    for row in self.rows():
      self.assertTrue(math.isfinite(row['grid_level_db']))
      self.assertBetween(row['psnr_db'], 5, 40)
      truth = photographs.load(row['image'])[2:-2, 2:-2]
      truth = truth[:len(truth) // 2 * 2, :truth.shape[1] // 2 * 2]
      np.testing.assert_allclose(
          row['truth_grid_level_db'],
          tconv.grid_level(truth[None], 2).item(), atol=1e-3)

  def test_both_tables_are_the_same(self):
    with open(self.workdir / 'results.csv', newline='') as file:
      table = list(csv.DictReader(file))
    self.assertEqual(table, [
        {name: '' if cell is None else str(cell) for name, cell in row.items()}
        for row in self.rows()])

  def test_every_network_learns(self):
    lines = [json.loads(line) for line in
             (self.workdir / 'metrics.jsonl').read_text().splitlines()]
    for name in LEARNED:
      losses = [line['loss'] for line in lines
                if line['run'] == f'{name}, seed 0']
      self.assertLen(losses, 3)
      self.assertLess(losses[-1], losses[0] / 2)

  def test_figure_is_a_picture(self):
    pixels = image_lib.imread(self.workdir / 'figures' / 'upsampling.png')
    self.assertGreater(min(pixels.shape[:2]), 800)
    self.assertGreater(pixels.std(), .1)

  def test_report_says_it_all(self):
    text = (self.workdir / 'report.html').read_text()
    self.assertIn('--config=a.py --workdir=&#34;&lt;b&gt;&#34;', text)
    self.assertIn('CC BY 2.0', text)
    self.assertIn('data:image/png;base64,', text)
    for name in LEARNED:
      mean = np.mean([row['psnr_db'] for row in self.rows()
                      if row['upsampler'] == name])
      self.assertIn(f'<td>{name}</td><td>{mean:.2f}</td>', text)

  def test_last_line_says_where_the_report_is(self):
    self.printed.assert_called_with(f'report: {self.workdir / "report.html"}')


class RunTest(absltest.TestCase):

  def test_every_seed_has_its_rows_and_baselines_have_none(self):
    config = config_lib.get_config('smoke')
    config.upsamplers = ('sub-pixel', 'nearest')
    config.seeds = (3, 5)
    workdir = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))
    enlarge = lambda low: tconv.upsample(low, 2, method='bilinear')
    with mock.patch.object(upsampling, 'learn', return_value=enlarge) as learn:
      upsampling.run(config, workdir, command='')
    self.assertEqual([call.args[1] for call in learn.call_args_list], [3, 5])
    rows = json.loads((workdir / 'results.json').read_text())
    self.assertEqual([(row['upsampler'], row['seed']) for row in rows],
                     3 * [('sub-pixel', 3)] + 3 * [('sub-pixel', 5)]
                     + 3 * [('nearest', None)])


class CheckTest(parameterized.TestCase):

  def test_configs_are_right(self):
    for variant in (None, 'smoke'):
      upsampling.check(config_lib.get_config(variant))
    with self.assertRaisesRegex(ValueError, "got 'smok'"):
      config_lib.get_config('smok')

  @parameterized.parameters(
      'transposed', 'transposed k', 'transposed k0', 'transposed k3 ', 'cubic',
      '', 4)
  def test_unknown_upsamplers_are_refused(self, name):
    config = config_lib.get_config()
    config.upsamplers = ('nearest', name)
    with self.assertRaisesRegex(workdir_lib.RunError, 'config.upsamplers must'):
      upsampling.check(config)

  @parameterized.parameters(
      ('scale', 1), ('num_steps', 0), ('batch_size', 0), ('log_every', 0),
      ('patch_size', 0), ('patch_size', 151), ('figure.image', 'camera'),
      ('figure.top', 417), ('figure.left', -1), ('seeds', ()),
      ('seeds', ('a',)), ('upsamplers', ()))
  def test_useless_values_are_refused(self, field, value):
    config = config_lib.get_config()
    config.update_from_flattened_dict({field: value})
    message = f'^config.{field} must be .*; got {re.escape(repr(value))}'
    with self.assertRaisesRegex(workdir_lib.RunError, message):
      upsampling.check(config)


class NetworkTest(parameterized.TestCase):

  def network(self, name, scale=2, seed=0):
    config = config_lib.get_config()
    config.scale = scale
    return upsamplers.Network(name, config, nnx.Rngs(seed))

  @parameterized.product(name=[*LEARNED, 'transposed k7'], scale=[2, 3])
  def test_enlarges(self, name, scale):
    low = jax.random.uniform(jax.random.key(0), (2, 5, 6, 1))
    high = self.network(name, scale)(low)
    self.assertEqual(high.shape, (2, 5 * scale, 6 * scale, 1))
    # Neither blown up nor vanished: ready to learn.
    self.assertBetween(float(high.std()), .01, 1)

  def test_trunks_start_the_same(self):
    trunks = [nnx.state(self.network(name).trunk) for name in LEARNED]
    for trunk in trunks[1:]:
      jax.tree.map(np.testing.assert_array_equal, trunk, trunks[0])
    other = nnx.state(self.network('sub-pixel', seed=1).trunk)
    self.assertFalse(np.array_equal(*(
        jax.tree.leaves(trunk)[1] for trunk in (trunks[0], other))))

  def test_only_upsamplers_can_paint_a_grid(self):
    # A constant image: transposed and sub-pixel make a pattern of it, a resize
    # convolution cannot.
    for name in LEARNED:
      image = self.network(name)(jnp.full((1, 24, 24, 1), .5))
      inner = image[:, 16:-16, 16:-16]
      if name == 'nearest+conv':
        self.assertLess(inner.std(), 1e-6)
      else:
        self.assertGreater(inner.std(), 1e-2)

  def test_learning_is_reproducible(self):
    config = config_lib.get_config('smoke')
    config.update({'num_steps': 3, 'patch_size': 8})
    pair = photographs.downsampled_pair(photographs.load('chelsea'), 2)
    folder = self.enter_context(tempfile.TemporaryDirectory())
    learned = lambda seed: upsampling.learn(
        'transposed k3', seed, config, [pair], label='test',
        metrics_file=pathlib.Path(folder) / 'metrics.jsonl')(
            pair['low'][None])
    first, again, other = map(learned, (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    self.assertGreater(jnp.abs(first - other).max(), 1e-3)


class MeasureTest(absltest.TestCase):

  def test_psnr_is_that_of_scikit_image(self):
    truth, image = np.random.default_rng(0).uniform(
        size=(2, 40, 42, 1)).astype(np.float32)
    self.assertAlmostEqual(
        upsampling.measure(image, truth, 3)['psnr_db'],
        metrics.peak_signal_noise_ratio(
            truth[3:-3, 3:-3], image[3:-3, 3:-3], data_range=1), places=4)

  def test_border_is_left_out(self):
    truth = photographs.load('chelsea')[:300, :450]
    image = np.roll(truth, 1, 0)
    frame = np.pad(image[2:-2, 2:-2], ((2, 2), (2, 2), (0, 0)))
    self.assertEqual(upsampling.measure(frame, truth, 2),
                     upsampling.measure(image, truth, 2))

  def test_a_checkerboard_has_a_level(self):
    truth = photographs.load('flower')[:426, :640]
    board = .01 * (-1)**np.indices(truth.shape[:2]).sum(0)
    result = upsampling.measure(
        truth + board[..., None].astype(np.float32), truth, 2)
    self.assertAlmostEqual(result['psnr_db'], 40, places=3)
    self.assertGreater(result['grid_level_db'], 20)
    self.assertLess(result['truth_grid_level_db'], 5)


if __name__ == '__main__':
  absltest.main()
