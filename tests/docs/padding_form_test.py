"""The padding calculator as readers use it: form, link, picture, copying."""

from absl.testing import absltest
from absl.testing import parameterized

from tests import browser
from tests.docs import interactive


class FormTest(interactive.InteractiveTest):

  source = 'padding.md'

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
