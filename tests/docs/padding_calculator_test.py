"""The padding calculator in a real browser, against tconv's dialects."""

import collections
import functools
import itertools
import json
import pathlib
import re
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests import browser
from tests import references
from tests.docs import padding_calls
from tests.docs import padding_cases

DOCS = pathlib.Path(__file__).parents[2] / 'docs'
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


class CalculatorTest(browser.BrowserTest):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory()))
    (cls.folder / '_static').symlink_to(DOCS / '_static')
    block, = re.findall(r'```{raw} html\n(.*?)```',
                        (DOCS / 'padding.md').read_text(), re.DOTALL)
    (cls.folder / 'padding.html').write_text(
        '<!doctype html><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>Which padding?</title>{block}')

  def open_page(self, link='', width=1280):
    address = (self.folder / 'padding.html').as_uri()
    return self.open(address + link, width, files=(
        address, (self.folder / '_static').as_uri()))

  def evaluate(self, states):
    return json.loads(self.open_page().evaluate(EVALUATE, states))


class ArithmeticTest(CalculatorTest):
  """The names of arguments by call, and states with their results."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    page = cls.browser.new_page()
    page.goto((cls.folder / 'padding.html').as_uri())
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


class PageTest(CalculatorTest):

  def status(self, page):
    return page.locator('#padding-status').text_content()

  def focused(self, page):
    return page.evaluate('() => document.activeElement.name ?? ""')

  def test_by_keyboard(self):
    page = self.open_page()
    self.assertEqual(self.status(page), 'Output size: 32 × 32')
    while self.focused(page) != 'call':
      page.keyboard.press('Tab')
    page.keyboard.press('ArrowDown')
    page.keyboard.press('ArrowDown')  # Keras.
    self.assertStartsWith(self.status(page), 'Illegal: padding must be')
    for text in ('1', '5', '3', '2', 'same'):
      page.keyboard.press('Tab')
      if self.focused(page) == 'axes':
        page.keyboard.press('ArrowUp')
      else:
        page.keyboard.type(text)  # Tab has selected the old text.
    self.assertEqual(self.status(page), 'Output size: 10')
    results = page.locator('#padding-results')
    self.assertIn("Conv1DTranspose(filters, kernel_size=3, strides=2, "
                  "padding='same')", results.text_content())
    self.assertEqual(results.locator('dt').all_text_contents(),
                     ['PyTorch', 'ONNX', 'Flax', 'lax', 'tconv'])
    self.assertIn('None. Axis 0 has the padding (0, 1)',
                  results.text_content())

  def test_link_restores_the_state(self):
    page = self.open_page()
    page.get_by_label('call').select_option('onnx')
    page.get_by_label('strides', exact=True).fill('3, 2')
    page.get_by_label('pads', exact=True).fill('')
    page.get_by_label('auto_pad').select_option('SAME_LOWER')
    expected = 'Output size: 48 × 32'
    self.assertEqual(self.status(page), expected)
    link = page.evaluate('() => location.hash')
    calls = page.locator('pre').all_text_contents()
    again = self.open_page(link)
    self.assertEqual(again.locator('pre').all_text_contents(), calls)
    self.assertEqual(self.status(again), expected)
    # A link on the page opens the equal call; its hash changes the state.
    again.locator('dd', has_text='lax.conv_transpose').get_by_role(
        'link').click()
    self.assertEqual(again.get_by_label('call').input_value(), 'lax')
    self.assertEqual(self.status(again), expected)
    again.evaluate('() => {location.hash = "#the-convention"}')
    self.assertEqual(again.get_by_label('call').input_value(), 'lax')

  @parameterized.parameters(
      '#', '#the-convention', '#%E0%A4%A', '#call=__proto__&axes=9',
      '#call=constructor&toString=1', '#axes=&call=', '#padding&&&===',
      '#input=' + 'x' * 100_000)
  def test_a_broken_link_gives_the_defaults(self, link):
    page = self.open_page(link)
    self.assertEqual(self.status(page), 'Output size: 32 × 32')
    self.assertEqual(page.get_by_label('call').input_value(), 'torch')

  def test_a_hostile_link_stays_text(self):
    hostile = '<img src=x onerror=alert(1)>'
    page = self.open_page(f'#call=tconv&input=4&padding={hostile}&kernel=3')
    self.assertIn(f'; got {hostile}.', self.status(page))
    self.assertEqual(page.get_by_label('padding', exact=True).input_value(),
                     hostile)
    self.assertEqual(page.locator('img').count(), 0)

  @parameterized.parameters(
      '', '#call=onnx&axes=3&input=101,102,103&kernel=31,3,64&stride=7,8,9'
      '&dilation=2,3,4&padding=', '#call=flax&axes=3&input=9999&kernel=9999'
      '&stride=9999&padding=((1,2222),(3,4444),(5,6666))')
  def test_a_narrow_page_does_not_scroll_sideways(self, link):
    page = self.open_page(link, 360)
    self.assertStartsWith(self.status(page), 'Output size')
    self.assertEqual(page.locator('html').evaluate(browser.OVERFLOW), 0)

  def test_the_picture(self):
    page = self.open_page('#call=torch&axes=2&input=4,900&kernel=3&stride=2'
                          '&padding=1')
    results = page.locator('#padding-results')
    counts = results.locator('svg .count')
    self.assertEqual(counts.all_text_contents(), list('1212121'))
    self.assertEqual(results.locator('rect.cropped').count(), 2)
    self.assertEqual(results.locator('rect.input').count(), 4)
    self.assertIn('outputs get 2, 1 contributions in turn',
                  results.text_content())
    page.get_by_label('Axis').select_option('1')
    self.assertIn('instead of 900', results.text_content())
    self.assertLess(results.locator('rect').count(), 45)

  def test_copy(self):
    page = self.open_page()
    page.context.grant_permissions(['clipboard-read', 'clipboard-write'])
    box = page.locator('dd', has_text='nnx.ConvTranspose')
    box.get_by_role('button').click()
    box.get_by_text('Copied').wait_for()
    self.assertEqual(page.evaluate('navigator.clipboard.readText()'),
                     box.locator('code').text_content())

  def test_presets(self):
    page = self.open_page()
    page.get_by_role('button', name='Flax, padding 1').click()
    self.assertEqual(self.status(page), 'Output size: 30 × 30')
    for button in page.locator('#padding-presets button').all():
      button.click()
      self.assertStartsWith(self.status(page), 'Output size')


if __name__ == '__main__':
  absltest.main()
