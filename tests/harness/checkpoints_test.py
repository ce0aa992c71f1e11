"""Checkpoints that were damaged, and those before them."""

import contextlib
import io
import itertools
import pathlib
import resource
import shutil
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import checkpoints
from experiments.harness import loop
from experiments.harness import workdir as workdir_lib


def step(state, batch):
  """Rounds, and depends on the order of batches."""
  return jax.tree.map(lambda x: .7 * x + batch / 3, state), {'loss': batch}


def train(workdir, num_steps):
  """Gives the state, and what was printed."""
  (workdir / 'metrics.jsonl').touch()
  screen = io.StringIO()
  with contextlib.redirect_stdout(screen):
    state = loop.train(
        step, {'a': jnp.zeros(50), 'b': [jnp.ones((3, 4))]},
        lambda start, shard: map(jnp.float32, itertools.count(start)),
        num_steps=num_steps, log_every=2, save_every=4, label='job',
        workdir=workdir)
  return state, screen.getvalue()


class DamageTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    cls.whole = folder / 'whole'
    cls.whole.mkdir()
    train(cls.whole, 8)
    cls.expected, _ = train(folder, 10)

  def setUp(self):
    super().setUp()
    # Each test has a copy to damage.
    self.workdir = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())) / 'run'
    shutil.copytree(self.whole, self.workdir)

  def spoil(self, step, name='default/manifest.ocdbt'):
    file = self.workdir / 'checkpoints/job' / str(step) / name
    file.write_bytes(file.read_bytes()[:9])

  def test_the_one_before_is_taken(self):
    self.spoil(8)
    state, shown = train(self.workdir, 10)
    chex.assert_trees_all_equal(state, self.expected)
    aside = self.workdir / 'checkpoints/job-8-damaged'
    self.assertRegex(
        shown, f'^job: the checkpoint of step 8 is damaged, and moved to '
        f'{aside}: .*\njob: resumes after step 4.\n')
    # Nothing is lost, and nothing in the way of the step as it is saved again.
    self.assertTrue((aside / 'default').is_dir())
    self.assertTrue((self.workdir / 'checkpoints/job/8').is_dir())

  def test_all_are_damaged(self):
    self.spoil(8)
    train(self.workdir, 8)
    self.spoil(8)  # The same damage twice.
    self.spoil(4, 'SHA256SUMS')
    state, shown = train(self.workdir, 10)
    chex.assert_trees_all_equal(state, self.expected)
    self.assertEqual(shown.count('is damaged'), 2)
    self.assertNotIn('resumes', shown)

  @parameterized.named_parameters(
      ('changed', '_CHECKPOINT_METADATA', lambda file: file.write_bytes(b'')),
      ('removed', '_CHECKPOINT_METADATA', pathlib.Path.unlink),
      ('renamed', '_CHECKPOINT_METADATA',
       lambda file: file.rename(file.with_name('other'))),
      ('added', 'new', pathlib.Path.touch),
      # The run ended before they were written.
      ('without_sums', 'SHA256SUMS', pathlib.Path.unlink))
  def test_any_file_counts(self, name, change):
    change(self.workdir / 'checkpoints/job/8' / name)
    state, shown = train(self.workdir, 10)
    self.assertIn('it has no SHA256SUMS, as when a run ends'
                  if name == 'SHA256SUMS' else
                  'its files are not as they were written', shown)
    self.assertIn('resumes after step 4', shown)
    chex.assert_trees_all_equal(state, self.expected)

  @parameterized.named_parameters(
      ('names', {'c': jnp.zeros(50), 'b': [jnp.ones((3, 4))]}, 'mismatch'),
      ('shapes', {'a': jnp.zeros(50), 'b': [jnp.ones((3, 5))]},
       r'it has arrays of shapes \[\(3, 4\)\], not \[\(3, 5\)\]'))
  def test_a_whole_one_of_another_state_stays(self, state, why):
    with checkpoints.Checkpoints(self.workdir, 'job') as opened:
      with self.assertRaisesRegex(
          workdir_lib.RunError, '^job: the checkpoint of step 8 is whole, but '
          f'cannot be read as a state of this program; .*{why}.*\\Z'):
        opened.newest(state)
    _, shown = train(self.workdir, 10)
    self.assertStartsWith(shown, 'job: resumes after step 8.')

  def test_a_full_disk_is_one_line(self):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
    state = {'a': np.random.default_rng(0).standard_normal(100_000)}
    with checkpoints.Checkpoints(self.workdir, 'job') as opened:
      # No file may be larger: as good as a full disk.
      resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
      with self.assertRaisesRegex(
          workdir_lib.RunError, '^job: the checkpoint of step 9 cannot be '
          r'written: .*\Z'):
        opened.save(9, state)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    _, shown = train(self.workdir, 10)
    self.assertStartsWith(shown, 'job: resumes after step 8.')


if __name__ == '__main__':
  absltest.main()
