"""Opens the checkerboard explorer in a real browser, for its tests."""

import pathlib
import re
import shutil
import tempfile
import unittest

from absl.testing import parameterized
from playwright import sync_api

DOCS = pathlib.Path(__file__).parents[2] / 'docs'
BROWSER = next(filter(None, map(shutil.which, (
    'chromium', 'chromium-browser', 'google-chrome'))), None)
FLAGS = ('--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update',
         '--disable-sync')
LEARNED = {'k3-all': 3, 'k4-all': 4, 'k4-one': 4}  # Sizes by name.


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


@unittest.skipUnless(BROWSER, 'no Chromium on PATH: install chromium')
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
