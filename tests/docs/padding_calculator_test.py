"""The padding calculator in a real browser, against tconv's dialects."""

import collections
import functools
import itertools
import json
import re

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests import references
from tests.docs import interactive
from tests.docs import padding_calls
from tests.docs import padding_cases

EVALUATE = """states => JSON.stringify(states.map(state => {
  try {
    return tconvPadding.evaluate(state);
  } catch (error) {
    if (!(error instanceof tconvPadding.ArgumentError)) throw error;
    return {argument: error.argument, error: error.message};
  }
}))"""
NAMES = """() => Object.fromEntries(Object.entries(tconvPadding.CALLS).map(
    ([name, call]) => [name, call.fields]))"""
STATES = list(padding_cases.states(720))


def pads_of(framework, taps, **options):
  """The padding of a legal call with one axis, the same for every size."""
  meaning = padding_calls.meaning(
      padding_calls.Call(framework, options), (20,), (taps,))
  return meaning.padding[0]


class ArithmeticTest(interactive.InteractiveTest):

  source = 'padding.md'
  """The names of arguments by call, and states with their results."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    page = cls.browser.new_page()
    page.goto((cls.folder / 'page.html').as_uri())
    cls.names = page.evaluate(NAMES)
    cls.results = list(zip(
        STATES, json.loads(page.evaluate(EVALUATE, STATES)), strict=True))
    page.close()

  @parameterized.parameters(*padding_cases.CALLS)
  def test_it_agrees_with_the_dialects(self, name):
    seen = collections.Counter()
    for state, result in self.results:
      if state['call'] != name:
        continue
      try:
        call, size, kernel_size = padding_calls.from_state(
            state, self.names[name])
        geometry = padding_calls.meaning(call, size, kernel_size)
      except ValueError as error:
        self.assertIn('error', result, f'{state} is illegal: {error}')
        self.assertIn(result['argument'], str(error), state)
        self.assertStartsWith(result['error'], result['argument'])
        self.assertIn('; got ', result['error'])
        seen['illegal', state['axes']] += 1
        continue
      self.assertNotIn('error', result, state)
      axes = result['axes']
      self.assertEqual(tuple((a['low'], a['high']) for a in axes),
                       geometry.padding, state)
      for axis, fine in zip(axes, geometry.fine_size, strict=True):
        self.assertEqual(axis['size'], fine, state)
        self.assertEqual(eval(axis['filled'], {'max': max}), fine, state)
      # The call itself, and all that are equal to it.
      self.assertLen(result['equal'], 5)
      for other in [result, *result['equal']]:
        if 'text' in other:
          written = padding_calls.from_source(other['text'])
          meant = padding_calls.meaning(written, size, kernel_size)
          self.assertEqual(
              (meant.fine_size, meant.padding),
              (geometry.fine_size, geometry.padding), other['text'])
          seen['equal'] += 1
      seen['legal', state['axes']] += 1
    for kind, axes in itertools.product(('legal', 'illegal'), '123'):
      self.assertGreater(seen[kind, axes], 5)
    self.assertGreater(seen['equal'], 100)

  def test_equal_calls_have_equal_values(self):
    done = collections.Counter()
    for state, result in self.results:
      texts = [c['text'] for c in result.get('equal', ()) if 'text' in c]
      if (len(texts) < 4 or state['axes'] == '3' or done[state['call']]
          or state['call'] in ('flax', 'lax', 'tconv')):
        continue
      done[state['call']] += 1
      call, size, kernel_size = padding_calls.from_state(
          state, self.names[state['call']])
      x = references.integers(0, (2, *size, 3))
      kernel = references.integers(1, (*kernel_size, 2, 3))
      expected = references.conv_transpose(
          x, kernel, padding_calls.meaning(call, size, kernel_size))
      for text in [result['text'], *texts]:
        np.testing.assert_array_equal(padding_calls.apply(
            padding_calls.from_source(text), x, kernel), expected, text)
    self.assertLen(done, 3)

  def evaluate(self, states):
    return json.loads(self.open_page().evaluate(EVALUATE, states))

  def none(self, name):
    """Axes that the calculator cannot express in a framework."""
    for _, result in self.results:
      for other in result.get('equal', ()):
        if other['call'] == name and 'reason' in other:
          yield result['axes'], other['reason']

  def test_pytorch_has_none(self):

    @functools.cache
    def expressible(k, s, d):
      return {pads_of('torch', k, stride=s, padding=p, output_padding=a,
                      dilation=d)
              for p, a in itertools.product(range(7), range(max(s, d)))}

    for axes, reason in self.none('torch'):
      possible = [(axis['low'], axis['high']) in expressible(
          axis['k'], axis['s'], axis['d']) for axis in axes]
      self.assertFalse(all(possible), axes)
      named = re.match(r'Axis (\d)', reason)[1]
      self.assertFalse(possible[int(named)], reason)

  def test_keras_has_none(self):

    @functools.cache
    def expressible(padding, is_given, k, s, d):
      return {pads_of('keras', k, strides=s, padding=padding,
                      output_padding=extra, dilation_rate=d)
              for extra in (range(s) if is_given else [None])}

    seen = 0
    for axes, _ in self.none('keras'):
      if max(a['s'] for a in axes) > 1 and max(a['d'] for a in axes) > 1:
        continue  # The layers refuse that.
      for call in itertools.product(('same', 'valid'), (True, False)):
        self.assertFalse(all(
            (axis['low'], axis['high']) in expressible(
                *call, axis['k'], axis['s'], axis['d']) for axis in axes), axes)
      seen += 1
    self.assertGreater(seen, 50)

  def test_onnx_has_none(self):
    for axes, _ in itertools.islice(self.none('onnx'), 15):
      if len(axes) > 1:
        continue
      axis, = axes
      for a, begin, end, size, auto in itertools.product(
          range(max(axis['s'], axis['d'])), range(3), range(6),
          (None, axis['size']), ('SAME_UPPER', 'NOTSET')):
        options = dict(strides=axis['s'], dilations=axis['d'],
                       output_padding=a, auto_pad=auto, output_shape=size)
        if auto == 'NOTSET':
          options['pads'] = (begin, end)
        elif begin or end:
          continue
        try:
          found = padding_calls.meaning(
              padding_calls.Call('onnx', options), (axis['n'],), (axis['k'],))
        except ValueError:
          continue
        self.assertNotEqual(found.padding, ((axis['low'], axis['high']),))

  @parameterized.parameters('torch', 'keras')
  def test_cropping_helps_where_there_is_no_call(self, name):
    seen = 0
    for axes, reason in self.none(name):
      crop = re.search(r'\[:, (?::, )?([\d:, ]+)\]', reason)
      if crop:
        n, k, s, d = (tuple(axis[name] for axis in axes) for name in 'nksd')
        strides = 'stride' if name == 'torch' else 'strides'
        dilation = 'dilation' if name == 'torch' else 'dilation_rate'
        whole = padding_calls.meaning(padding_calls.Call(
            name, {strides: s, dilation: d}), n, k)
        ends = [tuple(map(int, part.split(':')))
                for part in crop[1].split(', ')]
        for axis, (start, stop), size, (low, _) in zip(
            axes, ends, whole.fine_size, whole.padding, strict=True):
          self.assertEqual((start + low, stop - start),
                           (axis['low'], axis['size']))
          self.assertLessEqual(stop, size)
        seen += 1
    self.assertGreater(seen, 10)

  def test_contributions(self):
    axes = [axis for _, result in self.results
            for axis in result.get('axes', ())][:150]
    sources, counts = self.open_page().evaluate("""axes => [
        axes.map(axis => [...Array(axis.size).keys()].map(
            at => tconvPadding.sources(axis, at + axis.low))),
        axes.map(tconvPadding.counts)]""", axes)
    for axis, reached, phases in zip(axes, sources, counts, strict=True):
      n, k, s, d = (axis[name] for name in 'nksd')
      expected = [[i for i in range(n) for t in range(k)
                   if i * s + t * d - axis['low'] == at]
                  for at in range(axis['size'])]
      self.assertEqual(reached, expected, axis)
      many = np.zeros(100 * s + k * d, int)  # Far from the ends.
      for i in range(100):
        many[i * s:i * s + k * d:d] += 1
      self.assertEqual(phases, many[40 * s:41 * s].tolist(), axis)

  def test_numbers_without_reason(self):
    base = dict(call='torch', axes='2', input='4', kernel='3')
    cases = {
        'input size': dict(input='10001'), 'stride': dict(stride='1e9'),
        'padding': dict(padding='99999999999999999999'),
        'kernel_size': dict(kernel='[' * 60), 'call': dict(call='__proto__'),
        'axes': dict(axes='4'), 'output_size': dict(size='2', padding='9')}
    results = self.evaluate([base | case for case in cases.values()])
    self.assertEqual([r.get('argument') for r in results], list(cases))
    # Their sums are exact even if all numbers are as large as they may be.
    large, = self.evaluate([dict.fromkeys(
        ('input', 'kernel', 'stride', 'dilation'), '10000')
        | dict(call='tconv', axes='3', padding='0')])
    self.assertEqual({axis['size'] for axis in large['axes']},
                     {2 * 9999 * 10000 + 1})
    self.assertTrue(all('text' in c for c in large['equal']
                        if c['call'] != 'keras'))


if __name__ == '__main__':
  absltest.main()
