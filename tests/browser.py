"""Pages in a real browser, where an error or a request fails the test."""

from collections.abc import Sequence
import shutil
import unittest

from absl.testing import parameterized
from playwright import sync_api

BROWSER = next(filter(None, map(shutil.which, (
    'chromium', 'chromium-browser', 'google-chrome'))), None)
FLAGS = ('--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update',
         '--disable-sync')

OVERFLOW = 'e => e.scrollWidth - e.clientWidth'  # Of an element, in pixels.


@unittest.skipUnless(BROWSER, 'no Chromium on PATH: install chromium')
class BrowserTest(parameterized.TestCase):
  """A test case with the system's Chromium."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    driver = cls.enterClassContext(sync_api.sync_playwright())
    cls.browser = cls.enterClassContext(driver.chromium.launch(
        executable_path=BROWSER, args=FLAGS))

  def open(self, address: str, width: int = 1280, *,
           files: Sequence[str] = (), **options) -> sync_api.Page:
    """Opens a page; whatever goes wrong in it fails the test at its end.

    Args:
      address: address of the page.
      width: width of the window in pixels.
      files: starts of other addresses that the page may load.
      **options: further options of playwright's `Browser.new_page`.

    Returns:
      The page.
    """
    page = self.enterContext(self.browser.new_page(
        viewport={'width': width, 'height': 900}, **options))
    page.set_default_timeout(10_000)
    problems = []
    page.on('console', lambda message: problems.append(message.text))
    page.on('pageerror', lambda error: problems.append(str(error)))
    page.on('request', lambda request: request.url.startswith(
        ('data:', address, *files)) or problems.append(request.url))

    def refuse(dialog):
      problems.append(dialog.message)
      dialog.dismiss()

    page.on('dialog', refuse)
    page.goto(address)
    self.addCleanup(lambda: self.assertEqual(problems, []))
    return page
