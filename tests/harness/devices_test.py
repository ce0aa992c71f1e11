"""Batches and states on four devices, and shared by processes."""

from absl.testing import absltest
import chex
import grain
import jax.numpy as jnp
import numpy as np

from configs import segmentation as config_lib
from experiments.data import batches
from experiments.harness import checks
from experiments.harness import devices
from experiments.harness import workdir as workdir_lib


class DevicesTest(absltest.TestCase):

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
