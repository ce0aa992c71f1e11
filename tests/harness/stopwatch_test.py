"""The stopwatch, against a clock that only the calls move, and step times."""

import collections
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from flax import nnx
import jax.numpy as jnp

from experiments.harness import step_times
from experiments.harness import stopwatch
import tconv


class Clock:
  """Calls that take the seconds they are told to, and a diary of them."""

  def __init__(self):
    self.now, self.diary = 0., []

  def call(self, name, *seconds):
    """A call that takes `seconds` one after the other, the last for ever."""
    left = list(seconds)

    def run():
      self.now += left.pop(0) if len(left) > 1 else left[0]
      self.diary.append(name)
      return name.upper()

    return run


class InterleaveTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.clock = Clock()
    self.enter_context(mock.patch('time.perf_counter', lambda: self.clock.now))

  def time(self, repeats=7, settling=0, **seconds):
    self.enter_context(mock.patch.object(stopwatch, '_SETTLING', settling))
    hopeless = seconds.pop('hopeless', float('inf'))
    return stopwatch.interleave(
        {name: self.clock.call(name, *s) for name, s in seconds.items()},
        repeats, hopeless=hopeless)

  def test_the_first_run_is_not_counted(self):
    times = self.time(a=(9, .25), b=(.0625, .125))
    self.assertEqual(times, {'a': [250] * 7, 'b': [125] * 7})

  def test_each_call_settles_before_it_is_timed(self):
    times = self.time(settling=.25, a=[.25, .125, .0625, .0625, .125],
                      b=[.25, 1, .25], repeats=1)
    self.assertEqual(''.join(self.clock.diary[2:]), 'bbaaaa')
    self.assertEqual(times, {'a': [125], 'b': [250]})

  def test_every_round_has_all_in_another_order(self):
    self.time(a=[.25], b=[.25], c=[.25])
    rounds = [''.join(self.clock.diary[i:i + 3]) for i in range(0, 24, 3)]
    self.assertEqual(rounds[0], 'abc')
    for names in rounds:
      self.assertEqual(sorted(names), ['a', 'b', 'c'])
    neighbours = {
        pair for names in rounds[1:] for pair in zip(names, names[1:])}
    self.assertLen(neighbours, 6)

  @parameterized.parameters((19 / 64, 7), (20 / 64, 2))
  def test_a_slow_call_has_two_rounds(self, seconds, rounds):
    times = self.time(a=[seconds], b=[.25])
    self.assertLen(times['a'], rounds)
    self.assertLen(times['b'], 7)

  def test_a_short_call_is_run_in_a_row(self):
    times = self.time(a=[2**-9], b=[.25], repeats=2)  # Three are over 5 ms.
    self.assertEqual(times['a'], [1e3 * 2**-9] * 2)
    counts = collections.Counter(self.clock.diary)
    self.assertEqual(counts, {'a': 1 + 2 * 3, 'b': 1 + 2})
    self.assertIn('aaa', ''.join(self.clock.diary[2:]))

  @parameterized.parameters((20., [20e3] * 2), (20.5, [20.5e3]))
  def test_a_hopeless_call_is_run_once(self, seconds, expected):
    times = self.time(a=[1], b=[seconds], hopeless=20)
    self.assertEqual(times['b'], expected)
    self.assertLen(times['a'], 2)

  def test_calls_that_are_enqueued_are_waited_for_together(self):
    pending = []

    def wait(name, outputs):
      self.assertEqual((name, outputs), ('a', 'later'))
      self.clock.diary.append(len(pending))
      self.clock.now += 2**-9 * len(pending)
      pending.clear()

    def run():
      pending.append(1)
      return 'later'

    self.enter_context(mock.patch.object(stopwatch, '_SETTLING', 0))
    times = stopwatch.interleave({'a': run}, 2, wait=wait)
    self.assertEqual(times, {'a': [1e3 * 2**-9] * 2})
    self.assertEqual(self.clock.diary, [1, 3, 3])  # Three are over 5 ms.


class RatioTest(absltest.TestCase):

  def test_medians_quartiles_and_means(self):
    ratio = stopwatch.ratio([2, 4, 6, 8, 100], [1, 1, 1, 1, 1])
    self.assertEqual(ratio, (6, 4, 8))
    # Rounds that one lacks.
    self.assertEqual(stopwatch.ratio([8, 6], [2, 2, 3, 7, 9]),
                     (7 / 3, 3.25, 3.75))
    self.assertAlmostEqual(stopwatch.geometric_mean([1, 8, 27]), 6, places=14)


class StepTimesTest(absltest.TestCase):

  def test_steps_are_timed_by_layer(self):
    clock = Clock()
    seconds = {tconv.nnx.ConvTranspose: .25, nnx.ConvTranspose: .125}

    def build(layer):
      step = lambda state, batch: (state + batch, {'loss': state})
      return step, jnp.float32(seconds[layer]), jnp.float32(0)

    def wait(outputs):
      clock.now += float(outputs[0])  # As if the step took so long.

    with (mock.patch('time.perf_counter', lambda: clock.now),
          mock.patch('jax.block_until_ready', wait)):
      times = step_times.compare(build)
    self.assertEqual(
        times, {'ms_per_step_tconv': 250, 'ms_per_step_flax': 125})
    table, = step_times.tables('A step', [
        {'head': 4, 'ms': 1.}, {'head': 8, **times}], ['head'])
    self.assertEqual(table.rows, [('8', '250.0', '125.0', '0.50')])
    self.assertEqual(step_times.tables('A step', [{'ms': 1.}], ['head']), [])


if __name__ == '__main__':
  absltest.main()
