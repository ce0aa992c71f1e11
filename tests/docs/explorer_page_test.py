"""The page of the checkerboard explorer: controls, pictures, links."""

import base64
import io

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image
from playwright import sync_api

from tests.docs import interactive

HOSTILE = (
    '%', '%E0%A4%A', 'kernel=__proto__&cure=toString', 'size=1e9&mean=NaN',
    'size=-1&stride=0&dilation=&seed=1.5&mean=Infinity&cure=%00',
    'kernel=<img src=x onerror=alert(1)>&cure="><script>alert(2)</script>')
DEFAULTS = {'kernel': 'ones', 'size': '3', 'stride': '2', 'dilation': '1',
            'seed': '0', 'mean': '0.5', 'cure': 'none'}


class PageTest(interactive.InteractiveTest):

  source = 'explorer.md'

  def values(self, page):
    return page.evaluate("""
        Object.fromEntries([...document.forms[0].elements]
            .filter(e => e.name && (e.type !== 'radio' || e.checked))
            .map(e => [e.name, e.value]))""")

  def greys(self, page):
    """What the canvases show, by name; read from files, as they are drawn."""
    urls = page.locator('canvas').evaluate_all(
        'all => all.map(c => [c.id, c.toDataURL()])')
    return {name.removeprefix('explorer-'): np.asarray(Image.open(io.BytesIO(
        base64.b64decode(url.partition(',')[2]))).convert('L'), int)
            for name, url in urls}

  def test_keyboard_alone(self):
    page = self.open_page()
    summary = page.get_by_role('status')
    self.assertIn('1 to 4', summary.text_content())
    page.keyboard.press('Tab')
    for name, key, value in (
        ('kernel', 'r', 'random'), ('size', 'ArrowRight', '4'),
        ('stride', 'End', '4'), ('dilation', 'ArrowUp', '2'),
        ('seed', 'PageUp', '10'), ('mean', 'Home', '0'),
        ('cure', 'ArrowDown', 'equalized')):
      page.keyboard.press(key)
      focused = page.evaluate('document.activeElement.name')
      self.assertEqual((focused, self.values(page)[name]), (name, value))
      self.assertNotEqual(page.evaluate(
          'getComputedStyle(document.activeElement).outlineStyle'), 'none')
      page.keyboard.press('Tab')
    sync_api.expect(summary).to_contain_text('cannot be equalized')
    page.wait_for_function('location.hash.includes("equalized")')
    again = self.open_page(page.evaluate('location.hash'))
    self.assertEqual(self.values(again), self.values(page))
    self.assertEqual(again.get_by_role('status').text_content(),
                     summary.text_content())

  def test_cures_show_in_numbers_and_pictures(self):
    page = self.open_page()
    contrast = lambda: np.ptp(self.greys(page)['flat'])
    level = page.locator('#explorer-flat-level')
    read = lambda: float(level.text_content().removesuffix(' dB'))
    self.assertGreater(contrast(), 150)
    self.assertGreater(read(), 40)
    for label in 'equalized phases', 'zero-order hold':
      page.get_by_label('as it is').check()
      sync_api.expect(page.locator('#explorer-rho')).to_have_text('19 %')
      page.get_by_label(label).check()
      sync_api.expect(page.locator('#explorer-rho')).to_have_text('0 %')
      gains = page.locator('#explorer-gains td').all_text_contents()
      self.assertEqual(gains, 4 * ['2.25'])
      self.assertLess(contrast(), 50)
      self.assertLess(read(), 0)

  def test_learned_kernels_fix_size_and_stride(self):
    page = self.open_page('#size=7&stride=3&dilation=2')
    for kernel, size in (('k3-all', 3), ('k4-all', 4), ('k4-one', 4)):
      page.get_by_role('combobox').select_option(kernel)
      sync_api.expect(page.get_by_text('was trained')).to_be_visible()
      for name, value in ('Size', size), ('Stride', 2), ('Dilation', 1):
        sync_api.expect(page.get_by_label(name)).to_have_value(str(value))
        sync_api.expect(page.get_by_label(name)).to_be_disabled()
    page.wait_for_function('location.hash.includes("k4-one&size=7")')
    again = self.open_page(page.evaluate('location.hash'))
    for one in page, again:
      one.get_by_role('combobox').select_option('bilinear')
      sync_api.expect(one.get_by_label('Size')).to_have_value('5')
      sync_api.expect(one.get_by_label('Stride')).to_be_enabled()
      one.get_by_role('combobox').select_option('ones')
      sync_api.expect(one.get_by_label('Size')).to_have_value('7')
      sync_api.expect(one.get_by_label('Dilation')).to_have_value('2')
      one.get_by_label('Size').press('ArrowLeft')  # It is free again.
      sync_api.expect(one.locator('label', has_text='Size')).to_contain_text(
          '6')
      sync_api.expect(one.get_by_label('Size')).to_have_value('6')

  @parameterized.parameters(*HOSTILE)
  def test_a_broken_link_gives_defaults(self, link):
    page = self.open_page(f'#{link}')
    self.assertEqual(self.values(page), DEFAULTS)
    page.evaluate('location.hash = "size=5&cure=hold&mean=0.35"')
    sync_api.expect(page.get_by_label('Size')).to_have_value('5')
    self.assertEqual(self.values(page), {
        **DEFAULTS, 'size': '5', 'cure': 'hold', 'mean': '0.35'})
    page.evaluate('location.hash = "heading"')  # A heading is no setting.
    page.wait_for_function('document.querySelector(":target")')
    self.assertEqual(self.values(page)['size'], '5')
    page.evaluate('link => { location.hash = link; }', link)
    sync_api.expect(page.get_by_label('Size')).to_have_value('3')
    self.assertEqual(self.values(page), DEFAULTS)
    self.assertEqual(page.locator('article img, article script').count(), 3)

  @parameterized.parameters('', '#kernel=k4-all', '#stride=1', '#stride=4')
  def test_pictures_are_drawn_and_described(self, link):
    page = self.open_page(link)
    canvases = page.locator('canvas')
    self.assertEqual(canvases.count(), 5)
    for name, picture in self.greys(page).items():
      if name == 'kernel' and 'k4' not in link:
        np.testing.assert_array_equal(picture, 128)  # Equal taps.
      else:
        self.assertGreater(picture.std(), 5)
    names = canvases.evaluate_all('all => all.map(c => c.ariaLabel)')
    self.assertEqual(len(set(names)), 5)
    level = page.locator('#explorer-photo-level').text_content()
    self.assertIn(level, names[4])
    self.assertEqual(level == 'not defined', link == '#stride=1')

  def test_nothing_is_wider_than_a_phone(self):
    for link in '', '#stride=4&size=9&kernel=random', '#kernel=k4-one':
      page = self.open_page(link, width=360)
      self.assertEqual(page.locator('html').evaluate(
          'e => e.scrollWidth - e.clientWidth'), 0)
      self.assertEqual(page.locator('article *').evaluate_all(
          'all => all.filter(e => e.tagName !== "OPTION" && '
          'e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && '
          'getComputedStyle(e).display !== "inline").map(e => e.outerHTML)'),
                       [])


if __name__ == '__main__':
  absltest.main()
