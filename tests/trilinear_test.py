"""Adjointness, derivatives, batching and sharding of the three operations."""

import functools
import os
import subprocess
import sys
import textwrap

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
from jax import export
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

METHODS = dispatch.METHODS

# A grouped, dilated, asymmetric case with channels, on a 4x5 coarse grid.
OPTIONS = dict(strides=(2, 1), padding=((1, 0), (-1, 2)),
               kernel_dilation=(1, 2), feature_group_count=2)
Y, W = integers(0, (4, 4, 5, 6)), integers(1, (3, 2, 2, 6))
up = functools.partial(tconv.conv_transpose, **OPTIONS)
X = integers(2, up(Y, W).shape)
down = functools.partial(tconv.conv, **OPTIONS)
taps = functools.partial(tconv.conv_kernel_grad, kernel_size=(3, 2), **OPTIONS)


def energy(y, w):
  return (up(y, w)**2).sum()


class AdjointTest(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.product(method=METHODS, size=[(5, 6), (8, 7)],
                         stride=[1, 2, 3])
  def test_inner_products_agree(self, method, size, stride):
    kernel, x = integers(0, (3, 4, 2, 5)), integers(1, (2, *size, 2))
    cx = tconv.conv(x, kernel, stride, 'VALID')
    y = integers(2, cx.shape)
    transpose = self.variant(functools.partial(
        tconv.conv_transpose, strides=stride, padding='VALID',
        output_size=size, method=method))
    # Small integers: both sums are exact, so equality needs no tolerance.
    self.assertEqual(jnp.vdot(cx, y), jnp.vdot(x, transpose(y, kernel)))

  def test_one_form_in_three_arguments(self):
    value = (X * up(Y, W)).sum()
    self.assertEqual(value, (Y * down(X, W)).sum())
    self.assertEqual(value, (W * taps(X, Y)).sum())


@pytest.mark.gpu
class DerivativesTest(parameterized.TestCase):

  @parameterized.parameters('float64', 'complex128')
  def test_second_order_in_both_modes(self, dtype):
    with jax.enable_x64(True):
      draw = np.random.default_rng(0)
      y, w, x = (draw.normal(size=a.shape).astype(dtype) for a in (Y, W, X))
      check_grads(up, (y, w), 2)
      check_grads(down, (x, w), 2)
      check_grads(taps, (x, y), 2)

  @parameterized.product(
      transform=[lambda f: jax.jit(f), jax.checkpoint,
                 lambda f: lambda *a: jax.linearize(f, *a)[0]])
  def test_transforms_keep_value_and_gradient(self, transform):
    value, gradients = jax.value_and_grad(energy, (0, 1))(Y, W)
    actual = jax.value_and_grad(transform(energy), (0, 1))(Y, W)
    chex.assert_trees_all_equal(actual, (value, gradients))

  def test_gradients_are_the_other_operations(self):
    dy, dw = jax.grad(energy, (0, 1))(Y, W)
    x = 2 * up(Y, W)
    np.testing.assert_array_equal(dy, down(x, W))
    np.testing.assert_array_equal(dw, taps(x, Y))

  def test_hessian_of_a_quadratic_is_its_matrix(self):
    y = Y[:1, :2, :2]
    hessian = jax.hessian(energy)(y, W).reshape(y.size, y.size)
    c = jax.jacfwd(up)(y, W).reshape(-1, y.size)
    np.testing.assert_array_equal(hessian, 2 * c.T @ c)

  def test_no_gradient_passes_through_xla(self):
    # Derivatives of any order are made of the three primitives alone.
    step = jax.grad(lambda y, w: jax.grad(energy, 1)(y, w).sum())
    names = {e.primitive.name for e in jax.make_jaxpr(step)(Y, W).eqns}
    self.assertIn('tconv_conv_kernel_grad', names)
    self.assertNotIn('conv_general_dilated', names)

  def test_precision_is_that_of_the_operation(self):
    step = jax.grad(lambda y, w: (up(y, w, precision='highest')**2).sum(),
                    (0, 1))
    eqns = [e for e in jax.make_jaxpr(step)(Y, W).eqns
            if e.primitive.name.startswith('tconv')]
    self.assertLen(eqns, 3)
    for eqn in eqns:
      self.assertEqual(eqn.params['precision'], jax.lax.Precision.HIGHEST)

  def test_preferred_element_type_under_grad(self):
    y, w = (a.astype(jnp.bfloat16) for a in (Y, W))
    wide = functools.partial(up, preferred_element_type=jnp.float32)
    self.assertEqual(wide(y, w).dtype, jnp.float32)
    dy, dw = jax.grad(lambda y, w: (wide(y, w)**2).sum(), (0, 1))(y, w)
    expected = jax.grad(energy, (0, 1))(Y, W)
    chex.assert_trees_all_equal(
        (dy, dw), jax.tree.map(lambda g: g.astype(jnp.bfloat16), expected))


@pytest.mark.gpu
class BatchingTest(parameterized.TestCase):

  @parameterized.product(
      mapped=[(0, None), (None, 0), (0, 0), (1, 2)],
      function=[up, jax.grad(energy, 0), jax.grad(energy, 1)])
  def test_vmap_equals_a_loop(self, mapped, function):
    y, w = integers(3, (3, *Y.shape)), integers(4, (3, *W.shape))
    row = lambda i: function(
        Y if mapped[0] is None else y[i], W if mapped[1] is None else w[i])
    arguments = (Y if mapped[0] is None else np.moveaxis(y, 0, mapped[0]),
                 W if mapped[1] is None else np.moveaxis(w, 0, mapped[1]))
    np.testing.assert_array_equal(
        jax.vmap(function, mapped)(*arguments),
        np.stack([row(i) for i in range(3)]))

  def test_nested_and_differentiated(self):
    y, w = integers(3, (2, 3, *Y.shape)), integers(4, (3, *W.shape))
    total = lambda y, w: jax.vmap(jax.vmap(energy), (0, None))(y, w).sum()
    expected = np.stack([
        sum(np.asarray(jax.grad(energy, 1)(y[i, j], w[j])) for i in range(2))
        for j in range(3)])
    np.testing.assert_array_equal(jax.grad(total, 1)(y, w), expected)

  def test_options_are_kept(self):
    wide = functools.partial(up, method='matrix', precision='highest',
                             preferred_element_type=jnp.float32)
    [eqn] = [e for e in jax.make_jaxpr(jax.vmap(wide, (0, None)))(
        Y[None].astype(jnp.float16), W.astype(jnp.float16)).eqns
             if e.primitive.name.startswith('tconv')]
    self.assertEqual(eqn.params['method'], 'matrix')
    self.assertEqual(eqn.params['precision'], jax.lax.Precision.HIGHEST)
    self.assertEqual(eqn.outvars[0].aval.dtype, jnp.float32)

  @parameterized.parameters(((0, None),), ((None, 0),), ((0, 0),))
  def test_map_over_nothing(self, mapped):
    y = Y if mapped[0] is None else Y[None][:0]
    w = W if mapped[1] is None else W[None][:0]
    self.assertEqual(jax.vmap(up, mapped)(y, w).shape, (0, *X.shape))


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


class ExportTest(parameterized.TestCase):

  def test_gradient_survives_serialization(self):
    step = jax.jit(jax.grad(energy, (0, 1)))
    stored = export.export(step)(Y, W).serialize()
    chex.assert_trees_all_equal(
        export.deserialize(stored).call(Y, W), step(Y, W))

  def test_symbolic_batch(self):
    batch, = export.symbolic_shape('batch')
    exported = export.export(jax.jit(up))(
        jax.ShapeDtypeStruct((batch, *Y.shape[1:]), Y.dtype), W)
    np.testing.assert_array_equal(exported.call(Y[:3], W), up(Y[:3], W))

  def test_every_platform_has_a_lowering(self):
    platforms = ('cpu', 'cuda', 'rocm', 'tpu')
    exported = export.export(
        jax.jit(jax.grad(energy, (0, 1))), platforms=platforms)(Y, W)
    self.assertEqual(exported.platforms, platforms)
    chex.assert_trees_all_equal(
        exported.call(Y, W), jax.grad(energy, (0, 1))(Y, W))


class RobustnessTest(parameterized.TestCase):

  @parameterized.parameters(up, jax.jit(up), jax.grad(energy))
  def test_debug_nans_names_the_operation(self, function):
    with jax.debug_nans(True), self.assertRaisesRegex(
        FloatingPointError, 'tconv_conv_transpose'):
      function(np.full(Y.shape, np.inf, Y.dtype), np.zeros_like(W))

  @parameterized.parameters(*METHODS)
  def test_no_channels(self, method):
    x, y = np.ones((1, 8, 0)), np.ones((1, 4, 4))
    w = np.ones((3, 0, 4))
    options = {'feature_group_count': 2, 'method': method}
    self.assertEqual(
        tconv.conv_transpose(y, w, 2, **options).shape, (1, 8, 0))
    np.testing.assert_array_equal(
        tconv.conv(x, w, 2, **options), np.zeros_like(y))
    self.assertEqual(
        tconv.conv_kernel_grad(x, y, 3, 2, **options).shape, w.shape)

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


class ShardingTest(parameterized.TestCase):

  @parameterized.product(
      method=METHODS, axis_type=[AxisType.Auto, AxisType.Explicit])
  def test_batch_stays_sharded(self, method, axis_type):
    mesh = jax.make_mesh((4,), ('data',), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
      y = jax.device_put(Y, NamedSharding(mesh, P('data')))
      w = jax.device_put(W, NamedSharding(mesh, P()))
      x = jax.jit(functools.partial(up, method=method))(y, w)
      np.testing.assert_array_equal(x, up(Y, W))
      if method == 'auto' or axis_type == AxisType.Explicit:
        self.assertEqual(x.sharding.spec[0], 'data')

  @parameterized.parameters(AxisType.Auto, AxisType.Explicit)
  def test_gradients_of_sharded_arrays(self, axis_type):
    mesh = jax.make_mesh((2, 2), ('data', 'model'), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
      y = jax.device_put(Y, NamedSharding(mesh, P('data')))
      w = jax.device_put(W, NamedSharding(mesh, P(None, None, None, 'model')))
      actual = jax.jit(jax.grad(energy, (0, 1)))(y, w)
      chex.assert_trees_all_equal(actual, jax.grad(energy, (0, 1))(Y, W))
      self.assertEqual(actual[0].sharding.spec[0], 'data')

  @parameterized.parameters((('data',),), ((None, 'data'),), (('data', 'x'),))
  def test_explicit_sharding_under_vmap(self, spec):
    mesh = jax.make_mesh((2, 2), ('data', 'x'),
                         axis_types=(AxisType.Explicit,) * 2)
    y, w = integers(0, (4, 4, 4, 4, 4)), integers(1, (3, 3, 2, 4))
    wrapped = functools.partial(
        tconv.conv_transpose, strides=2, padding='CIRCULAR',
        feature_group_count=2)
    loss = lambda y, w: (wrapped(y, w)**2).sum()
    with jax.set_mesh(mesh):
      sharded = jax.device_put(y, NamedSharding(mesh, P(*spec)))
      shared = jax.device_put(w, NamedSharding(mesh, P()))
      for f in (wrapped, jax.grad(loss), jax.grad(loss, 1)):
        np.testing.assert_array_equal(
            jax.jit(jax.vmap(f, (0, None)))(sharded, shared),
            np.stack([f(row, w) for row in y]))

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

  def test_gradient_of_sharded_arrays_without_a_mesh_around(self):
    mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Explicit,))
    put = lambda a, *spec: jax.device_put(a, NamedSharding(mesh, P(*spec)))
    np.testing.assert_array_equal(
        jax.jit(jax.grad(energy, 1))(put(Y, 'data'), put(W)),
        jax.grad(energy, 1)(Y, W))

  @parameterized.product(method=METHODS, jit=[True, False])
  def test_shard_map(self, method, jit):
    mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P('data'), P()),
                       out_specs=(P('data'), P('data'), P()))
    def shard(y, w):
      x = up(y, w, method=method)
      dy = down(x, w, method=method)
      dw = taps(x, y, method=method)
      return x, dy, jax.lax.psum(dw, 'data')

    x = up(Y, W)
    chex.assert_trees_all_equal(
        (jax.jit(shard) if jit else shard)(Y, W), (x, down(x, W), taps(x, Y)))

  def test_shard_map_sums_the_gradient_of_what_is_shared(self):
    mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
    shard = functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(P('data'), P()))
    inside = shard(jax.grad(energy, (0, 1)), out_specs=(P('data'), P()))
    outside = jax.grad(
        lambda y, w: shard(lambda *a: jax.lax.psum(energy(*a), 'data'),
                           out_specs=P())(y, w), (0, 1))
    expected = jax.grad(energy, (0, 1))(Y, W)
    chex.assert_trees_all_equal(inside(Y, W), expected)
    chex.assert_trees_all_equal(outside(Y, W), expected)


if __name__ == '__main__':
  absltest.main()
