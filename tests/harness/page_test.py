"""The page of a run, read back: whole, harmless, and without other files."""

import base64
import html
from html import parser

from absl.testing import absltest

from experiments.harness import page
from experiments.harness import results

PNG = b'\x89PNG as good as a picture'
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


def render(text='words', git_revision='0123abcd'):
  """A page, with `text` wherever there can be any."""
  first = page.Section(text, [
      text, results.Table(text, ('name', text), [('a', '1'), (text, None)]),
      page.Figure(PNG, text)])
  other = page.Section('other', [results.Table('second', ('x',), [('y',)])])
  return page.html(
      page.Page(text, text, [first, other], text, []),
      command=text, environment={'device': text, 'versions': {'jax': text},
                                 'git_revision': git_revision})


class PageTest(absltest.TestCase):

  def test_tables_and_figures_are_inside(self):
    reader = Reader(render())
    self.assertEqual(reader.cells,
                     ['name', 'words', 'a', '1', 'words', '', 'x', 'y'])
    [data] = [link for link in reader.links
              if link.startswith('data:image/png;base64,')]
    self.assertEqual(base64.b64decode(data.split(',')[1]), PNG)

  def test_strings_are_never_html(self):
    text, harmless = render(HOSTILE), render()
    self.assertEqual(text.count('<script'), harmless.count('<script'))
    self.assertNotIn('{{', html.unescape(harmless))
    self.assertEqual(html.unescape(text).count(HOSTILE),
                     harmless.count('words'))
    self.assertEqual(Reader(text).tags, Reader(harmless).tags)

  def test_is_well_formed_and_loads_nothing(self):
    reader = Reader(render())
    self.assertEmpty(reader.open)
    self.assertLen(set(reader.ids), len(reader.ids))
    for link in reader.links:
      self.assertTrue(link.startswith('data:') or link[1:] in reader.ids, link)
    self.assertIn('revision unknown.', render(git_revision=None))


if __name__ == '__main__':
  absltest.main()
