"""The whole benchmark on tiny layers, and what stops it."""

import io
import json
import os
import pathlib
import sys
import tempfile
from unittest import mock

from absl import app
from absl.testing import absltest
from absl.testing import parameterized
import jax
import ml_collections
import rich.console

from experiments import benchmark
from experiments.harness import workdir
from experiments.timing import contractions
from experiments.timing import costs
from experiments.timing import measure
from experiments.timing import peers
from tconv import tuning_cache
from tests.timing.entries import entry

TINY = ('tiny', 'a paper', 2, (3, 4), 5, 3, 4, 2, 1)
GROUPED = ('grouped', 'another', 1, (4,), 4, 4, 3, 2, 0, 1, 1, 2)
SERIES = {'size': (('8x8', '', 1, (4, 4), 2, 2, 4, 2, 1),),
          'stride': (('s2', '', 1, (4,), 2, 2, 4, 2, 1),)}


class BenchmarkTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.out = pathlib.Path(folder) / 'new' / 'folder'
    self.screen = io.StringIO()

  def run_on(self, *layers, **series):
    config = ml_collections.ConfigDict({
        'layers': layers, 'series': series, 'repeats': 2,
        'out': str(self.out)})
    benchmark.run(config, rich.console.Console(file=self.screen, width=200),
                  command='a command')

  def read(self):
    return json.loads((self.out / 'benchmark.json').read_text())

  def test_all_is_measured_and_written(self):
    # Some forms are enough here, and one compilation that is counted.
    few = mock.Mock(FORMS=('lax', 'overlap_add'))
    with mock.patch.object(contractions, 'dispatch', few), mock.patch.object(
        costs, '_REPEATS', 1):
      self.run_on(GROUPED, **SERIES)
    builders, skipped = peers.available()
    found = self.read()
    self.assertEqual(found['threads'], tuning_cache.cores())
    self.assertEqual(found['command'], 'a command')
    self.assertContainsSubset({'python', 'jax', 'flax'}, found['versions'])
    self.assertEqual(set(found['skipped']), set(skipped))
    layer = found['layers']['grouped']
    for kind in 'forward', 'training':
      times = layer['milliseconds'][kind]
      self.assertEqual(set(builders), set(times) | set(layer['skipped'][kind]))
      self.assertContainsSubset({'tconv', 'lax'}, times)
      self.assertIn('flax', layer['skipped'][kind])
      for rounds in times.values():
        self.assertLen(rounds, 2)
        self.assertGreater(min(rounds), 0)
      self.assertGreater(layer['first_call_ms'][kind]['tconv'], 0)
      self.assertContainsSubset(
          {'tconv', 'lax'}, layer['temporary_bytes'][kind])
    self.assertEqual(
        {name: list(contraction['milliseconds'])
         for name, contraction in layer['contractions'].items()},
        dict.fromkeys(('conv', 'conv_transpose', 'conv_kernel_grad'),
                      ['auto', 'lax', 'overlap_add']))
    self.assertEqual({name: list(row) for name, row in found['series'].items()},
                     {'size': ['8x8'], 'stride': ['s2']})
    report = (self.out / 'benchmark.md').read_text()
    for text in report, self.screen.getvalue():
      for word in ('grouped', 'lax / tconv', 's2', '8x8', 'a command',
                   f'jax {found["versions"]["jax"]}', 'another', *skipped):
        self.assertIn(word, text)
    self.assertTrue((self.out / 'benchmark.png').read_bytes().startswith(
        b'\x89PNG'))

  @parameterized.parameters(KeyboardInterrupt, workdir.RunError)
  def test_what_was_measured_is_not_lost(self, error):
    first = entry(forward={'tconv': 1, 'lax': 3})
    with mock.patch.object(measure, 'measure', side_effect=[first, error]):
      with self.assertRaises(error):
        self.run_on(TINY, GROUPED)
    self.assertEqual(self.read()['layers'], {'tiny': first})
    self.assertIn('3.00 at tiny', (self.out / 'benchmark.md').read_text())
    self.assertIn('3.00 at tiny', self.screen.getvalue())
    self.assertTrue((self.out / 'benchmark.png').exists())

  def test_without_any_other_peer(self):
    missing = {name: None for name in ('torch', 'onnx', 'onnxruntime')}
    modules = {name: module for name, module in sys.modules.items()
               if not name.startswith('experiments.timing.through_')}
    first = entry(forward={'tconv': 1, 'lax': 3})
    with mock.patch.dict(
        sys.modules, {**modules, **missing}, clear=True), mock.patch.object(
            measure, 'measure', return_value=first):
      self.run_on(TINY)
    report = (self.out / 'benchmark.md').read_text()
    for name in 'torch', 'onnxruntime':
      self.assertNotIn(name, self.read()['versions'])
      for text in report, self.screen.getvalue():
        self.assertRegex(text, f'Skipped {name}: .*(extra "peers")')


class MainTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.dict(os.environ))
    self.enter_context(mock.patch.object(jax.config, 'update'))

  @parameterized.parameters(
      (workdir.RunError('x differs'), 'error: x differs'),
      (KeyboardInterrupt, 130))
  def test_what_stops_it_is_one_clear_line(self, error, code):
    with mock.patch.object(benchmark, 'run', side_effect=error):
      with self.assertRaises(SystemExit) as stopped:
        benchmark.main(['x'], ml_collections.ConfigDict())
    self.assertEqual(stopped.exception.code, code)

  def test_nothing_of_yesterday_counts(self):
    kept = os.environ['XDG_CACHE_HOME'] = tempfile.mkdtemp()

    def run(config, console, *, command):
      del config, console
      self.assertStartsWith(command, 'python -m experiments.benchmark')
      self.assertNotEqual(os.environ['XDG_CACHE_HOME'], kept)
      self.assertEmpty(os.listdir(os.environ['XDG_CACHE_HOME']))

    self.addCleanup(os.rmdir, kept)
    with mock.patch.object(benchmark, 'run', run):
      benchmark.main(['x'], ml_collections.ConfigDict())
    jax.config.update.assert_called_once_with(
        'jax_enable_compilation_cache', False)

  def test_mistakes_are_named(self):
    with self.assertRaisesRegex(app.UsageError, "'too much'"):
      benchmark.main(['x', 'too much'], ml_collections.ConfigDict())
    config = ml_collections.ConfigDict({'out': '/dev/null/here'})
    with self.assertRaisesRegex(SystemExit, 'error: .*/dev/null/here'):
      benchmark.main(['x'], config)


if __name__ == '__main__':
  absltest.main()
