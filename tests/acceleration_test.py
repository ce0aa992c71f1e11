"""Programs of other libraries, with and without their convolutions replaced."""

import functools
import importlib.util
import logging
import re
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import nnx
import hypothesis
from hypothesis import strategies
import jax
from jax import lax
from jax.experimental import io_callback
from jax.extend import core
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
import numpy as np

import tconv
from tconv import acceleration
from tests.references import integers

HAS_KERAS = importlib.util.find_spec('keras') is not None
LAX = 'conv_general_dilated'


X = jnp.asarray(integers(0, (2, 3, 3, 2)))
K = jnp.asarray(integers(1, (4, 4, 2, 2)))
NHWC = ('NHWC', 'HWIO', 'NHWC')


def enlarge(x, k=K):
  return lax.conv_transpose(x, k, (2, 2), 'SAME')


def squares(x, k=K):
  return (enlarge(x, k)**2).sum()


def equations(fn, *args):
  """All equations in the program of a function, nested ones too."""

  def walk(program):
    for eqn in program.eqns:
      yield eqn
      for inner in core.jaxprs_in_params(eqn.params):
        yield from walk(inner)

  return list(walk(jax.make_jaxpr(fn)(*args)))


def names(fn, *args):
  return [eqn.primitive.name for eqn in equations(fn, *args)]


def check(fn, *args):
  """Computes with and without acceleration, in one program; gives the latter.

  Small whole numbers, whose products and sums are exact.
  """
  before, after = jax.jit(
      lambda *args: (fn(*args), tconv.accelerate(fn)(*args)))(*args)
  chex.assert_trees_all_equal(after, before, strict=True)
  return after


def counts(fn, *args):
  """Numbers of convolutions of lax, and of this library."""
  found = names(fn, *args)
  return found.count(LAX), sum(n.startswith('tconv_') for n in found)


# Ways to hide a function x -> y of images, whose shapes differ.
def scanned(f):
  return lambda x: lax.scan(lambda c, x: (c + 1, f(x)), 0, x[None])[1][0]


def looped(f):
  return lambda x: lax.fori_loop(
      0, 2, lambda i, c: c + f(x), jnp.zeros(jax.eval_shape(f, x).shape))


def chosen(f):
  return lambda x: lax.cond(x.sum() > 0, f, lambda x: 2 * f(x), x)


def with_jvp(f):
  g = jax.custom_jvp(lambda x: f(x))
  g.defjvp(lambda x, t: (g(*x), jax.jvp(f, x, t)[1]))
  return g


def with_vjp(f):
  g = jax.custom_vjp(lambda x: f(x))
  g.defvjp(lambda x: (f(x), jnp.zeros_like(x)),
           lambda x, ct: jax.vjp(f, x)[1](ct))
  return g


def remembered(f):
  return jax.checkpoint(f, policy=jax.checkpoint_policies.dots_saveable)


def mapped(f):
  return lambda x: jax.vmap(f)(x[None])[0]


WRAPPERS = (jax.jit, scanned, looped, chosen, with_jvp, with_vjp, remembered,
            mapped)


class RandomProgramsTest(absltest.TestCase):

  @hypothesis.settings(max_examples=16, deadline=None, derandomize=True)
  @hypothesis.given(
      strategies.lists(strategies.sampled_from(
          (*WRAPPERS, tconv.accelerate)), max_size=3),
      strategies.integers(0, 2))
  def test_values(self, wrappers, derivatives):
    plain = inside = enlarge
    if looped in wrappers:  # lax differentiates no `while`; a scan is made.
      derivatives = min(derivatives, 1)
    grads = [lambda f: jax.grad(lambda x: (f(x)**2).sum())] * derivatives
    for wrap in (*wrappers, *grads):
      inside = wrap(inside)
      plain = plain if wrap is tconv.accelerate else wrap(plain)
    outside = tconv.accelerate(inside)
    expected, *results = jax.jit(
        lambda x: [f(x) for f in (plain, inside, outside)])(X)
    chex.assert_trees_all_equal(expected, *results)
    self.assertEmpty([e for e in tconv.explain(outside, X) if e.form])


class DerivativesTest(parameterized.TestCase):

  def test_of_kernels(self):
    step = jax.grad(squares, (0, 1))
    check(step, X, K)
    # The gradient of the input is an ordinary convolution.
    self.assertEqual(counts(tconv.accelerate(step), X, K), (1, 2))

  def test_each_operand_of_a_kernel_gradient_keeps_its_precision(self):
    step = jax.grad(lambda k: (lax.conv_transpose(
        X, k, (2, 2), 'SAME', precision=('highest', 'default'))**2).sum())

    def precisions(function):
      # The operands differ in size; how their axes are ordered does not count.
      [eqn] = [e for e in equations(function, K) if e.invars
               and e.outvars[0].aval.size == K.size and 'precision' in e.params]
      return dict(zip([v.aval.size for v in eqn.invars],
                      eqn.params['precision']))

    expected = precisions(step)
    self.assertLen(set(expected.values()), 2)
    self.assertEqual(precisions(tconv.accelerate(step)), expected)

  def test_policies_save_what_they_saved(self):
    loss = lambda x: (jax.checkpoint(
        lambda x: jnp.sin(enlarge(x)),
        policy=jax.checkpoint_policies.dots_saveable)(x)**2).sum()
    found = names(jax.grad(tconv.accelerate(loss)), X)
    self.assertEqual(found.count('tconv_conv_transpose'), 1)


class ProgramsTest(parameterized.TestCase):

  def test_nothing_matched_is_the_same_program(self):
    plain = lambda x, k: jax.nn.relu(lax.conv(x, k, (1, 1), 'SAME')) + 1
    args = jnp.ones((1, 2, 4, 4)), jnp.ones((2, 2, 3, 3))
    self.assertEqual(str(jax.make_jaxpr(tconv.accelerate(plain))(*args)),
                     str(jax.make_jaxpr(plain)(*args)))

  def test_second_call_compiles_nothing(self):
    inner = jax.jit(lambda x: jnp.sin(enlarge(x)))
    step = tconv.accelerate(lambda x: enlarge(x).sum() + inner(x).sum())

    def compiles():
      with jax.log_compiles(), self.assertLogs('jax') as logs:
        logging.getLogger('jax').warning('There must be one line.')
        step(X)
      return any('Compiling' in line for line in logs.output)

    self.assertTrue(compiles())
    self.assertFalse(compiles())

  def test_leaves_that_are_no_arrays_and_changed_weights(self):
    weights = {'k': K}

    def function(x, *, name, scale, activation):
      y = activation(enlarge(x, weights['k']))
      return {'y': y, 'name': name, 'shape': y.shape, 'scale': scale + 1,
              'none': None}

    accelerated = tconv.accelerate(function)
    for factor in 1, 2:
      weights['k'] = factor * K
      result = accelerated(
          np.asarray(X), name='once', scale=1, activation=jnp.negative)
      np.testing.assert_array_equal(result.pop('y'), -factor * enlarge(X))
      self.assertEqual(result, {
          'name': 'once', 'shape': (2, 6, 6, 2), 'scale': 2, 'none': None})

  def test_dtypes(self):
    check(enlarge, X.astype('bfloat16'), K.astype('bfloat16'))
    check(enlarge, X.astype('complex64'), K.astype('complex64'))
    function = functools.partial(
        lax.conv_transpose, rhs=K.astype('bfloat16'), strides=(2, 2),
        padding='SAME', preferred_element_type='float32')
    after = tconv.accelerate(function)(X.astype('bfloat16'))
    np.testing.assert_array_equal(after, enlarge(X), strict=True)

  def test_effects(self):
    seen = []
    note = lambda: io_callback(lambda: seen.append(1), None, ordered=True)
    function = jax.jit(lambda x: (enlarge(x), note())[0])
    jax.block_until_ready(tconv.accelerate(function)(X))
    jax.effects_barrier()
    self.assertLen(seen, 1)

  @parameterized.parameters(
      lambda f: jax.jit(tconv.accelerate(f), donate_argnums=0),
      lambda f: tconv.accelerate(jax.jit(f, donate_argnums=0)))
  def test_donation(self, wrap):
    x = X + 0
    wrap(lambda x: (x + 1, enlarge(x)))(x)
    self.assertTrue(x.is_deleted())


class ShardingTest(absltest.TestCase):

  def test_shard_map(self):
    mesh = jax.make_mesh((2,), ('d',), axis_types=(AxisType.Auto,))
    step = jax.jit(jax.grad(lambda k, x: jax.shard_map(
        lambda x, k: lax.psum(squares(x, k), 'd'), mesh=mesh,
        in_specs=(P('d'), P()), out_specs=P())(x, k)))
    check(step, K, X)
    self.assertEqual(counts(tconv.accelerate(step), K, X)[0], 0)

  def test_explicit_batch(self):
    mesh = jax.make_mesh((2,), ('d',), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
      x = jax.device_put(X, P('d'))
      self.assertEqual(jax.typeof(check(enlarge, x)),
                       jax.typeof(enlarge(x)))
      self.assertEqual(counts(tconv.accelerate(enlarge), x), (0, 1))

  def test_explicit_channels_are_left(self):
    sharded = functools.partial(
        lax.conv_general_dilated, window_strides=(1, 1),
        padding=[(2, 2), (2, 2)], lhs_dilation=(2, 2), dimension_numbers=NHWC,
        out_sharding=P(None, None, None, 'd'))
    mesh = jax.make_mesh((2,), ('d',), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
      k = jax.device_put(K, P(None, None, None, 'd'))
      entry, = tconv.explain(sharded, X, k)
      self.assertIn('explicit sharding', entry.reason)
      check(sharded, X, k)


class InsertedZerosTest(parameterized.TestCase):

  @parameterized.parameters(
      (((0, 0, 0), (1, 2, 1), (-1, 3, 2), (0, 0, 0)), ((1, 2), (0, 3)), True),
      # Zeros are inserted twice.
      (((0, 0, 0), (1, 0, 1), (0, 2, 2), (0, 0, 0)), ((1, 2), (2, 2)), True,
       (2, 3)),
      # Values are cut off, and zeros put there.
      (((0, 0, 0), (-1, 0, 1), (0, 0, 1), (0, 0, 0)), ((1, 1), (1, 1)), False),
      # Another channel.
      (((0, 0, 0), (0, 0, 1), (0, 0, 1), (0, 0, 1)), ((1, 1), (1, 1)), False),
  )
  def test_pads(self, config, padding, joined, dilation=(1, 1)):
    k = integers(0, (3, 3, 3 if config[3][2] else 2, 2))
    function = lambda x: lax.conv_general_dilated(
        lax.pad(x, 0., config), k, (1, 1), padding, dilation,
        dimension_numbers=NHWC)
    check(function, X)
    found = names(tconv.accelerate(function), X)
    self.assertEqual('tconv_conv_transpose' in found, joined)
    self.assertNotEqual('pad' in found, joined)

  def test_pads_that_are_used_elsewhere_or_insert_others_stay(self):
    def function(x, value=0.):
      wide = lax.pad(x, value, ((0, 0, 0), (1, 1, 1), (1, 1, 1), (0, 0, 0)))
      return wide, lax.conv_general_dilated(
          wide, K, (1, 1), 'SAME', dimension_numbers=NHWC)

    check(function, X)
    ones = lambda x: function(x, 1.)[1]
    check(ones, X)
    self.assertEqual(counts(tconv.accelerate(ones), X), (1, 0))


class ArgumentsTest(absltest.TestCase):

  def test_all_takes_grouped_ones(self):
    k = integers(0, (3, 3, 1, 2))
    function = lambda x: lax.conv_general_dilated(
        x, k, (1, 1), 'SAME', dimension_numbers=NHWC, feature_group_count=2)
    self.assertEqual(counts(tconv.accelerate(function), X), (1, 0))
    every = tconv.accelerate(function, which='all')
    self.assertEqual(counts(every, X), (0, 1))
    np.testing.assert_array_equal(every(X), function(X))
    entry, = tconv.explain(function, X)
    self.assertEqual(entry.reason, "ordinary; which='all' uses taps")

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "which .*'all'; got 'every'"):
      tconv.accelerate(enlarge, which='every')
    with self.assertRaisesRegex(ValueError, 'fn must be a function; got 3'):
      tconv.accelerate(3)
    with self.assertRaises(jax.errors.ConcretizationTypeError) as caught:
      tconv.accelerate(lambda x: x if x.sum() > 0 else -x)(X)
    self.assertIn('tconv traces', str(caught.exception.__notes__))
    model = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
    with self.assertRaisesRegex(ValueError, 'BatchNorm.*accelerating'):
      tconv.accelerate(lambda model, x: model(x))(model, X)


class ExplainTest(absltest.TestCase):

  def test_entries(self):
    def step(x, k):
      y = tconv.conv_transpose(x, k, 2)
      return jax.grad(squares, 1)(x, k).sum() + y.sum()

    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (X, K)]
    found = tconv.explain(step, *shapes)
    self.assertEqual(
        [(e.role, bool(e.form)) for e in found],
        [('conv_transpose', False), ('conv_transpose', True),
         ('kernel gradient of conv_transpose', True)])
    self.assertIn('acceleration_test.py', found[1].source)
    self.assertIn('float32[2,3,3,2] float32[4,4,2,2] -> float32[2,6,6,2]',
                  str(found))
    self.assertEndsWith(
        str(found), '3 convolutions: 2 replaced, 1 of tconv already, 0 left; '
        'of those, 0 with inserted zeros that cost time.')

  def test_nothing_is_replaced_on_a_tpu(self):
    with mock.patch.object(jax, 'default_backend', lambda: 'tpu'):
      found = tconv.explain(jax.grad(squares, 1), X, K)
    self.assertEqual([e.reason for e in found], 2 * ['already fast'])

  def test_strict(self):
    function = lambda x: lax.conv_general_dilated(
        x.astype('int32'), K.astype('int32'), (1, 1), [(2, 2), (2, 2)],
        lhs_dilation=(2, 2), dimension_numbers=NHWC)
    with self.assertRaisesRegex(ValueError, 'strict(.|\n)*the dtype, int32'):
      tconv.explain(function, X, strict=True)
    tconv.explain(enlarge, X, strict=True)


def dilated(lowered):
  """Tells whether a program has a convolution with inserted zeros."""
  return bool(re.search(r'lhs_dilate = \[[^\]]*[2-9]', lowered.as_text()))


class AcceleratingTest(absltest.TestCase):

  def test_in_the_block_only(self):
    function = jax.jit(lambda x: enlarge(x))
    before = function(X)
    self.assertTrue(dilated(function.lower(X)))
    for _ in range(2):
      with tconv.accelerating():
        np.testing.assert_array_equal(function(X), before)
        self.assertFalse(dilated(function.lower(X)))
      self.assertTrue(dilated(function.lower(X)))
    self.assertEqual(function._cache_size(), 2)

  def test_derivatives_and_nesting(self):
    loss = lambda x, k: squares(scanned(remembered(with_vjp(
        functools.partial(enlarge, k=K))))(x), k)
    step = jax.jit(jax.grad(loss, (0, 1)))
    before = step(X, K)
    with tconv.accelerating():
      chex.assert_trees_all_equal(step(X, K), before)
      self.assertFalse(dilated(step.lower(X, K)))

  def test_ends_with_an_error(self):
    with self.assertRaises(KeyError), tconv.accelerating():
      raise KeyError
    self.assertTrue(dilated(jax.jit(enlarge).lower(X)))


class LayersTest(absltest.TestCase):

  @absltest.skipUnless(HAS_KERAS, 'needs keras')
  def test_fit_of_keras(self):
    import keras

    def trained():
      keras.utils.set_random_seed(0)
      model = keras.Sequential([keras.layers.Conv2DTranspose(
          3, 4, strides=2, padding='same')])
      model.compile(optimizer='sgd', loss='mse')
      history = model.fit(X, jnp.zeros((2, 6, 6, 3)), epochs=2, verbose=0)
      return history.history['loss'], [v.value for v in model.weights]

    before = trained()
    lower = mock.Mock(side_effect=acceleration._call)
    with mock.patch.object(acceleration, '_call', lower):
      with tconv.accelerating():
        after = trained()
    # Forward, and the gradient of the kernel; that of the input is not needed.
    self.assertGreaterEqual(lower.call_count, 2)
    chex.assert_trees_all_close(after, before, rtol=1e-5)


if __name__ == '__main__':
  absltest.main()
