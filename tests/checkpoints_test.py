"""Checkpoints that were damaged, and those before them."""

import contextlib
import io
import itertools
import pathlib
import resource
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import checkpoints
from experiments import training
from experiments import workdir as workdir_lib


def step(state, batch):
  """Rounds, and depends on the order of batches."""
  return jax.tree.map(lambda x: .7 * x + batch / 3, state), {'loss': batch}


def train(workdir, num_steps):
  """Gives the state, and what was printed."""
  (workdir / 'metrics.jsonl').touch()
  screen = io.StringIO()
  with contextlib.redirect_stdout(screen):
    state = training.train(
        step, {'a': jnp.zeros(50), 'b': [jnp.ones((3, 4))]},
        lambda start, shard: map(jnp.float32, itertools.count(start)),
        num_steps=num_steps, log_every=2, save_every=4, label='job',
        workdir=workdir)
  return state, screen.getvalue()


# Orbax leaves other reads alone when one fails; they end with errors of their
# own, which nobody waits for.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
class DamageTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))
    train(self.workdir, 8)
    self.expected, _ = train(pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())), 10)

  def spoil(self, step, name='state/manifest.ocdbt'):
    file = self.workdir / 'checkpoints/job' / str(step) / name
    file.write_bytes(file.read_bytes()[:9])

  def test_the_one_before_is_taken(self):
    self.spoil(8)
    state, shown = train(self.workdir, 10)
    chex.assert_trees_all_equal(state, self.expected)
    aside = self.workdir / 'checkpoints/job-8-damaged'
    self.assertRegex(
        shown, f'^job: the checkpoint of step 8 is damaged, and moved to '
        f'{aside}: .*\njob: goes on after step 4.\n')
    # Nothing is lost, and nothing in the way of the step as it is saved again.
    self.assertTrue((aside / 'state').is_dir())
    self.assertTrue((self.workdir / 'checkpoints/job/8').is_dir())

  def test_all_are_damaged(self):
    self.spoil(8)
    self.spoil(4, 'digest/metadata')
    state, shown = train(self.workdir, 10)
    chex.assert_trees_all_equal(state, self.expected)
    self.assertEqual(shown.count('is damaged'), 2)
    self.assertNotIn('goes on', shown)

  def test_numbers_that_are_not_those_saved(self):
    # As if a bit had changed that no checksum of the files covers.
    with mock.patch.object(checkpoints, '_digest', return_value='other'):
      state, shown = train(self.workdir, 10)
    self.assertIn('its numbers are not those that were saved', shown)
    chex.assert_trees_all_equal(state, self.expected)

  def test_the_same_damage_twice(self):
    for num_steps in (8, 10):
      self.spoil(8)
      state, shown = train(self.workdir, num_steps)
      self.assertIn('step 8 is damaged', shown)
    chex.assert_trees_all_equal(state, self.expected)


class DigestTest(absltest.TestCase):

  def test_it_is_of_all_there_is(self):
    states = [
        {'a': np.zeros(2, np.float32)}, {'b': np.zeros(2, np.float32)},
        {'a': np.array([0, 1], np.float32)}, {'a': np.zeros(2, np.int32)},
        {'a': np.zeros((1, 2), np.float32)}, [np.zeros(2, np.float32)]]
    digests = {checkpoints._digest(state) for state in states}
    self.assertLen(digests, len(states))
    self.assertEqual(checkpoints._digest(states[0]),
                     checkpoints._digest({'a': jnp.zeros(2)}))


class FullDiskTest(absltest.TestCase):

  def test_a_checkpoint_that_cannot_be_written_is_one_line(self):
    workdir = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    train(workdir, 8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
    state = {'a': np.random.default_rng(0).standard_normal(100_000)}
    with checkpoints.Checkpoints(workdir, 'job') as opened:
      # No file may be larger: as good as a full disk.
      resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
      with self.assertRaisesRegex(
          workdir_lib.RunError, '^job: the checkpoint of step 9 cannot be '
          r'written: .*\Z'):
        opened.save(9, state)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    _, shown = train(workdir, 10)
    self.assertStartsWith(shown, 'job: goes on after step 8.')


if __name__ == '__main__':
  absltest.main()
