"""Batches and states on one, two and four devices, with the same losses."""

import contextlib
import io
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
import chex
import grain
import jax
import jax.numpy as jnp
import numpy as np

from configs import segmentation as config_lib
from experiments.data import batches
from experiments.harness import checks
from experiments.harness import devices
from experiments.harness import loop
from experiments.harness import records
from experiments.harness import workdir as workdir_lib
from experiments.studies import segmentation


class DevicesTest(absltest.TestCase):

  def test_losses_are_those_of_one_device(self):
    # With batch norm, whose means are over all devices.
    config = config_lib.get_config('smoke')
    config.update({'num_steps': 50, 'heads': (4,), 'decoders': ('learned',),
                   'train_images': 16})
    study = segmentation.Study(config)
    study.load()
    training = next(iter(study.trials())).training
    losses = []
    for number in 1, 2, 4:
      workdir = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
      (workdir / 'metrics.jsonl').touch()
      mesh = jax.sharding.Mesh(jax.devices()[:number], ('batch',))
      with (contextlib.redirect_stdout(io.StringIO()),
            mock.patch.object(devices, '_mesh', lambda mesh=mesh: mesh)):
        loop.train(training.step, training.state, training.batches,
                   num_steps=50, log_every=1, save_every=50, label='x',
                   workdir=workdir)
      losses.append(records.history(workdir)['x']['cross_entropy'][1])
    self.assertLen(losses[0], 50)
    np.testing.assert_allclose(losses[1:], losses[:1] * 2, atol=1e-5)
    self.assertGreater(losses[0][0], 1.1 * losses[0][-1])

  def test_a_batch_is_sharded_and_a_state_is_replicated(self):
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
    config = config_lib.get_config('smoke')
    config.batch_size = 6
    with self.assertRaisesRegex(
        workdir_lib.RunError, 'config.batch_size must be a multiple of the '
        'number of devices, 4; got 6'):
      checks.loop(config)


if __name__ == '__main__':
  absltest.main()
