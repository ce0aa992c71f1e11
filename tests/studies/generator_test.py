"""Study 2 in a few steps, and the configs that it refuses."""

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
from experiments.harness import records
from experiments.harness import workdir as workdir_lib
from experiments.studies import generator
from experiments.studies.generator import data as data_lib
import tconv
from tests.studies import smoke

TRANSPOSED, MIXED = '3 x transposed k4', '2 x transposed k4, nearest+conv'


class RunTest(smoke.Run):
  study = generator.Study
  config = config_lib.get_config('smoke')
  config.update({'untrained_stacks': config.untrained_stacks[:1]})
  figures = ['classes', 'stacks', 'spectra', 'spectra_untrained', 'untrained',
             'generator_losses', 'discriminator_losses']
  trainings = 2

  def row(self, part, name, stage):
    return next(row for row in self.rows if (
        row['part'], row['name'], row['stage']) == (part, name, stage))

  def test_a_row_for_each_network_seed_and_stage(self):
    expected = [('generator', name, seed, 'untrained')
                for name in (TRANSPOSED, MIXED) for seed in (0, 1)]
    expected += [('discriminator', name, seed, 'untrained')
                 for name in ('strided k3', 'conv+pool') for seed in (0, 1)]
    expected += [('real images', name, None, 'real')
                 for name in ('held out', 'for training')]
    expected += [(part, TRANSPOSED, 0, 'trained')
                 for part in ('generator', 'discriminator')]
    self.assertEqual([(row['part'], row['name'], row['seed'], row['stage'])
                      for row in self.rows], expected)

  def test_each_part_has_its_metrics(self):
    metrics = {'accuracy': 'quality', 'grid_level_4_db': 'grids',
               'predicted_amplitude': 'growth', 'gradient_share': 'gradients'}
    expected = {
        ('generator', 'untrained'): {'grids', 'growth'},
        ('generator', 'trained'): {'quality', 'grids', 'growth'},
        ('real images', 'real'): {'quality', 'grids'},
        ('discriminator', 'untrained'): {'gradients'},
        ('discriminator', 'trained'): {'gradients'}}
    for row in self.rows:
      self.assertEqual(
          {kind for name, kind in metrics.items() if row[name] is not None},
          expected[row['part'], row['stage']])

  def test_real_digits_are_measured_as_they_are(self):
    _, held_out = digits.load()
    row = self.row('real images', 'held out', 'real')
    self.assertAlmostEqual(
        row['grid_level_4_db'],
        tconv.grid_level(held_out['image'], 4, exclude=2).mean(), places=3)
    self.assertAlmostEqual(row['frechet_distance'], 0, places=4)
    # A hundred steps of eight; chance is .1.
    self.assertGreater(row['accuracy'], .5)
    floor = self.row('real images', 'for training', 'real')['frechet_distance']
    self.assertBetween(floor, 1e-3, .1 * self.row(
        'generator', TRANSPOSED, 'trained')['frechet_distance'])

  def test_untrained_stacks_are_as_published(self):
    level = lambda name, period: self.row('generator', name, 'untrained')[
        f'grid_level_{period}_db']
    self.assertGreater(min(level(TRANSPOSED, 2), level(TRANSPOSED, 4),
                           level(MIXED, 4)), 5)
    self.assertLess(level(MIXED, 2), 0)

  def test_trainings_and_times(self):
    history = records.history(self.workdir)
    self.assertEqual(list(history), ['classifier', f'{TRANSPOSED}, seed 0'])
    self.assertEqual(set(history[f'{TRANSPOSED}, seed 0']),
                     {'generator', 'discriminator'})
    [timing] = self.timings
    self.assertEqual(timing['stack'], TRANSPOSED)
    self.assertGreater(
        min(timing['ms_per_step_tconv'], timing['ms_per_step_flax']), 0)

  def test_report_has_scores_claims_and_credits(self):
    self.assertIn('MNIST, a subset of 5000', self.text)
    row = self.row('generator', TRANSPOSED, 'trained')
    self.assertIn(f'<td>{TRANSPOSED}</td><td>{row["accuracy"]:.3f}</td>'
                  f'<td>{row["frechet_distance"]:.1f}</td>', self.text)
    self.assertNotEmpty(re.findall('<td>(?:yes|no)</td>', self.text))


class FolderTest(absltest.TestCase):
  """Images without classes, and of another size."""

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))
    self.config = config_lib.get_config('smoke')
    self.config.update({
        'data': f'folder:{self.folder / "images"}', 'size': 8 * 2,
        'untrained_stacks': (), 'stacks': (('transposed k3', 'nearest+conv'),),
        'num_steps': 2, 'untrained_downsamplers': (), 'untrained_seeds': (2,)})
    (self.folder / 'images').mkdir()

  def save(self, number):
    for i in range(number):
      pixels = np.random.default_rng(i).integers(256, size=(20, 24, 3))
      Image.fromarray(pixels.astype(np.uint8)).save(
          self.folder / f'images/{i}.png')

  def test_images_without_classes_are_not_scored(self):
    self.save(10)
    rows = []

    def page(study, run):
      rows.extend(run.results.rows)
      return generator.report.page(
          study.config, run, study._data, study._shown)

    with (mock.patch.object(generator.Study, 'page', page),
          mock.patch.object(generator.step_times, 'compare', side_effect=(
              AssertionError('Flax has no such stack')))):
      smoke.run(generator.Study(self.config), self.folder / 'run')
    self.assertEqual(
        [(row['part'], row['stage']) for row in rows],
        [('generator', 'untrained'), ('real images', 'real'),
         ('real images', 'real'), ('generator', 'trained'),
         ('discriminator', 'trained')])
    self.assertNotIn('accuracy', rows[0])
    text = (self.folder / 'run/report.html').read_text()
    self.assertNotIn('class accuracy', text)
    self.assertFalse((self.folder / 'run/figures/classes.png').exists())

  def test_too_few_images_are_refused(self):
    self.save(9)
    study = generator.Study(self.config)
    study.check()
    with self.assertRaisesRegex(workdir_lib.RunError, 'at least 10 .* got 9'):
      study.load()


class CheckTest(parameterized.TestCase):

  def check(self, variant=None, **changes):
    config = config_lib.get_config(variant)
    config.update_from_flattened_dict(changes)
    generator.Study(config).check()

  def test_configs_are_right(self):
    for variant in (None, 'patches', 'smoke'):
      self.check(variant)
    with self.assertRaisesRegex(ValueError, "got 'smok'"):
      config_lib.get_config('smok')

  @parameterized.parameters(
      ('data', 'digit'), ('data', 'folder:'), ('size', 48), ('size', 8),
      ('size', 64), ('stacks', ()), ('stacks', (('transposed k4',) * 2,)),
      ('stacks', ('transposed k4',) * 3), ('stacks', (('transposed',) * 3,)),
      ('stacks', (('transposed k1',) * 3,)),
      ('stacks', (('transposed k4 hold',) * 3,)),
      ('untrained_stacks', (('nearest',) * 3,)),
      ('downsampler', 'strided'), ('untrained_downsamplers', ('pool',)),
      ('untrained_seeds', ()), ('untrained_seeds', (-1,)), ('seeds', ()),
      ('latents', 0), ('generator_features', 0), ('discriminator_features', 0),
      ('num_steps', 0), ('batch_size', 0), ('learning_rate', 0.),
      ('save_every', 30), ('classifier.num_steps', 0),
      ('classifier.learning_rate', 0.), ('untrained_seeds', (2**32,)),
      ('untrained_seeds', (1, 1)), ('latents', 2**31),
      ('classifier.learning_rate', float('inf')))
  def test_values_that_cannot_be_used_are_named(self, field, value):
    message = f'^config.{field} must be .*; got {re.escape(repr(value))}'
    with self.assertRaisesRegex(workdir_lib.RunError, message):
      self.check(**{field: value})

  def test_stacks_have_the_stages_that_the_size_needs(self):
    stack = ('transposed k4',) * 3 + ('transposed k16',)
    options = {'data': 'folder:a', 'size': 64, 'untrained_stacks': ()}
    self.check(**options, stacks=(stack,))
    with self.assertRaisesRegex(workdir_lib.RunError, '4 stages .* size 64'):
      self.check(**options, stacks=(stack[1:],))

  def test_patches_are_no_larger_than_the_photographs(self):
    with self.assertRaisesRegex(
        workdir_lib.RunError, 'size must be at most 300 for patches; got 512'):
      self.check('patches', size=512, stacks=(('transposed k4',) * 7,),
                 untrained_stacks=())


class PatchesTest(absltest.TestCase):

  def test_patches_are_colored_photographs(self):
    data = data_lib.load('patches', 16)
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
