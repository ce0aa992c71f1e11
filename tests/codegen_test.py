"""The command that compiles for other devices, without their compilers."""

import io
import json
import pathlib
import tempfile
from unittest import mock

from absl import app
from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax.experimental import topologies
import ml_collections
import rich.console

from configs import codegen as config_lib
from experiments import codegen
from experiments.compiled import facts
from experiments.compiled import hlo
from experiments.compiled import programs
from experiments.compiled import targets
from experiments.timing import layers
from experiments.timing import through_jax

PLAIN = ('plain', 'a paper', 2, (8, 8), 8, 8, 4, 2, 1)
GROUPED = ('grouped', 'another', 2, (8, 8), 8, 8, 4, 2, 1, 0, 1, 2)


def summary(target, name, layer, kind, dtype):
  """As if tconv's function asked for what it must, and the others for more."""
  if name == 'flax' and layer.groups > 1:
    raise NotImplementedError('has no groups')
  image = hlo.Array({'float32': 'f32', 'bfloat16': 'bf16'}[dtype], (2, 8))
  calls = ['convBackwardInput'] + (kind == 'training') * [
      'convBackwardFilter', 'convForward']
  good = name == 'tconv'
  work = layer.multiply_adds * len(calls) * (1 if good else 4)
  return programs.Summary(
      tuple(facts.Call(call, (image, image), image) for call in sorted(calls)),
      () if good else (image,), work, 1_000_000, 3. * work, 5. * work)


class CodegenTest(absltest.TestCase):

  def test_for_a_gpu(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    out, screen = pathlib.Path(folder) / 'new' / 'folder', io.StringIO()
    config = ml_collections.ConfigDict({
        'layers': (PLAIN, GROUPED), 'dtypes': ('float32', 'bfloat16'),
        'out': str(out)})
    with mock.patch.object(targets, 'devices'), mock.patch.object(
        programs, 'of_layer', summary):
      codegen.run(config, 'h100', rich.console.Console(
          file=screen, width=200), command='a command')
    found = json.loads((out / 'compiled-h100.json').read_text())
    self.assertEqual(found['command'], 'a command')
    self.assertContainsSubset({'python', 'jax', 'flax'}, found['versions'])
    self.assertEqual(list(found['layers']), ['plain', 'grouped'])
    entry = found['layers']['grouped']['training']['bfloat16']
    self.assertEqual(list(entry), ['tconv', 'tconv.nnx', 'tconv.linen', 'lax'])
    self.assertEqual(entry['lax']['inserted'], ['bf16[2,8]'])
    self.assertLen(entry['lax']['calls'], 3)
    report = (out / 'compiled-h100.md').read_text()
    for line in ('| plain | I 1.00 1.0 | I 4.00 1.0 zeros ! ',
                 '| plain | IFK 1.00 1.0 | IFK 4.00 1.0 zeros ! ',
                 '| forward, bfloat16 | 2 of 2 | 0 of 2 ! | 0 of 2 ! '):
      self.assertIn(line, report)
    for text in report, screen.getvalue():
      self.assertIn('a command', text)
      self.assertIn('In a cell:', text)


class MainTest(absltest.TestCase):

  def test_a_missing_compiler_is_one_clear_line(self):
    self.enter_context(mock.patch.dict('os.environ'))
    self.enter_context(mock.patch.object(jax.config, 'update'))
    targets.devices.cache_clear()
    error = NotImplementedError('topology not implemented for cuda')
    with mock.patch.object(topologies, 'get_topology_desc', side_effect=error):
      with self.assertRaisesRegex(
          SystemExit, f'^error: There is no compiler for h100 here: {error}. '
          '`make codegen` installs'):
        codegen.main(['x'], ml_collections.ConfigDict(), 'h100')

  def test_bad_arguments(self):
    with self.assertRaisesRegex(ValueError, "h100, v5e; got 'b200'"):
      targets.devices('b200')
    with self.assertRaisesRegex(app.UsageError, "'too much'"):
      codegen.main(['x', 'too much'], ml_collections.ConfigDict(), 'h100')
    with self.assertRaisesRegex(ValueError, "'slow'"):
      config_lib.get_config('slow')

  def test_layers_of_the_config(self):
    rows = [layers.Layer(*row) for row in config_lib.get_config().layers]
    self.assertLen({layer.name for layer in rows}, len(rows))
    for layer in rows:  # As PyTorch's layer: no fine position without a tap.
      self.assertEqual(
          through_jax.program('tconv', layer, 'forward')[1][0].shape,
          layer.inputs_shape)


class ThroughLayersTest(parameterized.TestCase):

  @parameterized.product(name=through_jax.LAYERS, row=(PLAIN, GROUPED))
  def test_layers_compute_the_same_as_lax(self, name, row):
    layer = layers.Layer(*row)
    found, expected = (
        call.read(call.run()) for call in (
            through_jax.build(n, layer, layer.arrays(), 'training')
            for n in (name, 'lax')))
    for a, b in zip(found, expected, strict=True):
      self.assertLess(abs(a - b).max(), 1e-5 * abs(b).max())


if __name__ == '__main__':
  absltest.main()
