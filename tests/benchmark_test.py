import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
import ml_collections
import rich.console

from configs import benchmark as benchmark_config
from experiments import benchmark
import tconv

LAYERS = (('tiny', 2, (3, 4), 5, 3, 4, 2, 1),
          ('odd', 1, (4, 4), 2, 2, 3, 2, 0))


class BenchmarkTest(absltest.TestCase):

  def test_measures_every_layer_and_peer(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    out = pathlib.Path(folder) / 'new' / 'times.json'
    screen = io.StringIO()
    benchmark.run(
        ml_collections.ConfigDict(
            {'layers': LAYERS, 'repeats': 2, 'out': str(out)}),
        rich.console.Console(file=screen, width=100))
    times = json.loads(out.read_text())['milliseconds']
    self.assertEqual(list(times), ['tiny', 'odd'])
    for kinds in times.values():
      self.assertEqual(list(kinds), ['forward', 'training'])
      for peers in kinds.values():
        self.assertContainsSubset({'tconv', 'lax'}, peers)
        for values in peers.values():
          self.assertLen(values, 2)
          self.assertGreater(min(values), 0)
    for word in ('tiny', 'odd', 'lax / tconv', str(out)):
      self.assertIn(word, screen.getvalue())

  def test_a_peer_whose_values_differ_is_no_peer(self):
    right = tconv.conv_transpose
    with mock.patch.object(
        tconv, 'conv_transpose', lambda *a, **k: right(*a, **k) * 1.001):
      with self.assertRaisesRegex(AssertionError, 'tconv'):
        benchmark.measure(LAYERS[0][1:], None, 1)

  def test_the_bar_is_measured_by_the_quick_variant(self):
    [layer] = benchmark_config.get_config('quick').layers
    self.assertEqual(layer[0], 'DCGAN 3')
    with self.assertRaisesRegex(ValueError, "got 'slow'"):
      benchmark_config.get_config('slow')


if __name__ == '__main__':
  absltest.main()
