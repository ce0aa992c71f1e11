"""The page of a run in a real browser: it opens, loads nothing, and sorts."""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from experiments.harness import page as page_lib
from experiments.harness import results
from experiments.harness import workdir as workdir_lib
from experiments.report import charts
from tests import browser

HOSTILE = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>'

# Cells by heading, in ascending order; then those that are always last.
SORTED = {
    'intervals': (('-13.7 [-15.0, 2.5]', '-2 [-3, -1]', '9.5 [9, 10]',
                   '32.62 [32.10, 33.01]'), ('',)),
    'powers': (('-1e-3', '1.2e-05', '.5', '3E+2', '1,234'), ()),
    'bounds': (('< 0.01', '0.05', '> 0.9', 'inf'), ('nan',)),
    'signs': (('-inf', '\u221213.7', '-3', '+4'), ('NaN',)),
    'texts': (('<script>alert(1)</script>', 'transposed k4', 'transposed k10'),
              ('', '')),
    'words': (('3 taps', 'information', 'nanometre', 'nanosecond'), ('',)),
}
# Every column starts in another disorder.
CELLS = list(zip(*(np.roll(np.array(known + last)[[3, 0, 4, 2, 1]], shift)
                   for shift, (known, last) in enumerate(SORTED.values()))))


def write_page(folder, text):
  """Writes a page, `text` everywhere, and returns its address."""
  interval = results.Interval(1, 0, 2)
  pictures = []
  for figure in (
      charts.psnr_against_grid_level(
          {'k3': (interval, interval)}, truth_level=0),
      charts.phase_maps({'k3': (np.eye(2), np.eye(2))})):
    pictures.append(page_lib.Figure(workdir_lib.write_figure(
        folder / 'figure.png', figure, 100), text))
  wide = results.Table(
      text, [f'column {i}' for i in range(40)] + [text],
      [[text] + 39 * ['32.62 [32.10, 33.01]'] + ['long' * 200]])
  page = page_lib.Page(text, text, [
      page_lib.Section('First', [
          results.Table('cells', list(SORTED), CELLS), pictures[0]]),
      page_lib.Section(text, [text, wide, pictures[1], 'words' * 200])],
                       text, [])
  (folder / 'report.html').write_text(page_lib.html(
      page, command='--config=' * 100 + text, environment={
          'device': text, 'versions': {'jax': text}, 'git_revision': text}),
                                      encoding='utf-8')
  return (folder / 'report.html').as_uri()


class PageTest(browser.BrowserTest):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.address = write_page(pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory())), HOSTILE)

  def rows(self, page):
    return page.locator('table').first.evaluate(
        'table => [...table.tBodies[0].rows].map('
        'row => [...row.cells].map(cell => cell.textContent))')

  def test_a_click_sorts(self):
    page = self.open(self.address)
    before = self.rows(page)
    self.assertEqual(before, [[str(c) for c in row] for row in CELLS])
    for column, (name, (known, last)) in enumerate(SORTED.items()):
      for direction, cells in (('ascending', known),
                               ('descending', known[::-1])):
        page.get_by_role('button', name=name, exact=True).click()
        rows = self.rows(page)
        self.assertEqual([row[column] for row in rows], [*cells, *last])
        self.assertCountEqual(rows, before)
        heading = page.get_by_role('columnheader', name=name)
        self.assertEqual(heading.get_attribute('aria-sort'), direction)
        self.assertEqual(page.locator('[aria-sort]').count(), 1)

  @parameterized.parameters(400, 1280)
  def test_only_tables_and_figures_scroll_sideways(self, width):
    page = self.open(self.address, width)
    self.assertEqual(page.locator('html').evaluate(browser.OVERFLOW), 0)
    boxes = page.locator('.wide').evaluate_all(
        f'boxes => boxes.map({browser.OVERFLOW})')
    wide = [box > 0 for box in boxes]
    if width == 400:  # Figures keep a size at which they can be read.
      self.assertEqual(wide, [True, True, True, True])
    else:
      self.assertEqual(wide, [False, False, True, False])
    # The first column stays in sight.
    table = page.locator('table').nth(1)
    cell = table.locator('td').first
    before = cell.bounding_box()
    page.locator('.wide').nth(2).evaluate('box => box.scrollLeft = 500')
    self.assertEqual(cell.bounding_box(), before)
    self.assertLess(table.bounding_box()['x'], before['x'])


if __name__ == '__main__':
  absltest.main()
