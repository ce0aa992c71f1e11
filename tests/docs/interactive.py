"""The block of an interactive page in a browser, without the site."""

import pathlib
import re
import tempfile

from tests import browser

DOCS = pathlib.Path(__file__).parents[2] / 'docs'


class InteractiveTest(browser.BrowserTest):
  """A test case of the page `source`, which subclasses name."""

  source: str

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory()))
    (cls.folder / '_static').symlink_to(DOCS / '_static')
    block, = re.findall(r'```{raw} html\n(.*?)```',
                        (DOCS / cls.source).read_text(encoding='utf-8'),
                        re.DOTALL)
    (cls.folder / 'page.html').write_text(
        '<!doctype html><meta charset="utf-8"><title>x</title>'
        '<meta name="viewport" content="width=device-width">'
        '<style>body { --color-brand-primary: blue }</style>'
        f'<h1 id="heading">x</h1><article>{block}</article>',
        encoding='utf-8')

  def open_page(self, link='', width=1280):
    address = (self.folder / 'page.html').as_uri()
    return self.open(address + link, width, files=(
        address, (self.folder / '_static').as_uri()))
