"""The built documentation in a real browser, from disk, without a network.

`make test-docs` builds it and runs these tests.
"""

import pathlib
import unittest

from absl.testing import absltest
from absl.testing import parameterized

from tests import browser

SITE = pathlib.Path(__file__).parents[2] / 'docs/_build/html'
PAGES = [str(path.relative_to(SITE)) for path in sorted(SITE.rglob('*.html'))]
FILES = {'files': [SITE.as_uri()], 'offline': True}

LINKS = """() => [...document.querySelectorAll('a[href]')]
  .map(a => a.href).filter(href => href.startsWith('file:'))"""
UNDECODED = """() => [...document.images]
  .filter(image => !image.complete || !image.naturalWidth)
  .map(image => image.src)"""


@unittest.skipUnless(PAGES, 'make docs builds the pages')
class SiteTest(browser.BrowserTest):

  def test_there_are_pages(self):
    self.assertContainsSubset(
        {'index.html', 'idea.html', 'idea_zh.html', 'api/index.html'}, PAGES)

  @parameterized.product(page=PAGES or [''], scheme=('light', 'dark'))
  def test_a_page_opens(self, page, scheme):
    view = self.open((SITE / page).as_uri(), 360, color_scheme=scheme, **FILES)
    self.assertEqual(view.evaluate(UNDECODED), [])
    self.assertEqual(
        view.locator('html').evaluate(browser.OVERFLOW), 0, 'scrolls sideways')

  def test_links_lead_somewhere(self):
    view = self.open((SITE / 'index.html').as_uri(), **FILES)
    anchors, links = {}, set()
    for page in PAGES:
      address = (SITE / page).as_uri()
      view.goto(address)
      anchors[address] = set(view.evaluate(
          "() => [...document.querySelectorAll('[id]')].map(e => e.id)"))
      links |= {(address, link) for link in view.evaluate(LINKS)}
    self.assertNotEmpty(links)
    broken = []
    for page, link in links:
      address, _, anchor = link.partition('#')
      path = pathlib.Path(address.removeprefix('file://'))
      state = '=' in anchor  # Of an interactive page, not a place in it.
      if not path.is_file() or anchor and path.suffix == '.html' and (
          not state and anchor not in anchors[address]):
        broken.append((page, link))
    self.assertEqual(broken, [])

  def test_search_finds_a_function(self):
    view = self.open((SITE / 'index.html').as_uri(), **FILES)
    view.get_by_placeholder('Search').first.fill('conv_transpose')
    view.keyboard.press('Enter')
    view.locator('#search-results li').first.wait_for()
    links = view.locator('#search-results a').evaluate_all(
        'links => links.map(link => link.href)')
    self.assertTrue(any('#tconv.conv_transpose' in link for link in links),
                    links)


if __name__ == '__main__':
  absltest.main()
