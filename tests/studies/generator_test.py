"""Study 2 in a few steps, and the configs that it refuses."""

import json
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
from experiments.harness import loop
from experiments.harness import records
from experiments.harness import workdir as workdir_lib
from experiments.studies import generator
from experiments.studies.generator import data as data_lib
from experiments.studies.generator import metrics
from tests.studies import smoke

TRANSPOSED = '3 x transposed k4'


class RunTest(smoke.Run):
  study = generator.Study
  config = config_lib.get_config('smoke')
  config.update({'untrained_stacks': (), 'untrained_downsamplers': (
      'strided k4',)})  # As in training: compiled once.
  figures = ['classes', 'stacks', 'spectra', 'spectra_untrained', 'untrained',
             'generator_losses', 'discriminator_losses']

  @classmethod
  def setUpClass(cls):
    train, held_out = digits.load()
    cls.held_out = {name: x[:200] for name, x in held_out.items()}
    cls.enterClassContext(mock.patch.object(
        digits, 'load', lambda: (train, cls.held_out)))
    super().setUpClass()

  def row(self, part, name, stage):
    return next(row for row in self.rows if (
        row['part'], row['name'], row['stage']) == (part, name, stage))

  def test_a_row_for_each_network_seed_and_stage(self):
    kinds = {'accuracy': 'quality', 'grid_level_4_db': 'grids',
             'predicted_amplitude': 'growth', 'gradient_share': 'gradients'}
    critic = 'discriminator'
    self.assertEqual([
        (row['part'], row['name'], row['seed'], row['stage'],
         *(kind for name, kind in kinds.items() if row[name] is not None))
        for row in self.rows], [
            *(('generator', TRANSPOSED, seed, 'untrained', 'grids', 'growth')
              for seed in (0, 1)),
            *((critic, 'strided k4', seed, 'untrained', 'gradients')
              for seed in (0, 1)),
            *(('real images', name, None, 'real', 'quality', 'grids')
              for name in ('held out', 'for training')),
            ('generator', TRANSPOSED, 0, 'trained', 'quality', 'grids',
             'growth'),
            (critic, TRANSPOSED, 0, 'trained', 'gradients')])

  def test_levels_scores_and_times(self):
    row = self.row('real images', 'held out', 'real')
    self.assertAlmostEqual(
        row['grid_level_4_db'],
        metrics.grids(self.held_out['image'])['grid_level_4_db'], places=3)
    self.assertAlmostEqual(row['frechet_distance'], 0, places=4)
    # A hundred steps of eight; chance is .1.
    self.assertGreater(row['accuracy'], .5)
    floor = self.row('real images', 'for training', 'real')['frechet_distance']
    self.assertBetween(floor, 1e-3, .3 * self.row(
        'generator', TRANSPOSED, 'trained')['frechet_distance'])
    self.assertEqual(list(records.history(self.workdir)),
                     ['classifier', f'{TRANSPOSED}, seed 0'])
    self.assertEqual(self.timings, [{'stack': TRANSPOSED, **smoke.TIMES}])
    # As published.
    row = self.row('generator', TRANSPOSED, 'untrained')
    self.assertGreater(min(row['grid_level_2_db'], row['grid_level_4_db']), 5)

  def test_report_has_scores_claims_and_credits(self):
    self.assertIn('MNIST, a subset of 5000', self.text)
    row = self.row('generator', TRANSPOSED, 'trained')
    self.assertIn(f'<td>{TRANSPOSED}</td><td>{row["accuracy"]:.3f}</td>'
                  f'<td>{row["frechet_distance"]:.1f}</td>', self.text)
    self.assertRegex(self.text, '<td>(?:yes|no)</td>')


class FolderTest(absltest.TestCase):

  def test_images_without_classes_are_not_scored(self):
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    config = config_lib.get_config('smoke')
    config.update({
        'data': f'folder:{folder / "images"}', 'size': 16,
        'untrained_stacks': (), 'stacks': (('transposed k3', 'nearest+conv'),),
        'untrained_downsamplers': (), 'untrained_seeds': (2,)})
    (folder / 'images').mkdir()

    def untrained(step, state, batches, *, label, num_steps, **options):
      del step, batches
      with records.Record(options['workdir'], label, 0, num_steps) as record:
        record.add(num_steps, {'generator': 1., 'discriminator': 1.})
      return state

    for i in range(10):
      if i == 9:
        with self.assertRaisesRegex(
            workdir_lib.RunError, 'at least 10 .* got 9'):
          generator.Study(config).load()
      pixels = np.random.default_rng(i).integers(256, size=(20, 24, 3))
      Image.fromarray(pixels.astype(np.uint8)).save(folder / f'images/{i}.png')
    with (mock.patch.object(loop, 'train', untrained),
          mock.patch.object(generator.step_times, 'compare', side_effect=(
              AssertionError('Flax has no such stack')))):
      smoke.run(generator.Study(config), folder / 'run')
    rows = json.loads((folder / 'run/results.json').read_text())
    self.assertEqual(
        [(row['part'], row['stage']) for row in rows],
        [('generator', 'untrained'), ('real images', 'real'),
         ('real images', 'real'), ('generator', 'trained'),
         ('discriminator', 'trained')])
    self.assertNotIn('accuracy', rows[0])
    text = (folder / 'run/report.html').read_text()
    self.assertNotIn('class accuracy', text)
    self.assertFalse((folder / 'run/figures/classes.png').exists())


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
      ('stacks', ('transposed k4',) * 3), ('stacks', (('transposed k1',) * 3,)),
      ('stacks', (('transposed k4 hold',) * 3,)),
      ('untrained_stacks', (('nearest',) * 3,)),
      ('downsampler', 'strided'), ('untrained_downsamplers', ('pool',)),
      ('untrained_seeds', (-1,)), ('latents', 0), ('generator_features', 0),
      ('discriminator_features', 0), ('classifier.num_steps', 0),
      ('classifier.learning_rate', 0.))
  def test_values_that_cannot_be_used_are_named(self, field, value):
    message = f'^config.{field} must be .*; got {re.escape(repr(value))}'
    with self.assertRaisesRegex(workdir_lib.RunError, message):
      self.check(**{field: value})

  def test_fields_must_fit_each_other(self):
    stack = ('transposed k4',) * 3 + ('transposed k16',)
    options = {'data': 'folder:a', 'size': 64, 'untrained_stacks': ()}
    self.check(**options, stacks=(stack,))
    with self.assertRaisesRegex(workdir_lib.RunError, '4 stages .* size 64'):
      self.check(**options, stacks=(stack[1:],))
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
