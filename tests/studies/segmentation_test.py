"""Study 3 in a few steps, from config to report."""

import itertools
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
import numpy as np
from PIL import Image

from configs import segmentation as config_lib
from experiments.data import batches
from experiments.harness import workdir as workdir_lib
from experiments.studies import segmentation
from experiments.studies import segmentation_data as data_lib
from experiments.studies import segmentation_measures as measures
from experiments.studies import segmentation_models as models
from tests import smoke

HEADS = (8, 4)
DECODERS = ('learned', 'bilinear resize')


class SmokeTest(smoke.Run):
  study = segmentation
  config = config_lib.get_config('smoke')
  figures = ['masks', 'spectra_8', 'spectra_4', 'curves']
  figure_size = 200

  def values(self, measure, **fields):
    return [row[measure] for row in self.rows
            if all(row[name] == value for name, value in fields.items())]

  def test_a_row_for_each_network_stage_and_image(self):
    self.assertEqual(
        [(r['head'], r['decoder'], r['seed'], r['stage'], r['image'])
         for r in self.rows],
        list(itertools.product(HEADS, DECODERS, (0,),
                               ('untrained', 'trained'), range(4))))

  def test_numbers_are_finite_and_plausible(self):
    for row in self.rows:
      numbers = {name: value for name, value in row.items()
                 if isinstance(value, float)}
      self.assertLen(numbers, 10)
      self.assertTrue(all(map(math.isfinite, numbers.values())), row)
      for name in ('iou', 'resized_iou', 'pooled_iou', 'accuracy',
                   'boundary_f'):
        self.assertBetween(row[name], 0, 1)
      if row['decoder'] == 'bilinear resize':
        self.assertEqual(row['iou'], row['resized_iou'])

  def test_only_a_learned_decoder_can_paint_a_grid(self):
    for row in self.rows:
      if (row['decoder'], row['stage']) == ('learned', 'trained'):
        self.assertGreater(row['phase_nonuniformity'], 1e-6)
      else:
        self.assertLess(row['phase_nonuniformity'], 1e-10)

  def test_every_network_learns(self):
    history = records.history(self.workdir)
    self.assertLen(history, len(HEADS) * len(DECODERS))
    for losses in history.values():
      steps, values = losses['cross_entropy']
      self.assertEqual(steps, [4, 8, 12])
      self.assertLess(values[-1], values[0])

  def test_steps_are_timed_apart(self):
    timings = json.loads((self.workdir / 'timings.json').read_text())
    self.assertEqual([row['head'] for row in timings], list(HEADS))
    self.assertGreater(min(min(row['ms_per_step_tconv'],
                               row['ms_per_step_flax']) for row in timings), 0)

  def test_report_says_it_all(self):
    self.assertIn('emi-synthetic', self.text)
    for head, decoder in itertools.product(HEADS, DECODERS):
      mean = np.mean(self.values(
          'pooled_iou', head=head, decoder=decoder, stage='trained'))
      self.assertIn(f'<td>{head}</td><td>{decoder}</td><td>{mean:.4f}</td>',
                    self.text)
    # Two of skips, four of learning, four of grids.
    self.assertEqual(
        len(re.findall('<td>(?:yes|no|cannot tell)</td>', self.text)), 10)


def small(**changes):
  config = config_lib.get_config('smoke')
  config.update({'heads': (8,), 'decoders': ('learned',), 'seeds': (0,),
                 'channels': (2, 2, 2), 'train_images': 16, **changes})
  return config


class ResumeTest(absltest.TestCase):

  def test_an_interrupted_run_ends_as_if_it_had_not_been(self):
    interrupted = batches.shuffled

    def stops(*args, **options):
      self.assertEqual((options['seed'], options['start']), (5, 0))
      yield from itertools.islice(interrupted(*args, **options), 6)
      raise KeyboardInterrupt

    def examine(network, *args):
      # Batch norm by the statistics of training, not by those of a test.
      for stage in network.encoder:
        self.assertTrue(stage.layers[1].use_running_average)
      return measures.examine(network, *args)

    config, results = small(seeds=(5,)), []
    time_step = mock.patch.object(segmentation, 'time_step', return_value={
        'head': 8, 'ms_per_step_tconv': 1., 'ms_per_step_flax': 1.})
    examined = mock.patch.object(
        segmentation, 'measures', mock.Mock(wraps=measures, examine=examine))
    with mock.patch('builtins.print'), time_step, examined:
      for stop in False, True:
        workdir = workdir_lib.open_workdir(
            self.enter_context(tempfile.TemporaryDirectory()), config)
        if stop:
          with (mock.patch.object(batches, 'shuffled', stops),
                self.assertRaises(KeyboardInterrupt)):
            segmentation.run(config, workdir, command='')
          self.assertLen((workdir / 'metrics.jsonl').read_text().splitlines(),
                         1)
        segmentation.run(config, workdir, command='')
        results.append([(workdir / name).read_text()
                        for name in ('results.json', 'metrics.jsonl')])
    self.assertEqual(*results)


class TrainerTest(parameterized.TestCase):

  @parameterized.parameters('learned', 'frozen')
  def test_what_is_frozen_stays(self, decoder):
    config = small(heads=(4,))
    data = data_lib.load(config)
    network = segmentation.draw(4, decoder, 0, config, data)
    step, begin = segmentation.trainer(network, decoder, config)
    state = begin(network)
    batch = {name: x[:4] for name, x in data.train.items()}
    (params, stats, _), _ = jax.jit(step)(state, batch)
    before, after = (
        jax.tree.leaves(tree) for tree in (
            nnx.state(network, models.ENLARGING), params[0]))
    self.assertLen(after, 2)
    for old, new in zip(before, after):
      self.assertEqual(bool((old == new).all()), decoder == 'frozen')
    for old, new in zip(jax.tree.leaves((state[0][1], state[1])),
                        jax.tree.leaves((params[1], stats))):
      self.assertTrue((old != new).any())


class FolderTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    path = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    for name in 'images', 'annotations/trimaps':
      (path / name).mkdir(parents=True)
    draw = np.random.default_rng(0)
    for i in range(6):
      # Blocks of a colour and class each, named by their red.
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

  def test_it_is_learned_from(self):
    config = self.config(test_images=2, pictures=2, num_steps=2)
    segmentation.check(config)
    workdir = workdir_lib.open_workdir(
        self.enter_context(tempfile.TemporaryDirectory()), config)
    with mock.patch('builtins.print'):
      segmentation.run(config, workdir, command='')
    self.assertLen(json.loads((workdir / 'results.json').read_text()), 4)
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
      segmentation.check(config_lib.get_config(variant))
    with self.assertRaisesRegex(ValueError, "got 'smok'"):
      config_lib.get_config('smok')

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
  def test_useless_values_are_refused(self, field, value):
    config = config_lib.get_config()
    config.update_from_flattened_dict({field: value})
    message = f'^config.{field} must .*; got {re.escape(repr(value))}'
    with self.assertRaisesRegex(workdir_lib.RunError, message):
      segmentation.check(config)

  def test_images_of_a_folder_may_be_larger(self):
    config = config_lib.get_config()
    config.update({'data': 'folder:pets', 'size': 128})
    segmentation.check(config)


if __name__ == '__main__':
  absltest.main()
