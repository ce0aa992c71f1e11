"""The checkerboard explorer in a real browser: its numbers, and its page."""

import base64
import io
import json
import pathlib
import re
import shutil
import tempfile
import unittest

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from playwright import sync_api

import tconv
from tconv import spectrum

DOCS = pathlib.Path(__file__).parents[2] / 'docs'
BROWSER = next(filter(None, map(shutil.which, (
    'chromium', 'chromium-browser', 'google-chrome'))), None)
FLAGS = ('--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update',
         '--disable-sync')
CURES = 'none', 'equalized', 'hold'
LEARNED = {'k3-all': 3, 'k4-all': 4, 'k4-one': 4}
# Both sides compute in float64. Sums of thousands of products, and logarithms
# of nearly cancelled lines, lose up to about six of its sixteen digits.
CLOSE = {'rtol': 1e-9, 'atol': 1e-9}
HOSTILE = (
    '%', '%E0%A4%A', 'kernel=__proto__&cure=toString', 'size=1e9&mean=NaN',
    'size=-1&stride=0&dilation=&seed=1.5&mean=Infinity&cure=%00',
    'kernel=<img src=x onerror=alert(1)>&cure="><script>alert(2)</script>')
DEFAULTS = {'kernel': 'ones', 'size': '3', 'stride': '2', 'dilation': '1',
            'seed': '0', 'mean': '0.5', 'cure': 'none'}


def settings_of(seed):
  """60 settings; three of each geometry, which tconv compiles once."""
  rng = np.random.default_rng(seed)
  geometries = [{'size': int(rng.integers(1, 10)),
                 'stride': int(rng.integers(1, 5)),
                 'dilation': int(rng.integers(1, 4))} for _ in range(17)]
  for i in range(51):
    yield {'kernel': ('ones', 'random', 'random', 'bilinear')[i % 4],
           'seed': int(rng.integers(100)), 'mean': int(rng.integers(21)) / 20,
           'cure': CURES[i % 3], **geometries[i // 3]}
  for kernel in LEARNED:  # They have a geometry of their own.
    for cure in CURES:
      yield {'kernel': kernel, 'seed': 0, 'mean': .3, 'cure': cure,
             **geometries[0]}


def write_page(folder):
  """Writes the explorer without the rest of the site; returns its address."""
  text = (DOCS / 'explorer.md').read_text(encoding='utf-8')
  [block] = re.findall(r'```\{raw\} html\n(.*?)```', text, re.DOTALL)
  (folder / 'page.html').write_text(
      '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>x</title>'
      '<meta name="viewport" content="width=device-width">'
      '<style>body { --color-brand-primary: blue }</style>'
      f'<h1 id="heading">x</h1><article>{block}</article></html>',
      encoding='utf-8')
  (folder / '_static').symlink_to(DOCS / '_static')
  return (folder / 'page.html').as_uri()


class Page(parameterized.TestCase):
  """Opens the page; whatever goes wrong in it fails the test at its end."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    cls.address = write_page(folder)
    driver = cls.enterClassContext(sync_api.sync_playwright())
    cls.browser = cls.enterClassContext(driver.chromium.launch(
        executable_path=BROWSER, args=FLAGS))

  def open(self, link='', width=1280):
    page = self.enterContext(self.browser.new_page(
        viewport={'width': width, 'height': 900}))
    page.set_default_timeout(10_000)
    problems = []
    page.on('console', lambda message: problems.append(message.text))
    page.on('pageerror', lambda error: problems.append(str(error)))
    allowed = self.address.removesuffix('page.html')
    page.on('request', lambda request: request.url.startswith(
        (f'{allowed}_static/explorer', self.address)) or problems.append(
            request.url))
    page.on('dialog', lambda dialog: (
        problems.append(dialog.message), dialog.dismiss()))
    page.goto(self.address + link)
    self.addCleanup(lambda: self.assertEqual(problems, []))
    return page


def enlarged(images, kernel, stride, dilation):
  """`enlarge` of the page, by tconv: the edge is repeated, and cropped."""
  extent = (kernel.shape[0] - 1) * dilation
  margin = -(-extent // stride)
  start = (margin + int(np.floor(
      (extent - stride + 1) / (2 * stride) + .5))) * stride
  padded = np.pad(images, ((0, 0), *2 * ((margin, margin),)), 'edge')
  fine = tconv.conv_transpose(jnp.asarray(padded)[..., None], kernel, stride,
                              'VALID', kernel_dilation=dilation)
  end = start + stride * images.shape[1]
  return fine[:, start:end, start:end]


@unittest.skipUnless(BROWSER, 'no Chromium on PATH: install chromium')
class NumbersTest(Page):

  @parameterized.parameters(*range(6))
  def test_equal_those_of_tconv(self, part):
    all_settings = list(settings_of(0))[10 * part:10 * (part + 1)]
    self.assertLen(all_settings, 10)
    page = self.open()
    results = json.loads(page.evaluate(
        'all => JSON.stringify(all.map('
        's => tconvExplorer.explore(s, tconvExplorerData)))', all_settings))
    for settings, found in zip(all_settings, results):
      with self.subTest(**settings), jax.enable_x64(True):
        self.compare(settings, found)

  def compare(self, settings, found):
    learned = LEARNED.get(settings['kernel'])
    stride = 2 if learned else settings['stride']
    fixed = learned or settings['kernel'] == 'bilinear'
    dilation = 1 if fixed else settings['dilation']
    kernel = jnp.asarray(found['original'], float)[..., None, None]
    size = {'bilinear': 2 * stride - stride % 2}.get(
        settings['kernel'], learned or settings['size'])
    self.assertEqual(kernel.shape, (size, size, 1, 1))
    options = {'strides': (stride, stride), 'kernel_dilation': dilation}
    if settings['kernel'] == 'ones':
      np.testing.assert_array_equal(kernel, 1)
    if settings['kernel'] == 'bilinear':
      np.testing.assert_allclose(
          kernel[..., 0, 0], tconv.interpolation_kernel((stride, stride)),
          **CLOSE)
    counts = tconv.overlap_count(size, **options)
    np.testing.assert_array_equal(found['counts'], counts)

    empty = not counts.all()
    self.assertEqual(
        found['impossible'], empty and settings['cure'] == 'equalized')
    if settings['cure'] == 'equalized' and not empty:
      kernel = tconv.equalize_phases(kernel, **options)
    np.testing.assert_allclose(found['kernel'], kernel[..., 0, 0], **CLOSE)
    flat, photo = map(np.array, found['input'].values())
    self.assertAlmostEqual(flat.mean(), settings['mean'], delta=.003)
    self.assertAlmostEqual(flat.std(), .01, delta=.002)
    fine = enlarged(np.stack([flat, photo, np.ones_like(flat)]), kernel, stride,
                    dilation)
    if settings['cure'] == 'hold':
      fine = tconv.zero_order_hold(fine, stride)
      # A period of what a constant gives is a kernel with the same gains.
      # Images begin at phase 0; at the border, the average is another one.
      period = slice(48, 48 + stride)
      kernel, options['kernel_dilation'] = fine[2, period, period, :, None], 1
    self.assertEqual((fine.dtype, fine.shape), (np.float64, (3, 96, 96, 1)))
    np.testing.assert_allclose(
        found['gains'], tconv.phase_gains(kernel, **options)[..., 0, 0],
        **CLOSE)
    np.testing.assert_allclose(
        found['nonuniformity'], tconv.phase_nonuniformity(kernel, **options),
        **CLOSE)
    for name, image in zip(found['pictures'], fine):
      np.testing.assert_allclose(
          found['pictures'][name], image[..., 0], **CLOSE)
    levels = list(found['levels'].values())
    if stride == 1:
      self.assertEqual(levels, [None, None])
    else:
      np.testing.assert_allclose(
          levels, spectrum.grid_level(fine[:2], stride)[:, 0],
          rtol=1e-6, atol=1e-6)

  def test_power_spectrum_is_that_of_numpy(self):
    image = 3 * np.random.default_rng(0).normal(size=(32, 32))
    hann = .5 - .5 * np.cos(2 * np.pi * np.arange(32) / 32)
    window = np.outer(hann, hann)
    centered = image - (image * window).sum() / window.sum()
    found = self.open().evaluate(
        'image => tconvExplorer.powerSpectrum(image).power', image.tolist())
    # Images are divided by a power of 2 before they are squared.
    scale = 2**np.floor(np.log2(np.abs(image).max()))
    np.testing.assert_allclose(
        found, np.abs(np.fft.fft2(centered * window))**2 / scale**2, **CLOSE)

  @parameterized.parameters(2, 3, 4, 6)
  def test_grid_level_of_small_images(self, period):
    # Neighbors of different lines overlap, and wrap around.
    image = np.random.default_rng(1).normal(size=(24, 24))
    found = self.open().evaluate(
        '([image, period]) => tconvExplorer.gridLevel('
        'tconvExplorer.powerSpectrum(image), period)', [image.tolist(), period])
    with jax.enable_x64(True):
      level = spectrum.grid_level(jnp.asarray(image)[None, ..., None], period)
    np.testing.assert_allclose(found, level[0, 0], rtol=1e-6)

  def test_random_numbers_are_normal_and_differ_between_seeds(self):
    draws = np.array(self.open().evaluate("""
        Array.from({length: 100}, (_, seed) => {
          const normal = tconvExplorer.normals(seed);
          return Array.from({length: 400}, normal);
        })"""))
    self.assertLess(abs(draws.mean()), 4 / 200)
    self.assertLess(abs(draws.std() - 1), 4 / 200 / np.sqrt(2))
    self.assertLess(abs((draws**4).mean() - 3), 4 * np.sqrt(96) / 200)
    # First draws of all seeds, as a kernel of size 1 shows them.
    self.assertLess(abs(draws[:, 0].std() - 1), 4 / np.sqrt(200))
    correlation = np.corrcoef(draws) - np.eye(100)
    self.assertLess(np.abs(correlation).max(), 5 / np.sqrt(400))

  def test_photograph(self):
    found = self.open().evaluate(
        'tconvExplorer.explore({kernel: "ones", size: 1, stride: 1, '
        'dilation: 1, seed: 0, mean: 0, cure: "none"}, tconvExplorerData)'
        '.pictures.photo')
    data = (DOCS / '_static/explorer_data.js').read_text(encoding='utf-8')
    text = ''.join(re.findall(r"^    '(.+)'", data.partition(
        'photograph:')[2], re.MULTILINE))
    photograph = np.frombuffer(base64.b64decode(text), np.uint8)
    np.testing.assert_allclose(
        np.ravel(found), photograph / 255, rtol=1e-12)


@unittest.skipUnless(BROWSER, 'no Chromium on PATH: install chromium')
class PageTest(Page):

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
    page = self.open()
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
    again = self.open(page.evaluate('location.hash'))
    self.assertEqual(self.values(again), self.values(page))
    self.assertEqual(again.get_by_role('status').text_content(),
                     summary.text_content())

  def test_cures_show_in_numbers_and_pictures(self):
    page = self.open()
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
    page = self.open('#size=7&stride=3&dilation=2')
    for kernel, size in LEARNED.items():
      page.get_by_role('combobox').select_option(kernel)
      sync_api.expect(page.get_by_text('was trained')).to_be_visible()
      values = self.values(page)
      self.assertEqual((values['size'], values['stride'], values['dilation']),
                       (str(size), '2', '1'))
      for name in 'Size', 'Stride', 'Dilation':
        sync_api.expect(page.get_by_label(name)).to_be_disabled()
    page.wait_for_function('location.hash.includes("k4-one&size=7")')
    again = self.open(page.evaluate('location.hash'))
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
    page = self.open(f'#{link}')
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
    page = self.open(link)
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
      page = self.open(link, width=360)
      self.assertEqual(page.locator('html').evaluate(
          'e => e.scrollWidth - e.clientWidth'), 0)
      self.assertEqual(page.locator('article *').evaluate_all(
          'all => all.filter(e => e.tagName !== "OPTION" && '
          'e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && '
          'getComputedStyle(e).display !== "inline").map(e => e.outerHTML)'),
                       [])


if __name__ == '__main__':
  absltest.main()
