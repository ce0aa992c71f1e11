"""Study 3 in a few steps, and the configs that it refuses."""

import contextlib
import io
import itertools
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import numpy as np
from PIL import Image

from configs import segmentation as config_lib
from experiments.harness import devices
from experiments.harness import loop
from experiments.harness import records
from experiments.harness import workdir as workdir_lib
from experiments.studies import segmentation
from experiments.studies.segmentation import data as data_lib
from experiments.studies.segmentation import metrics
from tests.studies import smoke

DECODERS = ('learned', 'bilinear resize')


def small(**changes):
  config = config_lib.get_config('smoke')
  config.update({'heads': (4,), 'decoders': DECODERS, **changes})
  return config


class RunTest(smoke.Run):
  """On images and masks from a folder."""
  study = segmentation.Study
  figures = ['masks', 'spectra_4', 'curves']

  @classmethod
  def setUpClass(cls):
    path = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    for name in 'images', 'annotations/trimaps':
      (path / name).mkdir(parents=True)
    draw = np.random.default_rng(0)
    for i in range(12):
      # Blocks of a color and class each, named by their red.
      classes = draw.integers(1, 4, size=(6, 6), dtype=np.uint8)
      mask = classes.repeat(10, 0).repeat(10, 1)
      image = np.stack([np.full_like(mask, 20 * i), 80 * mask, mask], -1)
      Image.fromarray(image).save(path / f'images/{i:02}.png')
      Image.fromarray(mask).save(path / f'annotations/trimaps/{i:02}.png')
    cls.path, cls.config = path, small(data=f'folder:{path}')
    see = metrics.see

    def checked(network, *args):
      # Batch norm by the statistics of training, not by those of a test.
      for stage in network.encoder:
        assert stage.layers[1].use_running_average
      return see(network, *args)

    with mock.patch.object(metrics, 'see', checked):
      super().setUpClass()

  def test_a_row_for_each_network_stage_and_image(self):
    self.assertEqual(
        [(r['head'], r['decoder'], r['seed'], r['stage'], r['image'])
         for r in self.rows],
        list(itertools.product((4,), DECODERS, (0,),
                               ('untrained', 'trained'), range(4))))
    for row in self.rows:
      for name in 'iou', 'resized_iou', 'pooled_iou', 'accuracy', 'boundary_f':
        self.assertBetween(row[name], 0, 1)
      if row['decoder'] == 'bilinear resize':
        self.assertEqual(row['iou'], row['resized_iou'])
      # Only a learned decoder can paint a grid.
      if (row['decoder'], row['stage']) == ('learned', 'trained'):
        self.assertGreater(row['phase_nonuniformity'], 1e-6)
      else:
        self.assertLess(row['phase_nonuniformity'], 1e-10)
    self.assertEqual(self.timings, [{'head': 4, **smoke.TIMES}])

  def test_every_network_learns(self):
    history = records.history(self.workdir)
    self.assertLen(history, 2)
    for losses in history.values():
      _, values = losses['cross_entropy']
      self.assertLess(values[-1], values[0])

  def test_one_device_and_an_interruption_give_the_same(self):
    # With batch norm, whose means are over all devices.
    study = segmentation.Study(self.config)
    study.load()
    training = next(iter(study.trials())).training
    workdir = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    (workdir / 'metrics.jsonl').touch()
    mesh = jax.sharding.Mesh(jax.devices()[:1], ('batch',))
    with (contextlib.redirect_stdout(io.StringIO()) as screen,
          mock.patch.object(devices, '_mesh', lambda: mesh)):
      for num_steps in 4, 12:
        loop.train(training.step, training.state, training.batches,
                   num_steps=num_steps, log_every=4, save_every=4,
                   label=training.label, workdir=workdir)
    self.assertIn('resumes after step 4', screen.getvalue())
    chex.assert_trees_all_close(
        *(records.history(folder)[training.label]['cross_entropy']
          for folder in (workdir, self.workdir)), atol=1e-5)

  def test_report_has_means_and_claims(self):
    self.assertIn(f'The images of {self.path}', self.text)
    self.assertIn('pet, background, border', self.text)
    for decoder in DECODERS:
      mean = next(row['pooled_iou'] for row in self.rows if (
          row['decoder'], row['stage']) == (decoder, 'trained'))
      self.assertIn(f'<td>4</td><td>{decoder}</td><td>{mean:.4f}</td>',
                    self.text)
    self.assertRegex(self.text, '<td>(?:yes|no|cannot tell)</td>')

  def test_images_are_split_once_and_for_all(self):
    first, again = (data_lib.load(self.config) for _ in range(2))
    chex.assert_trees_all_equal(first.train, again.train)
    chex.assert_trees_all_equal(first.test, again.test)
    reds = [sorted(np.rint(part['image'][:, 0, 0, 0] * 255 / 20).astype(int))
            for part in (first.train, first.test)]
    self.assertEqual([len(part) for part in reds], [8, 4])
    self.assertEqual(sorted(sum(reds, [])), list(range(12)))
    for part in (first.train, first.test):
      np.testing.assert_allclose(  # The pixel in the middle of a block.
          part['image'][:, 4::8, 4::8, 1] * 255,
          80 * (part['mask'][:, 4::8, 4::8] + 1), atol=1)
    with self.assertRaisesRegex(
        workdir_lib.RunError,
        '^config.test_images must leave some .*; got 12 of 12 in'):
      data_lib.load(small(data=f'folder:{self.path}', test_images=12))


class CheckTest(parameterized.TestCase):

  def test_configs_are_right(self):
    for variant in (None, 'smoke'):
      segmentation.Study(config_lib.get_config(variant)).check()
    with self.assertRaisesRegex(ValueError, "got 'smok'"):
      config_lib.get_config('smok')
    self.assertIn('emi-synthetic', data_lib.load(small()).credits)
    # Images of a folder may be larger than mosaics.
    segmentation.Study(small(data='folder:pets', size=128)).check()

  @parameterized.parameters(
      ('data', 'texture'), ('data', 'folder:'), ('size', 40), ('size', 32),
      ('size', 96), ('train_images', 0), ('heads', (8, 8)), ('heads', (16,)),
      ('decoders', ()), ('decoders', ('bilinear',)), ('channels', (8, 8)),
      ('channels', (8, 8, 0)), ('convolutions', 2**31), ('pictures', 129),
      ('decoder_learning_rate', float('inf')), ('seeds', ()))
  def test_values_that_cannot_be_used_are_named(self, field, value):
    config = config_lib.get_config()
    config.update_from_flattened_dict({field: value})
    message = f'^config.{field} must .*; got {re.escape(repr(value))}'
    with self.assertRaisesRegex(workdir_lib.RunError, message):
      segmentation.Study(config).check()


if __name__ == '__main__':
  absltest.main()
