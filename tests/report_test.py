"""Page and figures, read back from what was written."""

import base64
import contextlib
import html
from html import parser
import io
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from matplotlib.patches import Circle
import numpy as np

from experiments.harness import page
from experiments.report import figures
import tconv

# One pixel, made by Pillow.
PNG = base64.b64decode(
    'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+k'
    'cQAAAABJRU5ErkJggg==')
HOSTILE = '<script>alert("1")</script> & \'quoted\' {{ 7 * 7 }}'


class Reader(parser.HTMLParser):
  """Collects what a page is made of."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.links, self.cells, self.open = [], [], [], []
    self.ids = []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.links += [value for name, value in attrs if name in ('src', 'href')]
    self.ids += [value for name, value in attrs if name == 'id']
    if tag not in ('meta', 'link', 'img'):
      self.open.append(tag)
    if tag in ('td', 'th'):
      self.cells.append('')

  def handle_endtag(self, tag):
    assert self.open.pop() == tag, tag

  def handle_data(self, data):
    if {'td', 'th'} & set(self.open):
      self.cells[-1] += data


class PageTest(absltest.TestCase):

  def write(self, text='words', git_revision='0123abcd', others=1):
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    (folder / 'figure.png').write_bytes(PNG)
    first = page.Section(text, [
        text, page.Table(text, ('name', text), [('a', '1'), (text, None)]),
        page.Figure(folder / 'figure.png', text)])
    other = page.Section('other', [page.Table('second', ('x',), [('y',)])])
    page.write_page(
        folder / 'report.html', title=text, summary=text,
        sections=[first, *[other] * others], command=text,
        environment={'device': text, 'versions': {'jax': text},
                     'git_revision': git_revision}, credits=text)
    return (folder / 'report.html').read_text(encoding='utf-8')

  def test_tables_hold_their_cells(self):
    self.assertEqual(Reader(self.write()).cells,
                     ['name', 'words', 'a', '1', 'words', '', 'x', 'y'])

  def test_strings_are_never_html(self):
    text, harmless = self.write(HOSTILE), self.write()
    self.assertEqual(text.count('<script'), harmless.count('<script'))
    self.assertNotIn('{{', html.unescape(harmless))
    # Title and heading, summary, contents, heading of the section, paragraph,
    # caption, a column and a cell, alternative and caption of the figure,
    # command, device, version, credits.
    self.assertEqual(html.unescape(text).count(HOSTILE), 15)
    self.assertEqual(Reader(text).tags, Reader(harmless).tags)

  def test_is_well_formed_and_loads_nothing(self):
    reader = Reader(self.write())
    self.assertEmpty(reader.open)
    self.assertLen(set(reader.ids), len(reader.ids))
    for link in reader.links:
      self.assertTrue(link.startswith('data:') or link[1:] in reader.ids, link)

  def test_several_sections_are_listed_and_a_single_one_is_not(self):
    listed = lambda **options: [
        link for link in Reader(self.write(**options)).links if link[0] == '#']
    self.assertEqual(listed(others=2),
                     ['#section-1', '#section-2', '#section-3'])
    self.assertEmpty(listed(others=0))

  def test_only_long_cells_are_wrapped(self):
    self.assertNotIn('class="long"', self.write('w' * 40))
    self.assertEqual(self.write('w' * 41).count('<td class="long">'), 1)

  def test_figures_are_inside(self):
    [data] = [link for link in Reader(self.write()).links
              if link.startswith('data:image/png;base64,')]
    self.assertEqual(base64.b64decode(data.split(',')[1]), PNG)

  def test_a_revision_may_be_unknown(self):
    self.assertIn('revision 0123abcd.', self.write())
    self.assertIn('revision unknown.', self.write(git_revision=None))

  def test_table_on_screen(self):
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
      page.print_table(page.Table(
          'Title', ('name', 'PSNR'), [('a [b]', '31.5'), ('truth', None)]))
    for text in ('Title', 'name', 'PSNR', 'a [b]', '31.5', 'truth'):
      self.assertIn(text, screen.getvalue())


def pattern(period, amplitude, shape=(151, 170)):
  """Diagonal waves of a period, on noise of 1e-3."""
  rows, columns = np.indices(shape)
  noise = np.random.default_rng(0).normal(0, 1e-3, shape)
  return .5 + noise + amplitude * np.cos(2 * np.pi * (rows + columns) / period)


class FiguresTest(parameterized.TestCase):

  @parameterized.parameters(2, 3, 4)
  def test_a_pattern_is_a_peak_of_its_amplitude(self, period):
    power = figures.patch_spectrum(pattern(period, .1), period)
    size = len(power)
    self.assertEqual(power.shape, (size, size))
    self.assertBetween(size, 60, 68)
    at = size // period
    # A cosine is two lines of half its amplitude, except at period 2.
    line = .1 if period == 2 else .05
    self.assertAlmostEqual(power[at, at], 20 * np.log10(line), delta=.1)
    power[at - 1:at + 2, at - 1:at + 2] = -np.inf
    power[-at - 1:size - at + 2, -at - 1:size - at + 2] = -np.inf
    self.assertLess(power.max(), -60)

  @parameterized.product(period=[2, 3, 4], amplitude=[0, 1e-4, .1])
  def test_the_middle_of_the_close_view_is_the_grid_level(
      self, period, amplitude):
    image = pattern(period, amplitude)
    close = figures.around_grid_bins(image, period)
    level = tconv.grid_level(np.float32(image)[None, ..., None], period)
    self.assertAlmostEqual(close[10, 10], level.item(), delta=.1)

  @parameterized.product(period=[2, 3], count=[1, 4, 5])
  def test_grid_bins_are_marked(self, period, count):
    images = {f'title {i}': pattern(period, .1) for i in range(count)}
    figure = figures.crops_and_spectra(
        images, top=10, left=20, size=30, period=period)
    crops = [axes for axes in figure.axes if axes.get_title()]
    self.assertEqual([axes.get_title() for axes in crops], list(images))
    np.testing.assert_array_equal(
        crops[0].images[0].get_array(), images['title 0'][10:40, 20:50])
    spectra = [axes for axes in figure.axes
               if axes.get_xlabel() == 'cycles per pixel']
    self.assertLen(spectra, count)
    for axes in spectra:
      marks = [p for p in axes.patches if isinstance(p, Circle)]
      self.assertLen(marks, period**2 - 1)
      # The brightest place but the mean's is where a circle is drawn.
      left, right, bottom, top = axes.images[0].get_extent()
      power = np.array(axes.images[0].get_array())
      row, column = np.unravel_index(power.argmax(), power.shape)
      x = left + (column + .5) * (right - left) / len(power)
      y = top + (row + .5) * (bottom - top) / len(power)
      nearest = min(np.hypot(x - p.center[0], y - p.center[1]) for p in marks)
      self.assertLess(nearest, 1e-9)


if __name__ == '__main__':
  absltest.main()
