"""Derivatives, batching and sharding of the three operations."""

import functools
import os
import subprocess
import sys
import textwrap

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
from jax.experimental import jet
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads
import numpy as np
import pytest

import tconv
from tconv import dispatch
from tests.references import integers

# A grouped, dilated, asymmetric case with channels, on a 4x5 coarse grid.
OPTIONS = dict(strides=(2, 1), padding=((1, 0), (-1, 2)),
               kernel_dilation=(1, 2), feature_group_count=2)
Y, W = integers(0, (4, 4, 5, 6)), integers(1, (3, 2, 2, 6))
up = functools.partial(tconv.conv_transpose, **OPTIONS)
X = integers(2, jax.eval_shape(up, Y, W).shape)
down = functools.partial(tconv.conv, **OPTIONS)
taps = functools.partial(tconv.conv_kernel_grad, kernel_size=(3, 2), **OPTIONS)


def energy(y, w):
  return (up(y, w)**2).sum()


gradients = jax.jit(jax.grad(energy, (0, 1)))
output_and_gradients = jax.jit(lambda y, w: (up(y, w), gradients(y, w)))


@pytest.mark.gpu
class DerivativesTest(parameterized.TestCase):

  def test_second_order_in_both_modes(self):
    with jax.enable_x64(True):
      draw = np.random.default_rng(0)
      y, w, x = ((draw.normal(size=(*a.shape, 2)) @ [1, 1j]) for a in (Y, W, X))
      check_grads(jax.jit(up), (y, w), 2)
      check_grads(jax.jit(lambda x, w, y: (down(x, w), taps(x, y))), (x, w, y),
                  1)

  def test_no_gradient_passes_through_xla(self):
    # Derivatives of any order are made of the three primitives alone.
    step = jax.grad(lambda y, w: jax.grad(energy, 1)(y, w).sum())
    names = {e.primitive.name for e in jax.make_jaxpr(step)(Y, W).eqns}
    self.assertIn('tconv_conv_kernel_grad', names)
    self.assertNotIn('conv_general_dilated', names)

  def test_preferred_element_type_under_grad(self):
    y, w = (a.astype(jnp.bfloat16) for a in (Y, W))
    wide = functools.partial(up, preferred_element_type=jnp.float32)
    self.assertEqual(wide(y, w).dtype, jnp.float32)
    actual = jax.jit(jax.grad(lambda y, w: (wide(y, w)**2).sum(), (0, 1)))(y, w)
    chex.assert_trees_all_equal(actual, jax.tree.map(
        lambda g: g.astype(jnp.bfloat16), gradients(Y, W)))


@pytest.mark.gpu
class BatchingTest(parameterized.TestCase):

  @parameterized.parameters(((0, None),), ((None, 0),), ((1, 2),))
  def test_vmap_equals_a_loop(self, mapped):
    arguments, rows = [], []
    for seed, one, axis in zip((3, 4), (Y, W), mapped):
      many = integers(seed, (3, *one.shape))
      arguments.append(one if axis is None else np.moveaxis(many, 0, axis))
      rows.append([one] * 3 if axis is None else many)
    expected = map(output_and_gradients, *rows)
    chex.assert_trees_all_equal(
        jax.jit(jax.vmap(output_and_gradients, mapped))(*arguments),
        jax.tree.map(lambda *rows: np.stack(rows), *expected))


class JetTest(parameterized.TestCase):

  def test_taylor_series_of_a_product(self):
    # (y + t y1 + t^2 y2 / 2) (w + t w1 + t^2 w2 / 2), derivatives at t = 0.
    y, w = integers(3, (3, *Y.shape)), integers(4, (3, *W.shape))
    first, (second, third) = jet.jet(
        up, (y[0], w[0]), (list(y[1:]), list(w[1:])))
    np.testing.assert_array_equal(first, up(y[0], w[0]))
    np.testing.assert_array_equal(second, up(y[1], w[0]) + up(y[0], w[1]))
    np.testing.assert_allclose(  # jet divides by 2!, and multiplies again.
        third, up(y[2], w[0]) + 2 * up(y[1], w[1]) + up(y[0], w[2]), atol=1e-3)


class RobustnessTest(parameterized.TestCase):

  def test_no_channels(self):
    x, y, w = np.ones((1, 8, 0)), np.ones((1, 4, 4)), np.ones((3, 0, 4))
    self.assertEqual(tconv.conv_transpose(y, w, 2).shape, x.shape)
    np.testing.assert_array_equal(tconv.conv(x, w, 2), np.zeros_like(y))
    self.assertEqual(tconv.conv_kernel_grad(x, y, 3, 2).shape, w.shape)

  def test_what_xla_crashes_on_is_avoided(self):
    # jaxlib 0.10.2 would end the process, so this one is a process of its own,
    # with XLA's usual optimizations.
    run = subprocess.run(
        [sys.executable, '-c', textwrap.dedent("""
            import numpy as np
            import tconv
            x, y = np.ones((1, 4, 4, 4, 16)), np.ones((1, 2, 2, 2, 16))
            w = tconv.conv_kernel_grad(x, y, 3, 1, 'VALID', method='matrix',
                                       feature_group_count=2)
            np.testing.assert_array_equal(w, np.full_like(w, 8))

            y, w = np.ones((1, 6, 2, 3)), np.ones((2, 4, 3, 3))
            for method in ('vjp', 'lax', 'zero_insertion', 'cudnn'):
              x, expected = (
                  tconv.conv_transpose(y, w, (2, 1), [(1, 1), (0, 0)],
                                       method=method)
                  for method in (method, 'matrix'))
              np.testing.assert_array_equal(x, expected)
            """)],
        env=os.environ | {'XLA_FLAGS': ''}, capture_output=True, text=True,
        check=False)
    self.assertEqual(run.returncode, 0, run.stderr)

  def test_a_reduction_is_not_fused_into_sums_of_patches(self):
    # On a CPU it would be computed on one thread, element by element.
    for fine, groups in ((128, 1), (1, 256)):
      loss = jax.jit(lambda y, w, groups=groups: jnp.mean(tconv.conv_transpose(
          y, w, 2, feature_group_count=groups)**2))
      program = loss.lower(jnp.ones((1, 4, 4, 256)),
                           jnp.ones((4, 4, fine, 256))).compile().as_text()
      self.assertRegex(program, r' call\(.*tconv_conv_transpose_overlap_add')
    loss = jax.jit(lambda x, w: jnp.mean(tconv.conv(
        x, w, 2, 'SAME', method='polyphase')**2))
    program = loss.lower(jnp.ones((1, 8, 8, 4)),
                         jnp.ones((4, 4, 4, 4))).compile().as_text()
    self.assertRegex(program, r' call\(.*tconv_conv_polyphase')

  @parameterized.parameters('auto', 'overlap_add', 'polyphase', 'taps')
  def test_a_nan_stays_in_its_member_of_an_ensemble(self, method):
    # vmap folds members into groups, which must not be mixed by zeros.
    up = lambda y, w: tconv.conv_transpose(y, w, 2, method=method)
    step = jax.vmap(lambda y, w: (
        up(y, w), jax.grad(lambda *a: (up(*a)**2).sum(), (0, 1))(y, w)))
    y = jnp.ones((3, 1, 5, 5, 2)).at[1].set(jnp.nan)
    for result in jax.tree.leaves(step(y, jnp.ones((3, 3, 3, 2, 2)))):
      self.assertTrue(jnp.isnan(result[1]).any())
      self.assertFalse(jnp.isnan(result[jnp.array([0, 2])]).any())


class ShardingTest(parameterized.TestCase):

  @parameterized.parameters(AxisType.Auto, AxisType.Explicit)
  def test_batch_stays_sharded(self, axis_type):
    expected = output_and_gradients(Y, W)
    mesh = jax.make_mesh((2, 2), ('data', 'model'), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
      y = jax.device_put(Y, NamedSharding(mesh, P('data')))
      w = jax.device_put(W, NamedSharding(mesh, P(None, None, None, 'model')))
      chosen, by_form = jax.jit(lambda y, w: (
          (up(y, w), jax.grad(energy, (0, 1))(y, w)),
          {method: up(y, w, method=method) for method in dispatch.FORMS}))(y, w)
      chex.assert_trees_all_equal(chosen, expected)
      for array in chosen[0], chosen[1][0]:
        self.assertEqual(array.sharding.spec[0], 'data')
      for x in by_form.values():
        np.testing.assert_array_equal(x, expected[0])
        if axis_type == AxisType.Explicit:
          self.assertEqual(x.sharding.spec[0], 'data')

  def test_explicit_sharding_under_vmap(self):
    mesh = jax.make_mesh((2, 2), ('data', 'x'),
                         axis_types=(AxisType.Explicit,) * 2)
    y, w = integers(0, (4, 4, 4, 4, 4)), integers(1, (3, 3, 2, 4))
    wrapped = lambda y, w: tconv.conv_transpose(
        y, w, 2, 'CIRCULAR', feature_group_count=2)
    loss = lambda y, w: (wrapped(y, w)**2).sum()
    both = lambda y, w: (wrapped(y, w), *jax.grad(loss, (0, 1))(y, w))
    with jax.set_mesh(mesh):
      sharded = jax.device_put(y, NamedSharding(mesh, P('data', 'x')))
      shared = jax.device_put(w, NamedSharding(mesh, P()))
      actual = jax.jit(jax.vmap(both, (0, None)))(sharded, shared)
    chex.assert_trees_all_equal(actual, jax.tree.map(
        lambda *rows: np.stack(rows), *(jax.jit(both)(row, w) for row in y)))

  def test_resampling_keeps_the_batch_sharded(self):
    mesh = jax.make_mesh((2, 2), ('data', 'x'),
                         axis_types=(AxisType.Explicit,) * 2)
    y = integers(0, (4, 4, 4, 4))
    with jax.set_mesh(mesh):
      image = jax.device_put(y, NamedSharding(mesh, P('data', 'x')))
      for f in (functools.partial(tconv.upsample, scale=2),
                functools.partial(tconv.depth_to_space, block_size=2),
                functools.partial(tconv.space_to_depth, block_size=2)):
        result = jax.jit(f)(image)
        np.testing.assert_array_equal(result, f(y))
        self.assertEqual(result.sharding.spec[0], 'data')

  def test_shard_map(self):
    mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
    shard = functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(P('data'), P()))
    inside = shard(jax.grad(energy, (0, 1)), out_specs=(P('data'), P()))
    # The gradient of what is shared is summed over devices.
    outside = jax.grad(
        lambda y, w: shard(lambda *a: jax.lax.psum(energy(*a), 'data'),
                           out_specs=P())(y, w), (0, 1))
    by_form = shard(lambda y, w: [
        up(y, w, method=method) for method in dispatch.FORMS],
                    out_specs=P('data'))
    *steps, results = jax.jit(lambda *a: (
        inside(*a), outside(*a), by_form(*a)))(Y, W)
    expected, step = output_and_gradients(Y, W)
    for actual in steps:
      chex.assert_trees_all_equal(actual, step)
    for x in results:
      np.testing.assert_array_equal(x, expected)


if __name__ == '__main__':
  absltest.main()
