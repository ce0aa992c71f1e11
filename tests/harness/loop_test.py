"""The loop: steps, metrics on every medium, and the end of a bad run."""

import contextlib
import io
import itertools
import json
import pathlib
import struct
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
from tensorboardX.proto import event_pb2

from experiments.harness import events
from experiments.harness import loop
from experiments.harness import records
from experiments.harness import workdir


def count(state, batch):
  """A step whose metrics say what it was given."""
  return state + 1, {'loss': batch, 'state': state}


class TrainTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = self.new_workdir()

  def new_workdir(self):
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    (folder / 'metrics.jsonl').touch()
    return folder

  def train(self, step=count, batches=None, **options):
    """Trains, and returns the state and what was printed."""
    options = {'num_steps': 10, 'log_every': 4, 'save_every': 4,
               'label': 'counter', 'workdir': self.workdir, **options}
    batches = batches or map(jnp.float32, itertools.count())
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
      state = loop.train(
          step, jnp.zeros(()),
          lambda start, shard: itertools.islice(batches, start, None),
          **options)
    return state, screen.getvalue()

  def logged(self, workdir=None):
    text = ((workdir or self.workdir) / 'metrics.jsonl').read_text()
    return [json.loads(line) for line in text.splitlines()]

  def test_takes_the_steps_and_records_means(self):
    batches = map(jnp.float32, itertools.count())
    state, shown = self.train(batches=batches)
    self.assertEqual(state, 10)
    self.assertEqual(next(batches), 10)  # No batch is drawn in vain.
    self.assertEqual(shown, 'counter: step 10 of 10, loss 8.5, state 8.5\n')
    self.assertEqual(self.logged(), [
        {'run': 'counter', 'step': 4, 'loss': 1.5, 'state': 1.5},
        {'run': 'counter', 'step': 8, 'loss': 5.5, 'state': 5.5},
        {'run': 'counter', 'step': 10, 'loss': 8.5, 'state': 8.5}])
    self.train(label='second', num_steps=4)
    curves = records.history(self.workdir)
    self.assertEqual(list(curves), ['counter', 'second'])
    self.assertEqual(
        curves['counter']['loss'], ([4, 8, 10], [1.5, 5.5, 8.5]))

  @parameterized.parameters(('nan', 1), ('inf', 6), ('-inf', 8), ('nan', 10))
  def test_a_metric_that_is_not_finite_stops(self, bad, at):
    batches = (jnp.float32(bad if i == at else 1) for i in itertools.count(1))
    with self.assertRaisesRegex(
        workdir.RunError, rf'^counter: loss is {bad} at step {at}; stopped.$'):
      self.train(batches=batches)
    # What was written before the bad step stays; nothing is after it.
    self.assertLen(self.logged(), (at - 1) // 4)
    state, shown = self.train()
    self.assertEqual(state, 10)
    if at > 4:
      self.assertStartsWith(
          shown, f'counter: resumes after step {(at - 1) // 4 * 4}.\n')

  def test_a_complete_training_is_skipped(self):
    self.train(num_steps=15)
    kept = (self.workdir / 'checkpoints/counter').iterdir()
    self.assertCountEqual([path.name for path in kept], ['12', '15'])
    logged = self.logged()
    state, shown = self.train(step=None, num_steps=15)
    self.assertEqual(state, 15)
    self.assertEqual(shown, 'counter: already complete, skipped.\n')
    self.assertEqual(self.logged(), logged)

  def test_an_interrupted_training_ends_the_same(self):
    def average(state, batch):  # Rounds, and depends on the order of batches.
      return .7 * state + batch / 3, {'loss': batch, 'state': state}

    def interrupted(at):
      yield from map(jnp.float32, range(at))
      raise KeyboardInterrupt

    options = {'step': average, 'label': 'x2 a+b, seed 0', 'log_every': 2,
               'num_steps': 11}
    expected, _ = self.train(**options)
    for at in 3, 6, 10:
      parts = self.new_workdir()
      with self.assertRaises(KeyboardInterrupt):
        self.train(batches=interrupted(at), workdir=parts, **options)
      with open(parts / 'metrics.jsonl', 'a') as file:
        file.write(json.dumps({'run': 'other', 'step': 99}) + '\n'
                   + '{"run": "x2 a+b, se')  # Cut off as it was written.
      state, shown = self.train(workdir=parts, **options)
      self.assertEqual('resumes' in shown, at >= 4)
      self.assertEqual(state, expected)
      other, = (line for line in self.logged(parts) if line['run'] == 'other')
      rest = [line for line in self.logged(parts) if line != other]
      self.assertEqual(rest, self.logged())

  @parameterized.parameters(
      '[' * 200_000, '[]', '{"run": "counter"}', '{"run": 1, "step": 2}',
      '{"run": ["counter"], "step": 2}', '{"run": "counter", "step": "2"}',
      '{"run": "counter", "step": 2, "loss": {}}')
  def test_lines_of_other_programs_are_left_out(self, line):
    file = self.workdir / 'metrics.jsonl'
    file.write_text(f'{line}\n')
    with records.Record(self.workdir, 'counter', 0, 9) as record:
      record.add(4, {'loss': 1.5})
    self.assertLen(self.logged(), 1)
    file.write_text(file.read_text() + line)
    self.assertEqual(records.history(self.workdir),
                     {'counter': {'loss': ([4], [1.5])}})


def read_events(folder):
  """The events of all files: records of a length, a sum, data, and a sum."""
  for file in sorted(folder.iterdir()):
    content = file.read_bytes()
    while content:
      length, = struct.unpack('<Q', content[:8])
      yield event_pb2.Event.FromString(content[12:12 + length])
      content = content[16 + length:]


class EventsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())) / 'a' / 'b'

  def test_numbers_are_there_at_once(self):
    with events.Events(self.folder, 6) as opened:
      opened.add(8, {'loss': 1.5, 'norm': 2.})
      opened.add(10, {'loss': 1.25, 'norm': 3.})
      version, start, *numbers = read_events(self.folder)
    self.assertEqual(version.file_version, 'brain.Event:2')
    # TensorBoard leaves out what it has of this step and of later ones.
    self.assertEqual(start.session_log.status, event_pb2.SessionLog.START)
    self.assertEqual(start.step, 7)
    self.assertEqual(
        [(event.step, value.tag, value.simple_value)
         for event in numbers for value in event.summary.value],
        [(8, 'loss', 1.5), (8, 'norm', 2), (10, 'loss', 1.25),
         (10, 'norm', 3)])


if __name__ == '__main__':
  absltest.main()
