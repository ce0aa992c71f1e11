"""The padding calculator in a browser, without the rest of the site."""

import pathlib
import re
import tempfile

from tests import browser

DOCS = pathlib.Path(__file__).parents[2] / 'docs'


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
