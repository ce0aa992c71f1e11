"""Study 3 in a few steps, and the configs that it refuses."""

import itertools
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import numpy as np
from PIL import Image

from configs import segmentation as config_lib
from experiments.harness import records
from experiments.harness import workdir as workdir_lib
from experiments.studies import segmentation
from experiments.studies.segmentation import data as data_lib
from experiments.studies.segmentation import metrics
from tests.studies import smoke

HEADS = (8, 4)
DECODERS = ('learned', 'bilinear resize')


def small(**changes):
  config = config_lib.get_config('smoke')
  config.update({'heads': (8,), 'decoders': ('learned',), 'train_images': 16,
                 'channels': (2, 2, 2), **changes})
  return config


class RunTest(smoke.Run):
  study = segmentation.Study
  config = config_lib.get_config('smoke')
  figures = ['masks', 'spectra_8', 'spectra_4', 'curves']
  trainings = 4

  def test_a_row_for_each_network_stage_and_image(self):
    self.assertEqual(
        [(r['head'], r['decoder'], r['seed'], r['stage'], r['image'])
         for r in self.rows],
        list(itertools.product(HEADS, DECODERS, (0,),
                               ('untrained', 'trained'), range(4))))

  def test_metrics_are_plausible(self):
    for row in self.rows:
      for name in ('iou', 'resized_iou', 'pooled_iou', 'accuracy',
                   'boundary_f'):
        self.assertBetween(row[name], 0, 1)
      if row['decoder'] == 'bilinear resize':
        self.assertEqual(row['iou'], row['resized_iou'])
      # Only a learned decoder can paint a grid.
      if (row['decoder'], row['stage']) == ('learned', 'trained'):
        self.assertGreater(row['phase_nonuniformity'], 1e-6)
      else:
        self.assertLess(row['phase_nonuniformity'], 1e-10)

  def test_every_network_learns(self):
    history = records.history(self.workdir)
    self.assertLen(history, self.trainings)
    for losses in history.values():
      _, values = losses['cross_entropy']
      self.assertLess(values[-1], values[0])

  def test_times(self):
    self.assertEqual([row['head'] for row in self.timings], list(HEADS))
    for row in self.timings:
      self.assertGreater(
          min(row['ms_per_step_tconv'], row['ms_per_step_flax']), 0)

  def test_report_has_means_and_claims(self):
    self.assertIn('emi-synthetic', self.text)
    for head, decoder in itertools.product(HEADS, DECODERS):
      mean = np.mean(self.values(
          'pooled_iou', head=head, decoder=decoder, stage='trained'))
      self.assertIn(f'<td>{head}</td><td>{decoder}</td><td>{mean:.4f}</td>',
                    self.text)
    self.assertNotEmpty(
        re.findall('<td>(?:yes|no|cannot tell)</td>', self.text))


class FolderTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    path = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    for name in 'images', 'annotations/trimaps':
      (path / name).mkdir(parents=True)
    draw = np.random.default_rng(0)
    for i in range(6):
      # Blocks of a color and class each, named by their red.
      classes = draw.integers(1, 4, size=(6, 6), dtype=np.uint8)
      mask = classes.repeat(10, 0).repeat(10, 1)
      image = np.stack([np.full_like(mask, 40 * i), 80 * mask, mask], -1)
      Image.fromarray(image).save(path / f'images/{i}.png')
      Image.fromarray(mask).save(path / f'annotations/trimaps/{i}.png')
    cls.path = path

  def config(self, **changes):
    return small(data=f'folder:{self.path}', **changes)

  def test_images_are_split_once_and_for_all(self):
    first, again = (data_lib.load(self.config(test_images=2))
                    for _ in range(2))
    chex.assert_trees_all_equal(first.train, again.train)
    chex.assert_trees_all_equal(first.test, again.test)
    reds = [sorted(np.rint(part['image'][:, 0, 0, 0] * 255 / 40).astype(int))
            for part in (first.train, first.test)]
    self.assertEqual([len(part) for part in reds], [4, 2])
    self.assertEqual(sorted(sum(reds, [])), list(range(6)))
    for part in (first.train, first.test):
      np.testing.assert_allclose(  # The pixel in the middle of a block.
          part['image'][:, 4::8, 4::8, 1] * 255,
          80 * (part['mask'][:, 4::8, 4::8] + 1), atol=1)

  def test_a_folder_takes_the_place_of_mosaics(self):
    config = self.config(test_images=2, pictures=2, num_steps=2)
    workdir = pathlib.Path(self.enter_context(
        tempfile.TemporaryDirectory())) / 'run'
    see = metrics.see

    def checked(network, *args):
      # Batch norm by the statistics of training, not by those of a test.
      for stage in network.encoder:
        self.assertTrue(stage.layers[1].use_running_average)
      return see(network, *args)

    with (mock.patch.object(segmentation.Study, 'timings', lambda _: []),
          mock.patch.object(metrics, 'see', checked)):
      smoke.run(segmentation.Study(config), workdir)
    text = (workdir / 'report.html').read_text()
    self.assertIn(f'The images of {self.path}', text)
    self.assertIn('pet, background, border', text)

  def test_too_few_images_are_refused(self):
    with self.assertRaisesRegex(
        workdir_lib.RunError,
        '^config.test_images must leave some .*; got 6 of 6 in'):
      data_lib.load(self.config(test_images=6))


class CheckTest(parameterized.TestCase):

  def test_configs_are_right(self):
    for variant in (None, 'smoke'):
      segmentation.Study(config_lib.get_config(variant)).check()
    with self.assertRaisesRegex(ValueError, "got 'smok'"):
      config_lib.get_config('smok')
    # Images of a folder may be larger than mosaics.
    segmentation.Study(small(data='folder:pets', size=128)).check()

  @parameterized.parameters(
      ('data', 'texture'), ('data', 'folder:'), ('size', 40), ('size', 32),
      ('size', 96), ('train_images', 0), ('test_images', 0), ('heads', ()),
      ('heads', (8, 8)), ('heads', (16,)), ('decoders', ()),
      ('decoders', ('bilinear',)), ('decoders', ('frozen', 'frozen')),
      ('channels', (8, 8)), ('channels', (8, 8, 0)), ('convolutions', 0),
      ('pictures', 0), ('pictures', 129), ('decoder_learning_rate', 0.),
      ('learning_rate', -1.), ('seeds', ()), ('save_every', 30),
      ('decoder_learning_rate', float('inf')), ('convolutions', 2**31),
      ('channels', (8, 8, 2**31)))
  def test_values_that_cannot_be_used_are_named(self, field, value):
    config = config_lib.get_config()
    config.update_from_flattened_dict({field: value})
    message = f'^config.{field} must .*; got {re.escape(repr(value))}'
    with self.assertRaisesRegex(workdir_lib.RunError, message):
      segmentation.Study(config).check()


if __name__ == '__main__':
  absltest.main()
