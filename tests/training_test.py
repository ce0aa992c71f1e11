"""The loop: steps, metrics, progress, and the end of a bad run."""

import contextlib
import io
import itertools
import json
import os
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp

from experiments.harness import loop
from experiments.harness import workdir


def count(state, batch):
  """A step whose metrics say what it was given."""
  return state + 1, {'loss': batch, 'state': state}


class TrainTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.workdir = pathlib.Path(folder)
    self.file = self.workdir / 'metrics.jsonl'
    self.file.touch()

  def train(self, step=count, batches=None, **options):
    """Trains without showing, and returns the state and what was printed."""
    options = {'num_steps': 10, 'log_every': 4, 'save_every': 4,
               'label': 'counter', **options}
    batches = batches or map(jnp.float32, itertools.count())
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
      state = loop.train(
          step, jnp.zeros(()),
          lambda start, shard: itertools.islice(batches, start, None),
          workdir=self.workdir, **options)
    return state, screen.getvalue()

  def logged(self):
    return [json.loads(line) for line in self.file.read_text().splitlines()]

  def test_takes_the_steps_and_no_batch_more(self):
    batches = map(jnp.float32, itertools.count())
    state, _ = self.train(batches=batches)
    self.assertEqual(state, 10)
    self.assertEqual(next(batches), 10)

  def test_writes_means_since_the_last_line(self):
    self.train()
    self.assertEqual(self.logged(), [
        {'run': 'counter', 'step': 4, 'loss': 1.5, 'state': 1.5},
        {'run': 'counter', 'step': 8, 'loss': 5.5, 'state': 5.5},
        {'run': 'counter', 'step': 10, 'loss': 8.5, 'state': 8.5}])

  def test_lines_of_a_second_training_come_after(self):
    self.train(label='first', num_steps=1)
    self.train(label='second', num_steps=1)
    self.assertEqual([line['run'] for line in self.logged()],
                     ['first', 'second'])

  def test_state_is_any_pytree(self):
    step = lambda state, batch: (
        {'sum': state['sum'] + batch['x'].sum()}, {'loss': state['sum']})
    with contextlib.redirect_stdout(io.StringIO()):
      state = loop.train(
          step, {'sum': jnp.zeros(())},
          lambda start, shard: itertools.repeat({'x': jnp.ones(4)}),
          num_steps=5, log_every=2, save_every=2, label='sum',
          workdir=self.workdir)
    self.assertEqual(state, {'sum': 20})

  @parameterized.product(bad=['nan', 'inf', '-inf'], at=[1, 6, 8, 10])
  def test_a_loss_that_is_no_number_stops(self, bad, at):
    batches = (jnp.float32(bad if i >= at else 1) for i in range(1, 100))
    with self.assertRaisesRegex(
        workdir.RunError, rf'^counter: loss is {bad} at step {at}; stopped.$'):
      self.train(batches=batches)
    # What was written before the bad step stays; nothing after it.
    self.assertLen(self.logged(), (at - 1) // 4)

  def test_every_metric_is_watched(self):
    step = lambda state, batch: (state, {'loss': batch, 'norm': 1 / state})
    with self.assertRaisesRegex(workdir.RunError, 'norm is inf at step 1;'):
      self.train(step)

  def test_nothing_is_saved_after_a_bad_step(self):
    batches = (jnp.float32('nan' if i == 6 else 1) for i in range(1, 100))
    with self.assertRaises(workdir.RunError):
      self.train(batches=batches)
    state, shown = self.train()
    self.assertEqual(state, 10)
    self.assertStartsWith(shown, 'counter: goes on after step 4.\n')

  def test_a_finished_training_is_not_done_again(self):
    self.train()
    logged = self.logged()
    state, shown = self.train(step=None)
    self.assertEqual(state, 10)
    self.assertEqual(shown, 'counter: was trained already.\n')
    self.assertEqual(self.logged(), logged)

  @parameterized.parameters(*range(1, 11))
  def test_an_interrupted_training_ends_the_same(self, at):
    def average(state, batch):  # Rounds, and depends on the order of batches.
      return .7 * state + batch / 3, {'loss': batch, 'state': state}

    def interrupted():
      for i in range(at):
        yield jnp.float32(i)
      raise KeyboardInterrupt

    options = {'step': average, 'label': 'x2 a+b, seed 0', 'log_every': 2}
    with self.assertRaises(KeyboardInterrupt):
      self.train(batches=interrupted(), num_steps=11, **options)
    self.train(label='other')
    with open(self.file, 'a') as file:
      file.write('{"run": "x2 a+b, se')  # Cut off as it was written.
    state, shown = self.train(num_steps=11, **options)
    self.assertEqual('goes on' in shown, at >= 4)
    logged = [line for line in self.logged() if line['run'] != 'other']
    self.assertLen(self.logged(), len(logged) + 3)
    self.workdir = self.workdir / 'undisturbed'
    self.workdir.mkdir()
    self.file = self.workdir / 'metrics.jsonl'
    self.file.touch()
    expected, _ = self.train(num_steps=11, **options)
    self.assertEqual(state, expected)
    self.assertEqual(logged, self.logged())

  def test_history_is_what_was_written(self):
    self.train(label='first', num_steps=6)
    self.train(label='second', num_steps=4)
    curves = records.history(self.workdir)
    self.assertEqual(curves['first'], {
        'loss': ([4, 6], [1.5, 4.5]), 'state': ([4, 6], [1.5, 4.5])})
    self.assertEqual(list(curves), ['first', 'second'])

  @parameterized.parameters(
      '[' * 200_000, '[]', '7', '{"run": "counter"}', '{"run": 1, "step": 2}',
      '{"run": ["counter"], "step": 2}', '{"run": "counter", "step": "2"}',
      '{"run": "counter", "step": null}',
      '{"run": "counter", "step": 2, "loss": "small"}',
      '{"run": "counter", "step": 2, "loss": {}}')
  def test_what_others_wrote_is_left_out(self, line):
    self.file.write_text(line + '\n')
    self.train(num_steps=4)
    self.assertLen(self.logged(), 1)
    self.file.write_text(self.file.read_text() + line)
    self.assertEqual(records.history(self.workdir), {
        'counter': {'loss': ([4], [1.5]), 'state': ([4], [1.5])}})

  def test_two_checkpoints_are_kept(self):
    self.train(num_steps=20)
    kept = (self.workdir / 'checkpoints/counter').iterdir()
    self.assertCountEqual([path.name for path in kept], ['16', '20'])

  def test_plain_lines_are_few(self):
    _, shown = self.train(num_steps=20, log_every=1)
    self.assertEqual(
        shown, 'counter: step 20 of 20, loss 19, state 19\n')

  def test_plain_lines_come_now_and_then(self):
    clock = mock.Mock(monotonic=mock.Mock(side_effect=itertools.count(0, 4)))
    with mock.patch.object(training, 'time', clock):
      _, shown = self.train(num_steps=6, log_every=1)
    self.assertEqual([line.split(',')[0] for line in shown.splitlines()],
                     ['counter: step 3 of 6', 'counter: step 6 of 6'])

  def test_a_terminal_has_a_bar(self):
    with mock.patch.dict(os.environ, {'FORCE_COLOR': '1', 'COLUMNS': '99'}):
      _, shown = self.train()
    self.assertIn('10/10', shown)
    self.assertIn('loss 8.5', shown)
    self.assertNotIn('step 10 of 10', shown)


if __name__ == '__main__':
  absltest.main()
