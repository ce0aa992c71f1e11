"""`tconv.tune`: what it finds in a program, what it times, what it chooses."""

import collections
import functools
import itertools
import os
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
import numpy as np

import tconv
from tconv import dispatch
from tconv import tuning
from tconv import tuning_cache
from tests.references import integers

Y, W = integers(0, (4, 3, 4, 5)), integers(1, (4, 4, 2, 5))
up = functools.partial(tconv.conv_transpose, strides=2)


def energy(y, w):
  return (up(y, w)**2).sum()


def with_jvp(f):
  custom = jax.custom_jvp(f)
  custom.defjvp(lambda primals, tangents: (custom(*primals), 0.))
  return custom


def with_vjp(f):
  custom = jax.custom_vjp(f)
  custom.defvjp(lambda *primals: (f(*primals), None), lambda _, c: (c, c))
  return custom


class TuningTest(chex.TestCase):
  """With a cache of its own, a known rule and, mostly, a false stopwatch."""

  def setUp(self):
    super().setUp()
    self.cache = self.enter_context(tempfile.TemporaryDirectory())
    self.enter_context(
        mock.patch.dict(os.environ, {'XDG_CACHE_HOME': self.cache}))
    tuning_cache._warn_once.cache_clear()
    self.enter_context(mock.patch.object(
        dispatch, 'choose', return_value='overlap_add'))
    # What a run of each form is said to take, in ms, and the runs so far.
    self.times = dict.fromkeys(('vjp', 'lax', 'taps'), 3.)
    self.times |= {'overlap_add': 2., 'polyphase': 1.}
    self.runs = []

  def stopwatch(self, contraction, form, operands):
    def run():
      self.runs.append((contraction, form))
      return self.times[form]
    return run

  def tune(self, *args, **kwargs):
    with mock.patch.object(tuning, '_stopwatch', self.stopwatch):
      return tconv.tune(*args, **kwargs)

  def found(self, function, *args):
    """The operations that were found in a function, sorted."""
    return sorted(r.contraction.operation for r in self.tune(function, *args))


class SearchTest(TuningTest):

  @parameterized.parameters(
      lambda f: f, jax.jit, jax.checkpoint, lambda f: jax.jit(jax.jit(f)),
      lambda f: lambda y, w: lax.scan(
          lambda c, _: (c + f(y, w), None), 0., None, 3)[0],
      lambda f: lambda y, w: lax.fori_loop(
          0, 3, lambda _, c: c + f(y, w), 0.),
      lambda f: lambda y, w: lax.while_loop(
          lambda c: f(y, w) > c, lambda c: c + 1., 0.),
      lambda f: lambda y, w: lax.cond(
          y.sum() > 0, f, lambda *_: 0., y, w),
      with_jvp, with_vjp)
  def test_on_every_level(self, transform):
    self.assertEqual(self.found(transform(energy), Y, W), ['conv_transpose'])

  @parameterized.parameters(
      lambda f: f, jax.jit, lambda f: jax.jit(jax.checkpoint(f)),
      lambda f: lambda y, w: lax.scan(
          lambda c, _: (c + f(y, w), None), 0., None, 3)[0])
  def test_a_training_step_has_three(self, transform):
    step = jax.jit(jax.value_and_grad(transform(energy), (0, 1)))
    self.assertEqual(self.found(step, Y, W),
                     ['conv', 'conv_kernel_grad', 'conv_transpose'])

  def test_inside_a_custom_derivative(self):
    @jax.custom_vjp
    def custom(y, w):
      return energy(y, w)

    custom.defvjp(
        lambda y, w: (energy(y, w), (y, w)),
        lambda saved, c: (jnp.zeros_like(saved[0]), c * tconv.conv_kernel_grad(
            up(*saved), saved[0], (4, 4), 2)))
    self.assertEqual(self.found(jax.grad(custom, 1), Y, W),
                     ['conv_kernel_grad', 'conv_transpose'])

  def test_a_mapped_axis_counts(self):
    found, = self.tune(jax.vmap(up, (0, None)), np.stack([Y] * 3), W)
    self.assertEqual(found.contraction.shapes, ((12, 3, 4, 5), W.shape))

  def test_in_shard_map_the_shapes_are_those_of_a_device(self):
    mesh = jax.make_mesh((4,), ('batch',), axis_types=(AxisType.Auto,))
    sharded = jax.shard_map(up, mesh=mesh, in_specs=(P('batch'), P()),
                            out_specs=P('batch'))
    found, = self.tune(jax.jit(sharded), Y, W)
    self.assertEqual(found.contraction.shapes, ((1, 3, 4, 5), W.shape))
    # That is what is asked for when it is lowered, too.
    with mock.patch.object(
        tuning_cache, 'form', wraps=tuning_cache.form) as form:
      jax.jit(sharded).lower(Y, W)
    form.assert_called_once_with(found.contraction, 'cpu')

  def test_equal_ones_are_timed_once(self):
    found = self.tune(lambda y, w: up(y, w) + up(2 * y, w + 1), Y, W)
    self.assertLen(found, 1)

  def test_different_ones_are_told_apart(self):
    def function(y, w):
      return (up(y, w), up(y, w, precision='highest'), up(y[:2], w),
              up(y, w, padding=1), up(y, w, preferred_element_type='float32'),
              up(y.astype('float16'), w.astype('float16')))

    found = self.tune(function, Y, W)
    # 'SAME' is a padding of 1 here, and float32 the dtype anyway.
    self.assertLen(found, 4)
    self.assertLen({r.file for r in found}, 4)

  def test_other_methods_are_not_its_business(self):
    found = self.found(jax.grad(
        lambda y: (up(y, W, method='lax')**2).sum()), Y)
    self.assertEqual(found, ['conv'])

  @parameterized.parameters(
      jnp.sin, lambda y: up(y, W, method='lax'), lambda y: None)
  def test_nothing_to_tune(self, function):
    with self.assertRaisesRegex(ValueError, "function must use.*'auto'.*got"):
      self.tune(function, Y)


class ArgumentsTest(TuningTest):

  def test_shapes_are_enough(self):
    shapes = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (Y, W))
    self.assertEqual(self.tune(energy, *shapes), self.tune(energy, Y, W))

  def test_trees_and_keywords(self):
    def step(state, *, batch, stride, name):
      assert name == 'generator' and stride == 2
      return tconv.conv_transpose(batch, state['w'], stride)

    step = jax.jit(step, static_argnames=('stride', 'name'))
    found, = self.tune(step, {'w': W, 'none': None}, batch=jnp.asarray(Y),
                       stride=2, name='generator')
    self.assertEqual(found.contraction.geometry.strides, (2, 2))

  def test_the_function_is_not_run(self):
    def function(y):
      self.assertIsInstance(y, jax.core.Tracer)
      return up(y, W)

    self.tune(function, Y)
    self.tune(function, jnp.asarray(Y))


class TimingTest(TuningTest):

  def test_the_fastest_is_recorded_and_used(self):
    recording, = self.tune(energy, Y, W)
    self.assertEqual(recording.form, 'polyphase')
    self.assertEqual(recording.rule, 'overlap_add')
    self.assertEqual(recording.milliseconds, self.times)
    self.assertEqual(tuning_cache.read(recording.contraction), recording)
    self.assertEqual(
        jax.jit(lambda y, w: up(y, w)).lower(Y, W).as_text(),
        jax.jit(lambda y, w: up(y, w, method='polyphase')).lower(
            Y, W).as_text())

  def test_on_and_off_give_the_same(self):
    y, w = (np.random.default_rng(0).normal(size=a.shape).astype(np.float32)
            for a in (Y, W))
    step = lambda: jax.jit(jax.value_and_grad(
        lambda y, w: energy(y, w), (0, 1)))(y, w)
    untuned = step()
    self.assertLen(self.tune(jax.grad(energy, (0, 1)), y, w), 3)
    # Sums of up to 192 float32 products, in another order.
    chex.assert_trees_all_close(step(), untuned, rtol=1e-5, atol=1e-4)

  def test_what_is_known_is_not_timed_again(self):
    first = self.tune(energy, Y, W)
    self.runs.clear()
    self.assertEqual(self.tune(energy, Y, W), first)
    self.assertEmpty(self.runs)
    # Of a larger program, only what is new.
    self.tune(jax.grad(energy), Y, W)
    self.assertEqual({c.operation for c, _ in self.runs}, {'conv'})

  def test_a_broken_file_is_measured_anew(self):
    first, = self.tune(energy, Y, W)
    first.file.write_text('{')
    with self.assertWarnsRegex(UserWarning, str(first.file)):
      again, = self.tune(energy, Y, W)
    self.assertEqual(again, first)
    self.assertEqual(tuning_cache.read(first.contraction), first)

  @parameterized.parameters((2., 'overlap_add'), (1.85, 'overlap_add'),
                            (1.75, 'polyphase'), (2.5, 'overlap_add'))
  def test_the_rule_stands_unless_clearly_slower(self, ms, form):
    self.times['polyphase'] = ms
    recording, = self.tune(energy, Y, W)
    self.assertEqual(recording.form, form)

  def test_runs_take_turns(self):
    self.tune(energy, Y, W)
    forms = [form for _, form in self.runs]
    # The rule's choice first; what is never the fastest, never.
    self.assertEqual(forms[0], 'overlap_add')
    count = len(self.times)
    self.assertCountEqual(forms[:count], self.times)
    self.assertEqual(forms, forms[:count] * (len(forms) // count))

  @parameterized.parameters((.01, 1000), (20., 50), (500., 10))
  def test_short_runs_are_repeated_more_often(self, ms, runs):
    # `ms` a round, and a little, so that a second is just over.
    self.times = dict.fromkeys(self.times, (ms + .001) / len(self.times))
    self.tune(energy, Y, W)
    counts = collections.Counter(form for _, form in self.runs)
    self.assertEqual(set(counts.values()), {runs})

  def test_medians_count(self):
    # Every seventh run is disturbed, whatever its form.
    run = lambda form: self.times[form] + 50 * (len(self.runs) % 7 == 0)
    with mock.patch.object(self, 'stopwatch', lambda c, form, _: (
        lambda: self.runs.append(form) or run(form))):
      recording, = self.tune(energy, Y, W)
    self.assertEqual(recording.milliseconds, self.times)

  def test_the_hopeless_are_given_up(self):
    self.times = dict.fromkeys(self.times, 90.) | {
        'polyphase': 451., 'vjp': 449., 'lax': 5000.}
    with mock.patch.object(tuning, '_ROUNDS', (10, 10)):
      recording, = self.tune(energy, Y, W)
    counts = collections.Counter(form for _, form in self.runs)
    self.assertEqual(counts, dict.fromkeys(self.times, 10) | {
        'polyphase': 1, 'lax': 1})
    self.assertEqual(recording.milliseconds, self.times)

  def test_short_runs_are_not_hopeless(self):
    self.times |= {'polyphase': .1, 'lax': 99.}
    self.tune(energy, Y, W)
    counts = collections.Counter(form for _, form in self.runs)
    self.assertEqual(counts['lax'], counts['polyphase'])

  @parameterized.parameters(
      (16, 8, ()), (17, 8, ('taps',)), (32, 2, ('taps',)),
      (33, 2, ('taps', 'overlap_add')))
  def test_programs_that_take_long_to_compile_are_not_tried(
      self, kernel_size, stride, left_out):
    dispatch.choose.return_value = 'vjp'
    kernel = jax.ShapeDtypeStruct((kernel_size,) * 2 + (2, 5), Y.dtype)
    found, = self.tune(
        lambda y, w: tconv.conv_transpose(y, w, stride), Y, kernel)
    self.assertEqual(set(self.times) - set(found.milliseconds), set(left_out))

  def test_a_form_that_fails_is_left_out(self):
    fail = mock.Mock(side_effect=jax.errors.JaxRuntimeError('out of memory'))

    def stopwatch(contraction, form, operands):
      if form == failing:
        return fail
      return self.stopwatch(contraction, form, operands)

    with mock.patch.object(tuning, '_stopwatch', stopwatch):
      failing = 'polyphase'
      recording, = tconv.tune(energy, Y, W)
      fail.assert_called_once()
      self.assertNotIn('polyphase', recording.milliseconds)
      self.assertEqual(recording.form, 'overlap_add')
      failing = 'overlap_add'  # That is what the user's program would meet.
      with self.assertRaisesRegex(jax.errors.JaxRuntimeError, 'memory'):
        tconv.tune(energy, Y[:1], W)

  def test_a_folder_that_cannot_be_written(self):
    with mock.patch.object(pathlib.Path, 'mkdir', side_effect=PermissionError(
        13, 'Permission denied')):
      with self.assertWarnsRegex(UserWarning, f'not kept.*{self.cache}'):
        recording, = self.tune(energy, Y, W)
    self.assertEqual(recording.form, 'polyphase')
    self.assertFalse(recording.file.exists())


class RealTimingTest(TuningTest):
  """Without the false stopwatch, on one tiny case."""

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(tuning, '_ROUNDS', (2, 2)))

  def test_each_form_computes_the_contraction(self):
    seen = []
    implementation = dispatch.implementation

    def spy(operation, method, platform):
      def compute(lhs, rhs, geometry, **options):
        seen.append((operation, method, lhs.shape, rhs.shape, lhs.dtype,
                     geometry.strides, options))
        return implementation(operation, method, platform)(
            lhs, rhs, geometry, **options)
      return compute

    y, w = (jax.ShapeDtypeStruct(a.shape, 'float16') for a in (Y, W))
    wide = functools.partial(up, precision='highest',
                             preferred_element_type='float64')
    # By this clock a second passes between one look and the next.
    clock = mock.Mock(perf_counter=mock.Mock(side_effect=itertools.count()))
    with (mock.patch.object(dispatch, 'implementation', spy),
          mock.patch.object(tuning, 'time', clock), jax.enable_x64(True)):
      recording, = tconv.tune(wide, y, w)
    self.assertCountEqual(seen, [
        ('conv_transpose', form, Y.shape, W.shape, np.float16, (2, 2),
         dict(precision=lax.Precision.HIGHEST,
              preferred_element_type=np.float64)) for form in self.times])
    self.assertEqual(recording.milliseconds, dict.fromkeys(self.times, 1000))

  @parameterized.parameters(AxisType.Auto, AxisType.Explicit)
  def test_a_mesh_does_not_matter(self, axis_type):
    mesh = jax.make_mesh((4,), ('batch',), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
      y = jax.device_put(Y, P('batch'))
      with mock.patch.object(jax, 'block_until_ready') as computed:
        recording, = tconv.tune(jax.jit(up), y, W)
      self.assertEqual(jax.sharding.get_abstract_mesh(), mesh.abstract_mesh)
      np.testing.assert_array_equal(jax.jit(lambda y, w: up(y, w))(y, W),
                                    up(Y, W, method='matrix'))
    self.assertEqual(recording.contraction.shapes, (Y.shape, W.shape))
    self.assertTrue(recording.file.exists())
    self.assertLen(computed.call_args_list, 2 * len(self.times))
    for call in computed.call_args_list:
      self.assertLen(call.args[0].devices(), 1)


if __name__ == '__main__':
  absltest.main()
