"""Study 2 in a few steps, from config to report."""

import json
import math
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image

from configs import generator as config_lib
from experiments.data import digits
from experiments.harness import workdir as workdir_lib
from experiments.studies import generator
from experiments.studies import generator_learning as learning
import tconv
from tests import smoke

TRANSPOSED, MIXED, RESIZE = (
    '3 x transposed k4', '2 x transposed k4, nearest+conv', '3 x nearest+conv')
FIGURES = ['classes', 'stacks', 'spectra', 'spectra_untrained', 'untrained',
           'generator_losses', 'discriminator_losses']


class SmokeTest(smoke.Run):
  study = generator
  config = config_lib.get_config('smoke')
  figures = FIGURES
  figure_size = 150

  def row(self, part, name, stage):
    return next(row for row in self.rows if (
        row['part'], row['name'], row['stage']) == (part, name, stage))

  def test_a_row_for_each_network_seed_and_stage(self):
    expected = [('generator', name, seed, 'untrained')
                for name in (TRANSPOSED, MIXED, RESIZE) for seed in (0, 1)]
    expected += [('discriminator', name, seed, 'untrained')
                 for name in ('strided k3', 'conv+pool') for seed in (0, 1)]
    expected += [('real images', name, None, 'real')
                 for name in ('held out', 'for training')]
    expected += [(part, TRANSPOSED, 0, 'trained')
                 for part in ('generator', 'discriminator')]
    self.assertEqual([(row['part'], row['name'], row['seed'], row['stage'])
                      for row in self.rows], expected)

  def test_each_part_has_its_numbers(self):
    quality = {'accuracy', 'frechet_distance'}
    for row in self.rows:
      measured = {name for name, value in row.items()
                  if isinstance(value, float)}
      self.assertTrue(all(math.isfinite(row[name]) for name in measured), row)
      if row['part'] == 'discriminator':
        self.assertEqual(measured, {'gradient_level_db', 'gradient_share',
                                    'gradient_size_level_db'})
        continue
      self.assertEqual(quality <= measured, row['stage'] != 'untrained')
      self.assertEqual('predicted_amplitude' in measured,
                       row['part'] == 'generator')
      self.assertContainsSubset(
          {'grid_level_2_db', 'grid_level_4_db', 'grid_amplitude_2',
           'grid_amplitude_4'}, measured)

  def test_real_digits_are_measured_as_they_are(self):
    _, held_out = digits.load()
    row = self.row('real images', 'held out', 'real')
    self.assertAlmostEqual(
        row['grid_level_4_db'],
        tconv.grid_level(held_out['image'], 4, exclude=2).mean(), places=3)
    self.assertAlmostEqual(row['frechet_distance'], 0, places=4)
    # A hundred steps of eight; chance is .1.
    self.assertGreater(row['accuracy'], .5)

  def test_the_floor_is_far_below_what_is_not_trained(self):
    floor = self.row('real images', 'for training', 'real')['frechet_distance']
    self.assertBetween(floor, 1e-3, .1 * self.row(
        'generator', TRANSPOSED, 'trained')['frechet_distance'])

  def test_published_facts_of_untrained_stacks(self):
    level = lambda name, period: self.row('generator', name, 'untrained')[
        f'grid_level_{period}_db']
    self.assertGreater(min(level(TRANSPOSED, 2), level(TRANSPOSED, 4),
                           level(MIXED, 4)), 5)
    self.assertLess(max(level(MIXED, 2), level(RESIZE, 2), level(RESIZE, 4)), 0)

  def test_all_trainings_are_recorded(self):
    history = records.history(self.workdir)
    self.assertEqual(list(history), ['classifier', f'{TRANSPOSED}, seed 0'])
    self.assertEqual(set(history[f'{TRANSPOSED}, seed 0']),
                     {'generator', 'discriminator'})

  def test_steps_are_timed_apart(self):
    [timing] = json.loads((self.workdir / 'timings.json').read_text())
    self.assertEqual(timing['stack'], TRANSPOSED)
    self.assertGreater(
        min(timing['ms_per_step_tconv'], timing['ms_per_step_flax']), 0)

  def test_report_says_it_all(self):
    self.assertIn('MNIST, a subset of 5000', self.text)
    row = self.row('generator', TRANSPOSED, 'trained')
    self.assertIn(f'<td>{TRANSPOSED}</td><td>{row["accuracy"]:.3f}</td>'
                  f'<td>{row["frechet_distance"]:.1f}</td>', self.text)
    self.assertEqual(len(re.findall('<td>(?:yes|no)</td>', self.text)), 9)


class FolderTest(absltest.TestCase):
  """Images without classes, of another size, with an interruption."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = pathlib.Path(
        cls.enterClassContext(tempfile.TemporaryDirectory()))
    for i in range(10):
      pixels = np.random.default_rng(i).integers(256, size=(20, 24, 3))
      Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{i}.png')
    cls.config = config_lib.get_config('smoke')
    cls.config.update({
        'data': f'folder:{folder}', 'size': 16, 'untrained_stacks': (),
        'stacks': (('transposed k3', 'nearest+conv'),),
        'untrained_downsamplers': (), 'untrained_seeds': (2,)})
    generator.check(cls.config)

  def go(self, workdir):
    with mock.patch('builtins.print'), mock.patch.multiple(
        generator.costs, compare=mock.Mock(side_effect=AssertionError)):
      generator.run(self.config, workdir, command='')

  def workdir(self):
    return workdir_lib.open_workdir(
        self.enter_context(tempfile.TemporaryDirectory()), self.config)

  def test_an_interrupted_run_ends_with_the_same_results(self):
    whole, parts = self.workdir(), self.workdir()
    self.go(whole)
    with mock.patch.object(
        records._Progress, 'show', side_effect=[None, None, KeyboardInterrupt]):
      with self.assertRaises(KeyboardInterrupt):
        self.go(parts)
    with mock.patch.object(records._Progress, 'show') as shown:
      self.go(parts)
    # It went on after step 4 of 6, and takes a look every 2.
    self.assertEqual(shown.call_count, 1)
    results = (whole / 'results.json').read_text()
    self.assertEqual((parts / 'results.json').read_text(), results)
    self.assertEqual((parts / 'metrics.jsonl').read_text(),
                     (whole / 'metrics.jsonl').read_text())
    rows = json.loads(results)
    self.assertLen(rows, 5)
    self.assertNotIn('accuracy', rows[0])
    text = (whole / 'report.html').read_text()
    self.assertNotIn('class accuracy', text)
    self.assertEqual(text.count('src="data:image/png;base64,'),
                     len(FIGURES) - 1)

  def test_too_few_images_are_refused(self):
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    Image.new('RGB', (16, 16)).save(folder / 'a.png')
    self.config.data = f'folder:{folder}'
    with self.assertRaisesRegex(workdir_lib.RunError, 'at least 10 .* got 1'):
      self.go(self.workdir())


class CheckTest(parameterized.TestCase):

  def test_configs_are_right(self):
    for variant in (None, 'patches', 'smoke'):
      generator.check(config_lib.get_config(variant))
    with self.assertRaisesRegex(ValueError, "got 'smok'"):
      config_lib.get_config('smok')

  @parameterized.parameters(
      ('data', 'digit'), ('data', 'folder:'), ('size', 48), ('size', 8),
      ('size', 64), ('stacks', ()), ('stacks', (('transposed k4',) * 2,)),
      ('stacks', ('transposed k4',) * 3), ('stacks', (('transposed',) * 3,)),
      ('stacks', (('transposed k1',) * 3,)),
      ('untrained_stacks', (('nearest',) * 3,)),
      ('downsampler', 'strided'), ('untrained_downsamplers', ('pool',)),
      ('untrained_seeds', ()), ('untrained_seeds', (-1,)), ('seeds', ()),
      ('latents', 0), ('generator_features', 0), ('discriminator_features', 0),
      ('num_steps', 0), ('batch_size', 0), ('learning_rate', 0.),
      ('save_every', 30), ('classifier.num_steps', 0),
      ('classifier.learning_rate', 0.), ('untrained_seeds', (2**32,)),
      ('untrained_seeds', (1, 1)), ('latents', 2**31),
      ('classifier.learning_rate', float('inf')))
  def test_useless_values_are_refused(self, field, value):
    config = config_lib.get_config()
    config.update_from_flattened_dict({field: value})
    message = f'^config.{field} must be .*; got {re.escape(repr(value))}'
    with self.assertRaisesRegex(workdir_lib.RunError, message):
      generator.check(config)

  def test_stacks_have_the_stages_that_the_size_needs(self):
    config = config_lib.get_config()
    stack = ('transposed k4',) * 3 + ('transposed k16',)
    config.update({'data': 'folder:a', 'size': 64, 'stacks': (stack,),
                   'untrained_stacks': ()})
    generator.check(config)
    config.stacks = (stack[1:],)
    with self.assertRaisesRegex(workdir_lib.RunError, '4 stages .* size 64'):
      generator.check(config)

  def test_patches_are_no_larger_than_the_photographs(self):
    config = config_lib.get_config('patches')
    stack = ('transposed k4',) * 7
    config.update({'size': 512, 'stacks': (stack,), 'untrained_stacks': ()})
    with self.assertRaisesRegex(
        workdir_lib.RunError, 'size must be at most 300 for patches; got 512'):
      generator.check(config)

  @parameterized.parameters(
      (('a',) * 3, '3 x a'), (('a', 'b'), 'a, b'),
      (('a', 'a', 'b', 'a'), '2 x a, b, a'))
  def test_stacks_have_names(self, stages, name):
    self.assertEqual(learning.stack_name(stages), name)


class PatchesTest(absltest.TestCase):

  def test_patches_are_colour_photographs(self):
    data = generator.data_lib.load('patches', 16)
    for part in data.train, data.held_out:
      self.assertEqual(part['image'].shape, (1000, 16, 16, 3))
      self.assertBetween(part['image'].min(), -1, -.9)
      self.assertBetween(part['image'].max(), .9, 1)
      self.assertGreater(np.ptp(part['image'], -1).max(), .5)
    options = {'batch_size': 3, 'num_batches': 4, 'seed': 1}
    whole = list(data.batches(**options))
    self.assertLen(whole, 4)
    late = list(data.batches(start=2, **options))
    np.testing.assert_array_equal(late[0]['image'], whole[2]['image'])
    self.assertEqual(data.classes, 0)


if __name__ == '__main__':
  absltest.main()
