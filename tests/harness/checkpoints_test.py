"""Checkpoints that were damaged, and those before them."""

import contextlib
import io
import itertools
import pathlib
import resource
import shutil
import subprocess
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
    self.spoil(4, 'SHA256SUMS')
    state, shown = train(self.workdir, 10)
    chex.assert_trees_all_equal(state, self.expected)
    self.assertEqual(shown.count('is damaged'), 2)
    self.assertNotIn('resumes', shown)

  @parameterized.named_parameters(
      dict(testcase_name='changed', change=lambda file: file.write_bytes(b'')),
      dict(testcase_name='removed', change=pathlib.Path.unlink),
      dict(testcase_name='renamed',
           change=lambda file: file.rename(file.with_name('other'))),
      dict(testcase_name='added',
           change=lambda file: file.with_name('new').touch()))
  def test_any_file_counts(self, change):
    change(self.workdir / 'checkpoints/job/8/_CHECKPOINT_METADATA')
    state, shown = train(self.workdir, 10)
    self.assertIn('its files are not as they were written', shown)
    self.assertIn('resumes after step 4', shown)
    chex.assert_trees_all_equal(state, self.expected)

  def test_ended_before_the_sums(self):
    (self.workdir / 'checkpoints/job/8/SHA256SUMS').unlink()
    state, shown = train(self.workdir, 10)
    self.assertIn('it has no SHA256SUMS, as when a run ends', shown)
    chex.assert_trees_all_equal(state, self.expected)

  def test_the_sums_are_those_of_sha256sum(self):
    folder = self.workdir / 'checkpoints/job/8'
    check = lambda: subprocess.run(
        ['sha256sum', '--check', '--strict', 'SHA256SUMS'], cwd=folder,
        capture_output=True, text=True, check=False)
    self.assertEqual(check().returncode, 0, check().stdout)
    self.spoil(8)
    self.assertIn('default/manifest.ocdbt: FAILED', check().stdout)

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

  def test_the_same_damage_twice(self):
    for num_steps in (8, 10):
      self.spoil(8)
      state, shown = train(self.workdir, num_steps)
      self.assertIn('step 8 is damaged', shown)
    chex.assert_trees_all_equal(state, self.expected)


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
    self.assertStartsWith(shown, 'job: resumes after step 8.')


if __name__ == '__main__':
  absltest.main()
