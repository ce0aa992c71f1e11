"""The page of an audit: its figures, and the page in a real browser."""

import base64
import html.parser
import io
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image

from tconv.audit import model
from tconv.audit import page as page_lib
from tests import browser
from tests.audit import samples

BAR = (0, 114, 178)  # Color of bars.


def pixels_of(png):
  return np.array(Image.open(io.BytesIO(png)).convert('RGB'))


def png(width=1200):
  file = io.BytesIO()
  Image.new('RGB', (width, 50), 'white').save(file, 'png')
  return file.getvalue()


class Elements(html.parser.HTMLParser):
  """Elements of a page with their attributes, and its text."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.text = [], ''
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.text += data


class RenderTest(parameterized.TestCase):

  def test_what_is_found(self):
    text = Elements(page_lib.render(samples.report(), [])).text
    for part in ('model.onnx', '/up/ConvTranspose', 'It paints.', '/resize',
                 'It has no kernel.', '/loop', 'It loops.', 'flat 0.25',
                 'cat.png', 'onnxruntime 1.2'):
      self.assertIn(part, text)

  def test_figures_are_inside(self):
    pictures = [('first', png(3)), ('second', png(4))]
    page = Elements(page_lib.render(samples.report(), pictures))
    images = [each for tag, each in page.elements if tag == 'img']
    self.assertEqual(
        [(image['alt'], base64.b64decode(image['src'].removeprefix(
            'data:image/png;base64,'))) for image in images], pictures)

  def test_names_stay_text(self):
    page = Elements(page_lib.render(
        samples.hostile_report(), [(samples.HOSTILE, png())]))
    self.assertNotIn('script', [tag for tag, _ in page.elements])
    for tag, attributes in page.elements:
      self.assertEmpty([name for name in attributes if name.startswith('on')])
      for name in {'src', 'href'} & set(attributes):
        self.assertStartsWith(attributes[name], 'data:', tag)
    self.assertTrue(all(c.isprintable() or c == '\n' for c in page.text))

  def test_nothing_found(self):
    page = page_lib.render(samples.report(
        verdict='clean', upsamplers=[], unknown=[], probes=[], versions={}), [])
    self.assertIn('None was found.', page)
    for heading in ('Not audited', 'Repair', 'Figures', 'Probes'):
      self.assertNotIn(f'<h2>{heading}</h2>', page)


class FiguresTest(parameterized.TestCase):

  def bars(self, kernel, means, bias=None, **options):
    picture = pixels_of(page_lib.phase_gain_map(
        model.Weights(kernel, bias), means, (2,), **options))
    return (picture == BAR).all(-1).sum()

  def test_bars_show_the_gains_at_the_means(self):
    # Phases 0 and 1 have gains of 1 and 2 for input 0, and of 2 and 1 for 1.
    kernel = np.array([[[1., 2]], [[2, 1]]])
    self.assertGreater(self.bars(kernel, [1, 0]), 1000)
    self.assertLess(self.bars(kernel, [1, 1]), 100)
    # Each input in its own group.
    self.assertGreater(self.bars(kernel, [1, 1], groups=2), 1000)
    bias = np.array([[0.], [-1]])
    self.assertLess(self.bars(kernel, [1, 0], bias), 100)
    self.assertGreater(self.bars(kernel, [1, 1], bias), 1000)

  def test_channels_of_a_group_are_neighbors(self):
    kernel = np.zeros((2, 2, 2))
    kernel[:, 1, 0] = 1, 2  # Channel 1 of group 0.
    bias = np.zeros((2, 4))
    bias[1, 1] = -1
    self.assertGreater(self.bars(kernel, [1, 1], groups=2), 1000)
    self.assertLess(self.bars(kernel, [1, 1], bias, groups=2), 100)

  def test_rounding_is_no_pattern(self):
    self.assertLess(self.bars(np.array([[[1.]], [[1 + 2e-6]]]), [1]), 100)

  @parameterized.parameters(1, 2, 3)
  def test_gains_of_all_ranks(self, n):
    rng = np.random.default_rng(n)
    weights = model.Weights(rng.normal(size=(*[4] * n, 3, 8)),
                            rng.normal(size=(*[2] * n, 6)))
    picture = pixels_of(page_lib.phase_gain_map(
        weights, rng.normal(size=8), [2] * n, groups=2))
    self.assertGreater(picture.std(), 0)

  @parameterized.parameters(
      (((8,), (40,), (4,)),), (((8, 9), (32, 36), (4, 4)),),
      (((8, 9, 3), (16, 9, 6), (2, 1, 2)),),
      (((6, 6, 6), (12, 6, 6), (2, 1, 1)),), (((1, 9), (1, 36), (1, 4)),))
  def test_spectra_of_all_ranks(self, sizes):
    small, large, period = sizes
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(*small, 3)), rng.normal(size=(*large, 3))
    widths = [
        pixels_of(page_lib.spectra(*images, period=period)).shape[1]
        for images in (
            (None, after), (before, after), (before, after, after))]
    self.assertEqual(widths, sorted(set(widths)))

  def test_a_constant_has_a_spectrum(self):
    self.assertNotEmpty(page_lib.spectra(
        None, np.ones((32, 32, 1)), np.zeros((32, 32, 1)), period=(2, 2)))

  def test_too_small_for_a_spectrum(self):
    with self.assertRaisesRegex(ValueError, 'at least 2 periods'):
      page_lib.spectra(None, np.ones((7, 8, 1)), period=(4, 4))

  @parameterized.parameters(1, 2, 3, 4)
  def test_a_flat_field_is_amplified_pixel_by_pixel(self, channels):
    rng = np.random.default_rng(channels)
    image = rng.uniform(99, 101, (16, 20, channels))
    gain = 100
    picture = pixels_of(page_lib.flat_field(image, gain))
    picture = picture[-16 * 8:, :20 * 8]
    blocks = picture.reshape(16, 8, 20, 8, 3)
    np.testing.assert_array_equal(
        blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))
    deviation = image - image.mean((0, 1))
    if channels != 3:
      deviation = deviation[..., [deviation.std((0, 1)).argmax()]]
    np.testing.assert_allclose(
        blocks[:, 0, :, 0], np.broadcast_to(
            127.5 + gain * deviation, (16, 20, 3)), atol=.51)

  @parameterized.parameters(((100,),), ((9, 30, 50),), ((2, 4, 3),))
  def test_flat_fields_of_other_ranks(self, size):
    image = np.random.default_rng(0).uniform(size=(*size, 2))
    self.assertGreater(pixels_of(page_lib.flat_field(image, 32)).std(), 0)


class OpenedTest(browser.BrowserTest):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    path = pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory())) / 'audit.html'
    path.write_text(page_lib.render(
        samples.hostile_report(), [(samples.HOSTILE, png())]), encoding='utf-8')
    cls.address = path.as_uri()

  @parameterized.product(scheme=('light', 'dark'), width=(360, 1280))
  def test_it_opens(self, scheme, width):
    page = self.open(self.address, width, color_scheme=scheme)
    self.assertEqual(page.locator('html').evaluate(browser.OVERFLOW), 0)
    tables = page.locator('.wide', has=page.locator('table'))
    self.assertEqual(tables.first.evaluate(browser.OVERFLOW) > 0, width == 360)
    self.assertTrue(page.locator('img').evaluate(
        'e => e.complete && e.naturalWidth > 0'))
    # Luminances of text and page are far apart, and change places in the dark.
    text, back = (sum(map(int, page.locator('body').evaluate(
        f'e => getComputedStyle(e).{name}.match(/[0-9]+/g)')))
                  for name in ('color', 'backgroundColor'))
    self.assertGreater((back - text) * (1 if scheme == 'light' else -1), 400)


if __name__ == '__main__':
  absltest.main()
