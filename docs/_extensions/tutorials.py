"""Reads tutorials: Python programs in jupytext's percent format.

A translated tutorial has prose of its own and shares the code of the original:
a cell `# %% idea.py: matrix` without code stands for the cell `# %% matrix` of
`idea.py`.
"""

import pathlib
import re

import jupytext
import nbformat

DOCS = pathlib.Path(__file__).parent.parent
# Chinese has no spaces: a browser must not make one of the end of a line.
_CHINESE_LINE_END = re.compile(
    r'(?<=[\u3000-\u9fff\uff00-\uffef])\n(?=[\u3000-\u9fff\uff00-\uffef])')


def reads(text: str) -> nbformat.NotebookNode:
  """Returns the notebook of a tutorial's source code."""
  notebook = jupytext.reads(text, 'py:percent')
  for cell in notebook.cells:
    if cell.cell_type == 'markdown':
      cell.source = _CHINESE_LINE_END.sub('', cell.source)
    elif not cell.source:
      file, title = cell.metadata.title.split(': ')
      original = jupytext.read(DOCS / file, fmt='py:percent')
      cell.source, = (other.source for other in original.cells
                      if other.metadata.get('title') == title)
  return notebook
