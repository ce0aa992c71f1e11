"""Peers compute what loops in NumPy do; who differs is refused."""

import dataclasses
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import workdir
from experiments.timing import calls
from experiments.timing import contractions
from experiments.timing import costs
from experiments.timing import enqueued
from experiments.timing import layers
from experiments.timing import measure
from experiments.timing import peers
from experiments.timing import through_jax
from tests import references

LAYERS = {
    'line': layers.Layer('line', '', 2, (5,), 4, 6, 4, 2, 1),
    'square': layers.Layer('square', '', 2, (3, 4), 5, 3, 5, 2, 2, 1),
    'volume': layers.Layer('volume', '', 1, (2, 3, 2), 2, 3, 3, 2, 1, 1),
    'dilated': layers.Layer('dilated', '', 1, (4, 3), 2, 3, 3, 2, 2, 1, 2),
    'grouped': layers.Layer('grouped', '', 2, (3, 3), 6, 4, 3, 2, 0, 1, 1, 2),
    'depthwise': layers.Layer('deep', '', 1, (3, 4), 4, 4, 4, 2, 1, groups=4),
}
NAMES = (*through_jax.NAMES, 'torch', 'torch channels-last', 'onnxruntime')
CANNOT = {('flax', 'grouped'), ('flax', 'depthwise'),
          ('torch channels-last', 'line')}


class AgreementTest(chex.TestCase):

  @parameterized.product(name=NAMES, layer=list(LAYERS), kind=calls.KINDS)
  def test_a_peer_gives_what_loops_give(self, name, layer, kind):
    builders, skipped = peers.available()
    if name.split()[0] in skipped:
      self.skipTest(skipped[name.split()[0]])
    arrays = LAYERS[layer].arrays()
    geometry = LAYERS[layer].geometry
    build = lambda: builders[name](LAYERS[layer], arrays, kind)
    if (name, layer) in CANNOT or (name, kind) == ('onnxruntime', 'training'):
      with self.assertRaises(NotImplementedError):
        build()
      return
    y, w, x = arrays
    expected = [references.conv_transpose(y, w, geometry)]
    if kind == 'training':
      expected += [references.conv(x, w, geometry),
                   references.conv_kernel_grad(x, y, geometry)]
    call = build()
    # Sums of at most 100 float32 products of order 1, in another order.
    chex.assert_trees_all_close(
        [np.asarray(a) for a in call.read(call.run())], expected, atol=2e-5)

  def test_a_matmul_has_the_work_of_the_layer(self):
    layer = LAYERS['square']
    product = through_jax.matmul(layer, layer.arrays())()
    self.assertEqual(product.shape, (2 * 3 * 4, 5 * 5 * 3))
    self.assertEqual(product.size * layer.fan_in, layer.multiply_adds)

  @parameterized.parameters((1e-4, True), (1.1e-4, False), (np.nan, False))
  def test_who_is_off_by_more_than_rounding_is_refused(self, error, agrees):
    expected = np.array([[1., -2.]], np.float64)
    found = expected + 2 * np.array([[error, 0]])
    if agrees:
      return calls.check_agreement('x', [found], [expected])
    with self.assertRaisesRegex(workdir.RunError, '^x: the gradient for the'):
      calls.check_agreement('x', [expected, found], [expected] * 2)

  def test_nothing_agrees_with_nothing(self):
    with self.assertRaises(ValueError):
      calls.check_agreement('x', [np.ones(2)], [])

  @parameterized.parameters('torch', 'torch channels-last')
  def test_layouts_of_torch(self, name):
    builders, skipped = peers.available()
    if 'torch' in skipped:
      self.skipTest(skipped['torch'])
    layer = LAYERS['square']
    for tensor in builders[name](layer, layer.arrays(), 'training').run():
      self.assertEqual(tensor.stride(1) == 1, name == 'torch channels-last')

  @parameterized.product(layer=['line', 'square', 'volume'],
                         dtype=['float32', 'bfloat16'])
  def test_steps_of_torch(self, layer, dtype):
    torch, missing = enqueued.torch_steps()
    if missing:
      self.skipTest(missing)
    layer = LAYERS[layer]
    arrays = layer.arrays()
    expected = through_jax.build('lax', layer, arrays, 'training')
    expected = expected.read(expected.run())
    call = torch(layer, arrays, 'training', dtype, 2, tf32=False)
    calls.check_agreement('torch', call.read(call.wait(call.run())), expected,
                          2e-2 if dtype == 'bfloat16' else 1e-5)

  def test_another_shape_is_refused(self):
    with self.assertRaisesRegex(workdir.RunError, r'\(2, 1\).*\(1, 2\)'):
      calls.check_agreement('x', [np.ones((2, 1))], [np.ones((1, 2))])

  @parameterized.parameters('forward', 'training')
  def test_a_wrong_peer_is_named(self, kind):
    builders, _ = peers.available()

    def wrong(layer, arrays, what):
      call = builders['tconv'](layer, arrays, what)
      scale = 1.001 if what == kind else 1
      return dataclasses.replace(
          call, read=lambda outputs: [scale * a for a in call.read(outputs)])

    with self.assertRaisesRegex(
        workdir.RunError, f'^line, {kind}, other: the output is wrong'):
      measure.measure(LAYERS['line'], {'lax': builders['lax'], 'other': wrong},
                      1)

  def test_a_wrong_member_of_a_series_is_named(self):
    builders, _ = peers.available()
    wrong = lambda *arguments: builders['tconv'](
        dataclasses.replace(arguments[0], padding=0, output_padding=0),
        *arguments[1:])
    with self.assertRaisesRegex(workdir.RunError, '^square, tconv: the output'):
      measure.series([LAYERS['line'], LAYERS['square']],
                     {'lax': builders['lax'], 'tconv': lambda layer, *others: (
                         wrong if layer.name == 'square' else builders['tconv']
                         )(layer, *others)}, 1)

  def test_a_wrong_form_is_named(self):
    right = contractions.build

    def wrong(*arguments):
      found = right(*arguments)
      auto = found.calls['auto']
      return found._replace(calls={'auto': auto, 'vjp': lambda: 2 * auto()})

    builders, _ = peers.available()
    with mock.patch.object(contractions, 'build', wrong), mock.patch.object(
        costs, 'first_calls'), self.assertRaisesRegex(
            workdir.RunError, '^line, conv_transpose, vjp: the output is wr'):
      measure.measure(
          LAYERS['line'], {n: builders[n] for n in ('lax', 'tconv')}, 1)


class AvailableTest(parameterized.TestCase):

  @parameterized.parameters(
      ('torch', {'torch'}), ('onnxruntime', {'onnxruntime'}),
      ('onnx', {'onnxruntime'}))
  def test_who_cannot_be_imported_is_named(self, package, expected):
    peers.available()  # Loads for good what cannot be loaded twice.
    modules = {name: module for name, module in sys.modules.items()
               if not name.startswith('experiments.timing.through_')}
    with mock.patch.dict(sys.modules, modules, clear=True):
      sys.modules[package] = None
      builders, skipped = peers.available()
    self.assertContainsSubset(expected, set(skipped))
    for name in expected:
      self.assertIn('extra "peers"', skipped[name])
      self.assertNotIn(name, builders)
    self.assertContainsSubset(through_jax.NAMES, builders)


class ContractionsTest(parameterized.TestCase):

  @parameterized.parameters(*contractions.OPERATIONS)
  def test_every_form_gives_what_loops_give(self, operation):
    layer = LAYERS['grouped']
    y, w, x = arrays = layer.arrays()
    operands = {'conv_transpose': (y, w), 'conv': (x, w),
                'conv_kernel_grad': (x, y)}[operation]
    expected = getattr(references, operation)(*operands, layer.geometry)
    found = contractions.build(layer, arrays, operation)
    self.assertEmpty(found.skipped)
    self.assertContainsSubset({'auto', 'matrix', 'lax'}, found.calls)
    for call in found.calls.values():
      # Sums of at most 100 float32 products of order 1, in another order.
      np.testing.assert_allclose(call(), expected, atol=2e-5)

  def test_auto_is_who_has_the_same_program(self):
    def contract(operation, lhs, rhs, *, geometry, method):
      del operation, geometry, rhs
      return lhs + (1 if method in ('auto', 'lax', 'vjp') else 2)

    with mock.patch.object(contractions.trilinear, 'contract', contract):
      found = contractions.build(
          LAYERS['line'], LAYERS['line'].arrays(), 'conv')
    self.assertEqual(found.auto, ['vjp', 'lax'])
    self.assertEqual(list(found.calls)[0], 'auto')

  def test_what_would_take_too_long_is_skipped(self):
    # C has 2**22 elements; 2**32 products with the zeros, 4 more than without.
    small = layers.Layer('', '', 3, (16, 16), 4, 4, 4, 2, 1)
    self.assertEqual(contractions._too_much(small, 'matrix'),
                     '4.2e+06 elements')
    fits = dataclasses.replace(small, coarse_size=(15, 16))
    self.assertEmpty(contractions._too_much(fits, 'matrix'))
    large = layers.Layer('', '', 16, (64, 64), 128, 64, 4, 2, 1)
    self.assertEqual(contractions._too_much(large, 'zero_insertion'),
                     '3.4e+10 multiply-adds')
    self.assertEmpty(contractions._too_much(large, 'lax'))
    fits = dataclasses.replace(large, batch=4)
    self.assertEmpty(contractions._too_much(fits, 'zero_insertion'))
    many = dataclasses.replace(small, taps=17, padding=8)
    self.assertEqual(contractions._too_much(many, 'taps'), '289 taps')
    fits = dataclasses.replace(many, taps=16)
    self.assertEmpty(contractions._too_much(fits, 'taps'))


class CostsTest(absltest.TestCase):

  def test_memory_is_what_is_kept_beside_the_arrays(self):
    layer = layers.Layer('', '', 2, (8, 8), 16, 16, 4, 2, 1)

    def program(name, layer, kind):
      del layer, kind
      if name == 'flax':
        raise NotImplementedError
      # The product is needed whole before it is multiplied again.
      product = lambda a: (a @ a) @ a if name == 'tconv' else a @ a
      return product, [jax.ShapeDtypeStruct((128, 128), jnp.float32)]

    with mock.patch.object(through_jax, 'program', program):
      found = costs.temporary_bytes(layer, 'forward')
    self.assertEqual(found, {'lax': 0, 'tconv': 128 * 128 * 4})

  def test_first_calls_are_medians_without_the_first(self):
    clock = iter(np.cumsum([0, 9, 1, 9, 0, 1, 0, 2, 0, 3, 0, 4, 0, 7, 0, 5]))
    with mock.patch('time.perf_counter', lambda: float(next(clock))):
      found = costs.first_calls(LAYERS['line'], 'forward')
    self.assertEqual(found, {'tconv': 3e3, 'lax': 4e3})


if __name__ == '__main__':
  absltest.main()
