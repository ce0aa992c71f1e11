"""Averaging filters in ONNX models."""

import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import onnx
import onnxruntime

import tconv
from tconv.audit import findings
from tconv.audit import jax_model
from tconv.audit import onnx_model
from tconv.audit import probe
from tconv.audit import repair
from tconv.audit.model import AuditError
from tconv.audit.model import Weights
from tests.audit import cli_test
from tests.audit import onnx_cases
from tests.audit import samples
from tests.audit.onnx_cases import check
from tests.audit.onnx_cases import node
from tests.references import integers

# All averages over up to 4 positions of each of 3 axes are integers.
ROUND = 12**3


class Case(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enter_context(
        tempfile.TemporaryDirectory()))

  def load(self, *args, **kwargs):
    return onnx_cases.load(self.folder, *args, **kwargs)


class FilteredTest(Case):

  def filtered(self, found, name, x):
    """Filters a layer whose result is y; returns the file that is saved."""
    original = pathlib.Path(self.folder, 'model.onnx')
    before = original.read_bytes()
    changed = found.filtered([name])
    path = self.folder / 'new.onnx'
    changed.save(path)
    self.assertEqual(original.read_bytes(), before)
    onnx.checker.check_model(path, full_check=True)
    old, new = onnx.load(original), onnx.load(path)
    for field in ('input', 'output', 'initializer', 'value_info'):
      self.assertEqual(getattr(new.graph, field), getattr(old.graph, field))
    self.assertEqual(new.opset_import, old.opset_import)
    after = check(found, {'x': x}).after[name]
    [y] = onnxruntime.InferenceSession(path).run(['y'], {'x': x})
    [layer] = [u for u in found.upsamplers if u.name == name]
    np.testing.assert_array_equal(
        np.moveaxis(y, 1, -1), tconv.zero_order_hold(after, layer.strides))
    self.assertTrue((np.moveaxis(y, 1, -1) != after).any())
    # The layer is still found, with what it gave before.
    again = onnx_model.load(path)
    self.assertEqual([u.name for u in again.upsamplers],
                     [u.name for u in found.upsamplers])
    np.testing.assert_array_equal(
        check(again, {'x': x}).after[name], after)
    return new

  @parameterized.parameters(
      ((2, 2), 7), ((3, 2), 22), ((4, 3), 11), ((4,), 22), ((1, 4), 22),
      ((2, 3, 4), 22))
  def test_it_is_a_zero_order_hold(self, strides, opset):
    axes = len(strides)
    found = self.load(
        [node('ConvTranspose', ['x', 'w', 'b'], ['y'], strides=strides)],
        (1, 2, *(4, 3, 2)[:axes]),
        {'w': ROUND * integers(0, (2, 3, *strides)),
         'b': ROUND * integers(1, (3,))}, opset=opset)
    self.filtered(found, 'y', integers(2, (1, 2, *(4, 3, 2)[:axes])))

  @parameterized.parameters('DCR', 'CRD')
  def test_sub_pixel(self, mode):
    found = self.load(
        [node('Conv', ['x', 'w', 'b'], ['c']),
         node('DepthToSpace', ['c'], ['y'], 'up', blocksize=2, mode=mode)],
        (2, 2, 3, 4), {'w': ROUND * integers(0, (12, 2, 3, 2)),
                       'b': ROUND * integers(1, (12,))})
    self.filtered(found, 'up', integers(2, (2, 2, 3, 4)))

  def test_pixel_shuffle_of_reshapes(self):
    found = self.load(
        [node('Conv', ['x', 'w'], ['c']), node('Reshape', ['c', 's'], ['d']),
         node('Transpose', ['d'], ['e'], perm=[0, 1, 4, 2, 5, 3]),
         node('Reshape', ['e', 't'], ['y'])], (1, 2, 3, 4),
        {'w': ROUND * integers(0, (12, 2, 1, 1)),
         's': np.array([1, 3, 2, 2, 3, 4]), 't': np.array([1, 3, 6, 8])})
    self.filtered(found, 'e', integers(2, (1, 2, 3, 4)))

  def test_names_that_are_taken(self):
    found = self.load(
        [node('Identity', ['x'], ['y/unfiltered']),
         node('ConvTranspose', ['y/unfiltered', 'w'], ['y'], strides=[2])],
        (1, 2, 3), {'w': ROUND * integers(0, (2, 3, 2))})
    self.filtered(found, 'y', integers(2, (1, 2, 3)))

  def test_all_that_follows_is_filtered(self):
    branch = onnx.helper.make_graph(
        [node('Identity', ['a'], ['z'])], 'branch', [],
        [onnx.helper.make_tensor_value_info('z', onnx_cases.FLOAT, None)])
    found = self.load(
        [node('ConvTranspose', ['x', 'w'], ['a'], 'up', strides=[2]),
         node('Relu', ['a'], ['y']),
         node('If', ['c'], ['i'], then_branch=branch, else_branch=branch)],
        (1, 2, 8), {'w': ROUND * integers(0, (2, 3, 4)), 'c': np.array(True)},
        outputs=('y', 'i', 'a'))
    x = integers(1, (1, 2, 8))
    runs = found.run({'x': x}), found.filtered(['up']).run({'x': x})
    want = np.asarray(tconv.zero_order_hold(runs[0].after['up'], 2))
    for name, array in runs[1].outputs.items():
      np.testing.assert_array_equal(
          array, np.maximum(want, 0) if name == 'y' else want)
    self.assertLen(runs[1].outputs, 3)

  def test_filters_and_weights_of_layers_that_share_them(self):
    up = lambda x, y, **names: node(
        'ConvTranspose', [x, 'w'], [y], strides=[2], **names)
    found = self.load([up('x', 'a'), up('a', 'y')], (1, 2, 3),
                      {'w': 16 * integers(0, (2, 2, 3))})
    new = Weights(16 * integers(1, (3, 2, 2)))
    x = integers(2, (1, 2, 3))
    changed = [found.filtered(['a']).replaced({'y': new}),
               found.replaced({'y': new}).filtered(['a'])]
    for model in changed:
      run = check(model, {'x': x}, {'a': new, 'y': new})
      np.testing.assert_array_equal(
          run.before['y'], tconv.zero_order_hold(run.after['a'], 2))
    # A second filter averages once more, and others may be added.
    twice = found.filtered(['a']).filtered(['a', 'y'])
    twice.save(self.folder / 'twice.onnx')
    run = onnx_model.load(self.folder / 'twice.onnx').run({'x': x})
    held = lambda array: np.asarray(tconv.zero_order_hold(array, 2))
    np.testing.assert_array_equal(run.before['y'], held(held(run.after['a'])))
    np.testing.assert_array_equal(run.outputs['y'], held(run.after['y']))

  def test_what_cannot_be_filtered(self):
    found = self.load(
        [node('Resize', ['x', '', 's'], ['y'], 'up')], (1, 2, 4, 4),
        {'s': np.array([1, 1, 2, 2], 'f')})
    self.assertLen(found.upsamplers, 1)
    for name in ('up', 'down'):
      with self.assertRaisesRegex(AuditError, f"'{name}' is not an upsampler"):
        found.filtered([name])
    model = jax_model.JaxModel(
        lambda x: tconv.conv_transpose(x, np.ones((2, 1, 1), 'f'), 2),
        jax.ShapeDtypeStruct((1, 8, 1), np.float32))
    with self.assertRaisesRegex(AuditError, 'ONNX models only'):
      model.filtered([model.upsamplers[0].name])


class RepairTest(Case):

  def model(self, spread, size=2, quantized=False):
    """A ConvTranspose of stride 2 whose taps differ by `spread`."""
    kernel = np.eye(3)[:, :, None, None] * (
        .5 + spread * np.random.default_rng(0).uniform(-1, 1, (size, size)))
    up = node('ConvTranspose', ['x', 'w'], ['y'], 'up', strides=[2, 2])
    if not quantized:
      return self.load([up], (1, 3, 32, 32), {'w': kernel.astype('float32')})
    return self.load(
        [node('DequantizeLinear', ['q', 's'], ['w']), up], (1, 3, 32, 32),
        {'q': np.round(kernel * 100).astype('int8'), 's': np.float32(.01)})

  def repaired(self, model, **options):
    audit = findings.audit(model, probe.probes(model))
    repaired, [decision] = repair.repair(model, audit, **options)
    self.assertEqual(repaired is not model, decision.is_repaired)
    return decision

  def test_command(self):
    self.model(.1)
    model, new = self.folder / 'model.onnx', self.folder / 'new.onnx'
    status, out, _ = cli_test.run('repair', model, '-o', new, '--min-psnr', 20)
    self.assertEqual(status, 1)
    self.assertRegex(out, 'Left as it is: with one tap .* A filter can')
    status, out, _ = cli_test.run(
        'repair', model, '-o', new, '--min-psnr', 20, '--filter')
    self.assertEqual(status, 0, out)
    self.assertRegex(out, 'up: Filtered: the pattern goes from .*\nWrote ')
    onnx.checker.check_model(new, full_check=True)
    for path, verdict in (model, 'error'), (new, 'info'):
      _, out, _ = cli_test.run('audit', path, '--format', 'json')
      report = json.loads(out)
      samples.validate(report)
      self.assertEqual(report['verdict'], verdict)
    for one in report['probes']:
      if one['kind'] == 'flat':
        self.assertLess(one['output_rms_levels'], 1e-4)

  @parameterized.named_parameters(
      # A clean kernel exists and comes first.
      ('kernel', {'size': 4}, 10, 'Repaired: '),
      ('too different', {}, 99,
       'Left as it is: with one tap .* With a filter: .* below 99 dB'),
      ('no pattern', {'spread': 1e-4}, 10,
       r'Left as it is: with one tap [^.]*\. A filter [^.]*\.\Z'),
      ('smaller than its stride', {'size': 1}, 1, 'Filtered: '),
      ('weights that stay', {'quantized': True}, 20, 'Filtered: '),
      ('weights that stay, no pattern', {'quantized': True, 'spread': 0},
       20, r'Left as it is: its weights are stored as int8\.\Z'),
      ('kernel and filter', {'size': 4}, 99,
       r'Left as it is: the output would .*\. With a filter: the output would'))
  def test_decisions(self, options, min_psnr, reason):
    model = self.model(**{'spread': .1} | options)
    self.assertRegex(self.repaired(
        model, min_psnr=min_psnr, with_filters=True).reason, reason)

  def test_a_faint_pattern_that_was_not_attributed_is_left(self):
    taps = np.full((2, 2), 50, 'int8')
    taps[0, 0] = 51  # About .1 of an 8-bit level, on a flat field of .9.
    model = self.load(
        [node('DequantizeLinear', ['q', 's'], ['w']),
         node('ConvTranspose', ['x', 'w'], ['y'], 'up', strides=[2, 2])],
        (1, 3, 32, 32), {'q': np.eye(3, dtype='int8')[:, :, None, None] * taps,
                         's': np.float32(.001)})
    decision = self.repaired(model, min_psnr=10, with_filters=True)
    self.assertRegex(
        decision.reason, r'int8\. With a filter: the pattern would go from .*'
        'by less than 0.15')

  def test_filters_that_do_not_run(self):
    # Averages of integers.
    found = self.load(
        [node('Conv', ['x', 'w'], ['c']),
         node('QuantizeLinear', ['c', 's', 'z'], ['q']),
         node('DepthToSpace', ['q'], ['d'], 'up', blocksize=2),
         node('DequantizeLinear', ['d', 's', 'z'], ['y'])],
        (1, 1, 32, 32), {
            'w': np.array([1, .9, .8, .7], 'f').reshape(4, 1, 1, 1),
            's': np.float32(1 / 255), 'z': np.uint8(0)})
    decision = self.repaired(found, min_psnr=99, with_filters=True)
    self.assertRegex(decision.reason, 'With a filter: .* does not run')


if __name__ == '__main__':
  absltest.main()
