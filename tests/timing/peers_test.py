"""Peers compute what loops in NumPy do; who differs is refused."""

import dataclasses
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
    'odd': layers.Layer('odd', '', 1, (4, 3), 6, 4, 3, 2, 2, 1, 2, 2),
}
NAMES = (*through_jax.NAMES, 'torch', 'torch channels-last', 'onnxruntime')
CANNOT = {('flax', 'odd'), ('torch channels-last', 'line')}


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

  @parameterized.parameters((1e-4, True), (1.1e-4, False), (np.nan, False))
  def test_who_is_off_by_more_than_rounding_is_refused(self, error, agrees):
    expected = np.array([[1., -2.]], np.float64)
    found = expected + 2 * np.array([[error, 0]])
    if agrees:
      return calls.check_agreement('x', [found], [expected])
    with self.assertRaisesRegex(workdir.RunError, '^x: the gradient for the'):
      calls.check_agreement('x', [expected, found], [expected] * 2)
    with self.assertRaisesRegex(workdir.RunError, r'\(2, 1\).*\(1, 2\)'):
      calls.check_agreement('x', [expected.T], [expected])
    with self.assertRaises(ValueError):
      calls.check_agreement('x', [expected], [])

  @parameterized.product(layer=['line', 'square'],
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

  @parameterized.parameters(
      (measure.measure, LAYERS['line'], 'training', '^line, training, tconv'),
      (measure.series, [LAYERS['line']], 'forward', '^line, tconv'))
  def test_a_wrong_peer_is_named(self, measured, layer, kind, name):
    builders, _ = peers.available()

    def wrong(layer, arrays, what):
      call = builders['tconv'](layer, arrays, what)
      scale = 1.001 if what == kind else 1
      return dataclasses.replace(
          call, read=lambda outputs: [scale * a for a in call.read(outputs)])

    with self.assertRaisesRegex(
        workdir.RunError, f'{name}: the output is wrong'):
      measured(layer, {'lax': builders['lax'], 'tconv': wrong}, 1)

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


class ContractionsTest(parameterized.TestCase):

  @parameterized.parameters(*contractions.OPERATIONS)
  def test_every_form_gives_what_loops_give(self, operation):
    layer = LAYERS['odd']
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
