"""The command for a GPU, on a CPU: what it tests, measures, skips and keeps."""

import dataclasses
import io
import json
import pathlib
import re
import subprocess
import tempfile
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import rich.console

from configs import benchmark as configs
from experiments import gpu
from experiments.timing import calls
from experiments.timing import enqueued
from experiments.timing import gpu_tables
from experiments.timing import layers
from experiments.timing import through_jax

TINY = layers.Layer('tiny', 'nobody', 1, (3,), 4, 4, 4, 2, 1, groups=4)


def entry(forward, failed=()):
  """An entry as `enqueued.measure` gives it, with one round and precision."""
  times = {name: [time] for name, time in forward.items()}
  kinds = lambda value: {'TF32': {'forward': value, 'training': value}}
  return {**TINY.facts(), 'milliseconds': kinds(times),
          'failed': kinds(dict(failed))}


class FolderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.out = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))
    self.screen = io.StringIO()
    self.console = rich.console.Console(file=self.screen, width=200)

  def run_tests(self, **files):
    (self.out / 'tests').mkdir()
    for name, text in files.items():
      (self.out / 'tests' / f'{name}_test.py').write_text(text)
    with mock.patch.object(gpu, '_ROOT', self.out):
      return gpu.test(60, self.out, self.console)

  def test_marked_tests_run_and_failures_are_named(self):
    outcome, passed = self.run_tests(
        marked=f'import pytest\n@{gpu.MARK}\ndef test_a():\n  assert True\n'
        f'@{gpu.MARK}\ndef test_b():\n  assert 1 == 2\n'
        'def test_c():\n  assert False\n',
        other='import a_package_that_is_not_here\n')
    self.assertStartsWith(outcome, '1 failed, 1 passed, 1 deselected')
    self.assertFalse(passed)
    self.assertIn('test_b FAILED', self.screen.getvalue())
    self.assertIn('assert 1 == 2', (self.out / 'tests.txt').read_text())

  @parameterized.parameters(
      ('a::b PASSED\nc::d ', None, 'stopped after 60 s, with 1 passed', True),
      ('a::b PASSED\nc::d FAILED', None, 'stopped after 60 s', False),
      ('a::b PASSED\nc::d ', -6, 'ended by signal 6, with 1 passed', False))
  def test_whatever_ends_them(self, printed, code, line, expected):
    def run(command, *, stdout, timeout, **options):
      stdout.write(printed)
      if code is None:
        raise subprocess.TimeoutExpired(command, timeout)
      return subprocess.CompletedProcess(command, code)

    with mock.patch.object(subprocess, 'run', run):
      outcome, passed = self.run_tests()
    self.assertStartsWith(outcome, line)
    self.assertEqual(passed, expected)

  def test_what_was_measured_is_kept(self):
    now = [0]
    first = entry({'tconv': 1, 'tconv.nnx': 2, 'lax': 3},
                  {'flax': 'has no groups'})
    results = [first, first, KeyboardInterrupt]

    def measured(*_):
      now[0] += 40  # Seconds for each layer, of 60 in all.
      result = results.pop(0)
      if isinstance(result, type):
        raise result
      return result

    self.enter_context(mock.patch.object(time, 'monotonic', lambda: now[0]))
    self.enter_context(mock.patch.object(enqueued, 'measure', measured))
    config = configs.get_config('gpu_smoke')
    config.update(precisions=('TF32',))
    facts = {'tests': 'all well', 'command': 'a command'}
    gpu.measure(config, facts, 60, self.out, self.console)
    text = self.screen.getvalue()
    self.assertIn('the time is over: tiny depthwise. ', text)
    self.assertIn('--config.first=2', text)
    self.assertIn('Skipped flax in TF32 forward, TF32 training: has no', text)
    with self.assertRaises(KeyboardInterrupt):
      gpu.measure(config, facts, 999, self.out, self.console)
    # Of the first run, as nothing was measured in the second.
    found = json.loads((self.out / 'gpu.json').read_text())
    self.assertEqual(found['layers'], json.loads(json.dumps(
        {'tiny': first, 'tiny 3-D': first})))
    report = (self.out / 'cpu.md').read_text()
    for words in ('Measured on cpu by `a command`', 'all well', 'has no groups',
                  '| TF32, forward: lax / tconv | >= 0.95, every layer | '
                  '1.50 at tiny'):
      self.assertIn(words, report)


class EnqueuedTest(parameterized.TestCase):

  def test_a_layer_is_measured_and_failures_are_noted(self):
    def torch(layer, arrays, kind, dtype, count, *, tf32):
      self.assertEqual((kind, dtype, count), ('forward', 'float32', 2))
      if tf32:
        raise OSError('no driver\nand more')
      call = through_jax.build('lax', layer, arrays, kind)
      return calls.Call(call.run, lambda outputs: [
          1.002 * array for array in call.read(outputs)])

    with mock.patch.object(calls, 'KINDS', ('forward',)):
      found = enqueued.measure(TINY, ('float32', 'TF32'), 2, 2, torch)
    for precision, why in (('float32', 'torch: the output is wrong by 2.0e-03'),
                           ('TF32', 'OSError: no driver')):
      times = found['milliseconds'][precision]['forward']
      self.assertEqual(set(times), {'lax', 'tconv', 'tconv.nnx'})
      for rounds in times.values():
        self.assertLen(rounds, 2)
        self.assertGreater(min(rounds), 0)
      failed = found['failed'][precision]['forward']
      self.assertEqual(failed['flax'], 'has no groups')
      self.assertStartsWith(failed['torch'], why)
      self.assertNotIn('more', failed['torch'])

  def test_all_programs_have_the_precision(self):
    found = []
    right = through_jax.lowered_steps

    def lowered_steps(*arguments):
      lowered, call_of = right(*arguments)
      found.append(lowered.as_text())
      return lowered, call_of

    with mock.patch.object(
        through_jax, 'lowered_steps', lowered_steps), mock.patch.object(
            calls, 'KINDS', ('forward',)):
      enqueued.measure(dataclasses.replace(TINY, groups=1),
                       ('float32', 'TF32'), 1, 1, None)
    self.assertEqual([set(re.findall('HIGHEST|DEFAULT', text))
                      for text in found], [{'HIGHEST'}] * 4 + [{'DEFAULT'}] * 4)

  def test_every_step_of_a_program_is_run(self):
    counted = []

    def count(inputs, kernel):
      jax.debug.callback(lambda: counted.append(1))
      return inputs + kernel.sum()

    shapes = through_jax.program('tconv', TINY, 'forward')[1]
    with mock.patch.object(
        through_jax, 'program', lambda *arguments: (count, shapes)):
      lowered, call_of = through_jax.lowered_steps(
          'tconv', TINY, TINY.arrays(), 'forward', 'float32', 7)
    call = call_of(lowered.compile())
    call.wait(call.run())
    self.assertLen(counted, 7)

  def test_the_slower_of_ours_is_compared(self):
    times = {'tconv': 2, 'tconv.nnx': 4, 'lax': 6}
    ratio = lambda: gpu_tables.ratio(entry(times), 'TF32', 'forward', 'lax')
    self.assertEqual(ratio(), 1.5)
    del times['tconv.nnx']  # What failed is not compared.
    self.assertIsNone(ratio())


if __name__ == '__main__':
  absltest.main()
