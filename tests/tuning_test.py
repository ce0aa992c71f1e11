"""`tconv.tune`: what it finds in a program, what it times, what it chooses."""

import collections
import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
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
from tests import tuning_cache_test
from tests.acceleration_test import WRAPPERS
from tests.references import integers

Y, W = integers(0, (4, 3, 4, 5)), integers(1, (4, 4, 2, 5))
up = functools.partial(tconv.conv_transpose, strides=2)


def energy(y, w):
  return (up(y, w)**2).sum()


class TuningTest(tuning_cache_test.RecordingsTest):
  """With a cache of its own, a known rule and, mostly, a false stopwatch."""

  def setUp(self):
    super().setUp()
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

  def test_on_every_level(self):
    for wrap in WRAPPERS:
      self.assertEqual(self.found(wrap(lambda y: up(y, W)), Y),
                       ['conv_transpose'], wrap)

  def test_a_training_step_has_three(self):
    step = jax.jit(jax.value_and_grad(jax.checkpoint(energy), (0, 1)))
    self.assertEqual(self.found(step, Y, W),
                     ['conv', 'conv_kernel_grad', 'conv_transpose'])

  def test_a_mapped_axis_counts(self):
    found, = self.tune(jax.vmap(up, (0, None)), np.stack([Y] * 3), W)
    self.assertEqual(found.contraction.shapes, ((12, 3, 4, 5), W.shape))

  def test_in_shard_map_the_shapes_are_those_of_a_device(self):
    mesh = jax.make_mesh((4,), ('batch',), axis_types=(AxisType.Auto,))
    sharded = lambda **options: jax.jit(jax.shard_map(
        functools.partial(up, **options), mesh=mesh,
        in_specs=(P('batch'), P()), out_specs=P('batch')))
    found, = self.tune(sharded(), Y, W)
    self.assertEqual(found.contraction.shapes, ((1, 3, 4, 5), W.shape))
    # That is what is asked for when it is lowered, too.
    self.assertEqual(sharded().lower(Y, W).as_text(),
                     sharded(method='polyphase').lower(Y, W).as_text())

  def test_different_ones_are_told_apart(self):
    def function(y, w):
      return (up(y, w), up(2 * y, w + 1), up(y, w, precision='highest'),
              up(y[:2], w), up(y, w, padding=1),
              up(y, w, preferred_element_type='float32'),
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

  def test_trees_and_keywords(self):
    def step(state, *, batch, stride, name):
      assert name == 'generator' and stride == 2
      return tconv.conv_transpose(batch, state['w'], stride)

    step = jax.jit(step, static_argnames=('stride', 'name'))
    found, = self.tune(step, {'w': W, 'none': None}, batch=jnp.asarray(Y),
                       stride=2, name='generator')
    self.assertEqual(found.contraction.geometry.strides, (2, 2))


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

  def test_what_is_known_is_not_timed_again(self):
    first = self.tune(energy, Y, W)
    self.runs.clear()
    self.assertEqual(self.tune(energy, Y, W), first)
    self.assertEmpty(self.runs)
    # Of a larger program, only what is new.
    self.tune(jax.grad(energy), Y, W)
    self.assertEqual({c.operation for c, _ in self.runs}, {'conv'})

  @parameterized.parameters((1.85, 'overlap_add'), (1.75, 'polyphase'))
  def test_the_rule_stands_unless_clearly_slower(self, ms, form):
    self.times['polyphase'] = ms
    recording, = self.tune(energy, Y, W)
    self.assertEqual(recording.form, form)

  def test_the_hopeless_are_given_up(self):
    self.times = dict.fromkeys(self.times, 90.) | {
        'polyphase': 451., 'vjp': 449., 'lax': 5000.}
    with mock.patch.object(tuning, '_ROUNDS', (10, 10)):
      recording, = self.tune(energy, Y, W)
    counts = collections.Counter(form for _, form in self.runs)
    self.assertEqual({form for form, count in counts.items() if count == 1},
                     {'polyphase', 'lax'})
    self.assertEqual(recording.milliseconds, self.times)

  @parameterized.parameters(
      (16, 8, set()), (17, 8, {'taps'}), (33, 2, {'taps', 'overlap_add'}))
  def test_programs_that_take_long_to_compile_are_not_tried(
      self, kernel_size, stride, left_out):
    dispatch.choose.return_value = 'vjp'
    kernel = jax.ShapeDtypeStruct((kernel_size,) * 2 + (2, 5), Y.dtype)
    found, = self.tune(
        lambda y, w: tconv.conv_transpose(y, w, stride), Y, kernel)
    self.assertEqual(self.times.keys() - found.milliseconds.keys(), left_out)

  def test_a_form_that_fails_is_left_out(self):
    fail = mock.Mock(side_effect=jax.errors.JaxRuntimeError('out of memory'))

    def stopwatch(contraction, form, operands):
      return fail if form == failing else self.stopwatch(
          contraction, form, operands)

    with mock.patch.object(tuning, '_stopwatch', stopwatch):
      failing = 'polyphase'
      recording, = tconv.tune(energy, Y, W)
      fail.assert_called_once()
      self.assertNotIn('polyphase', recording.milliseconds)
      self.assertEqual(recording.form, 'overlap_add')
      failing = 'overlap_add'  # That is what the user's program would meet.
      with self.assertRaisesRegex(jax.errors.JaxRuntimeError, 'memory'):
        tconv.tune(energy, Y[:1], W)


class RealTimingTest(TuningTest):
  """Without the false stopwatch, on one tiny case."""

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(tuning, '_ROUNDS', (2, 2)))

  def test_options_of_the_contraction(self):
    y, w = (jax.ShapeDtypeStruct(a.shape, 'float16') for a in (Y, W))
    with jax.enable_x64(True):
      recording, = tconv.tune(functools.partial(
          up, precision='highest', preferred_element_type='float64'), y, w)
    self.assertEqual(recording.contraction.precision, lax.Precision.HIGHEST)
    self.assertEqual(recording.contraction.result_dtype, 'float64')
    self.assertEqual(set(recording.milliseconds), set(self.times))
    self.assertGreater(min(recording.milliseconds.values()), 0)

  @parameterized.parameters(AxisType.Auto, AxisType.Explicit)
  def test_a_mesh_does_not_matter(self, axis_type):
    mesh = jax.make_mesh((4,), ('batch',), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
      recording, = tconv.tune(jax.jit(up), jax.device_put(Y, P('batch')), W)
      self.assertEqual(jax.sharding.get_abstract_mesh(), mesh.abstract_mesh)
    self.assertEqual(recording.contraction.shapes, (Y.shape, W.shape))
    self.assertEqual(tuning_cache.read(recording.contraction), recording)


if __name__ == '__main__':
  absltest.main()
