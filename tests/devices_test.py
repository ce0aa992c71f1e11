"""Trainings on one, two and four devices, and in two processes."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import grain
import jax
import jax.numpy as jnp
import numpy as np

from configs import segmentation as segmentation_config
from configs import upsampling as upsampling_config
from experiments.data import batches
from experiments.data import photographs
from experiments.harness import checks
from experiments.harness import devices
from experiments.harness import loop
from experiments.harness import workdir as workdir_lib
from experiments.studies import segmentation
from experiments.studies import segmentation_data
from experiments.studies import upsampling

ROOT = pathlib.Path(__file__).parents[1]


def mesh(number):
  return jax.sharding.Mesh(jax.devices()[:number], ('batch',))


def learn_upsampling(config, workdir):
  pairs = [photographs.downsampled_pair(photographs.load(name), 2)
           for name in photographs.TRAIN]
  upsampling.learn('transposed k4', 0, 2, config, pairs, workdir=workdir)


def learn_segmentation(config, workdir):
  """With batch norm, whose means are over all devices."""
  data = segmentation_data.load(config)
  network = segmentation.draw(4, 'learned', 0, config, data)
  step, begin = segmentation.trainer(network, 'learned', config)
  loop.train(
      step, begin(network), functools.partial(
          batches.shuffled, data.train, batch_size=config.batch_size,
          num_batches=config.num_steps, seed=0),
      num_steps=config.num_steps, log_every=config.log_every,
      save_every=config.save_every, label='x', workdir=workdir)


class LossesTest(parameterized.TestCase):

  @parameterized.parameters(
      (learn_upsampling, upsampling_config), (learn_segmentation,
                                              segmentation_config))
  def test_losses_are_those_of_one_device(self, learn, config_lib):
    config = config_lib.get_config('smoke')
    config.update({'num_steps': 50, 'log_every': 1, 'save_every': 50})
    losses = []
    for number in 1, 2, 4:
      workdir = workdir_lib.open_workdir(
          self.enter_context(tempfile.TemporaryDirectory()), config)
      with (mock.patch('builtins.print'),
            mock.patch.object(devices, '_mesh', lambda n=number: mesh(n))):
        learn(config, workdir)
      [curves] = records.history(workdir).values()
      [(_, values)] = curves.values()
      self.assertLen(values, 50)
      losses.append(values)
    np.testing.assert_allclose(losses[1:], losses[:1] * 2, atol=1e-5)
    self.assertGreater(losses[0][0], 1.1 * losses[0][-1])


class ProcessesTest(absltest.TestCase):

  def test_two_processes_give_what_one_gives(self):
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    arguments = ['--config=configs/upsampling.py:smoke',
                 "--config.upsamplers=('transposed k4',)",
                 '--config.num_steps=50', '--config.log_every=1']
    for name, program in (('one', ['main']),
                          ('two', ['launch', '--num_processes=2'])):
      subprocess.run(
          [sys.executable, '-m', f'experiments.{program[0]}', *program[1:],
           *arguments, f'--workdir={folder / name}'],
          cwd=ROOT, check=True, capture_output=True,
          # A device for each.
          env={**os.environ, 'XLA_FLAGS': '--xla_backend_optimization_level=0'})
    one, two = (records.history(folder / name)['x2 transposed k4, seed 0']
                for name in ('one', 'two'))
    self.assertLen(one['mse'][1], 50)
    chex.assert_trees_all_close(two, one, atol=1e-5)
    settings = json.loads((folder / 'two/config.json').read_text())
    self.assertStartsWith(settings['device'], '2 x cpu')
    first, second = (json.loads((folder / name / 'results.json').read_text())
                     for name in ('one', 'two'))
    self.assertEqual(len(first), len(second))
    for row, other in zip(first, second):
      self.assertAlmostEqual(row['psnr_db'], other['psnr_db'], delta=1e-3)
    self.assertTrue((folder / 'two/report.html').exists())


class PlacementTest(absltest.TestCase):

  def test_a_batch_is_shared_and_a_state_is_not(self):
    batch = devices.shard_batch({'image': np.arange(8.), 'rate': np.float32(1)})
    self.assertEqual(
        [shard.data.tolist() for shard in batch['image'].addressable_shards],
        [[0, 1], [2, 3], [4, 5], [6, 7]])
    self.assertTrue(batch['rate'].is_fully_replicated)
    state = devices.replicate({'w': jnp.arange(3.)})
    self.assertTrue(state['w'].is_fully_replicated)
    self.assertLen(state['w'].addressable_shards, 4)
    self.assertLen(devices.to_local(state)['w'].devices(), 1)
    chex.assert_trees_all_equal(devices.to_local(state), {'w': jnp.arange(3.)})

  def test_processes_share_each_batch(self):
    data = {'label': np.arange(20)}
    options = {'batch_size': 6, 'num_batches': 7, 'seed': 1, 'start': 2}
    whole = [batch['label'] for batch in batches.shuffled(data, **options)]
    parts = [[batch['label'] for batch in batches.shuffled(
        data, **options, shard=grain.sharding.ShardOptions(i, 3))]
             for i in range(3)]
    self.assertLen(whole, 5)
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)

  def test_a_batch_that_cannot_be_shared_is_refused(self):
    config = upsampling_config.get_config('smoke')
    config.batch_size = 6
    with self.assertRaisesRegex(
        workdir_lib.RunError,
        'config.batch_size must be a multiple of the number of devices, 4; '
        'got 6'):
      checks.loop(config)


if __name__ == '__main__':
  absltest.main()
