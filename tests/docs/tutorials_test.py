"""The tutorials and the examples of the documentation run."""

import importlib.util
import pathlib
import re
import runpy
import sys

from absl.testing import absltest
from absl.testing import parameterized
import jupytext
from matplotlib import pyplot
import pytest

DOCS = pathlib.Path(__file__).parents[2] / 'docs'
HEADER = '# %% [markdown]'
TUTORIALS = [path for path in DOCS.glob('*.py')
             if path.read_text(encoding='utf-8').startswith(HEADER)]
TRANSLATIONS = [path for path in TUTORIALS if path.stem.endswith('_zh')]
# Pages with examples, and the library that each needs besides the tests' own.
EXAMPLES = [
    (page, example, library)
    for page in ('accelerate.md', 'scaling.md') for library, example in
    re.findall(r'```python ?(\w*)\n(.*?)```',
               (DOCS / page).read_text(encoding='utf-8'), re.DOTALL)
    if 'train_step' not in example]


class TutorialsTest(parameterized.TestCase):

  @parameterized.parameters(
      path.stem for path in TUTORIALS if path not in TRANSLATIONS)
  def test_it_runs(self, name):
    sys.path.insert(0, str(DOCS))
    self.addCleanup(sys.path.remove, str(DOCS))
    self.addCleanup(pyplot.close, 'all')
    runpy.run_path(str(DOCS / f'{name}.py'))

  @parameterized.parameters(path.stem for path in TRANSLATIONS)
  def test_a_translation_has_every_cell_in_order(self, name):
    original = name.removesuffix('_zh') + '.py'
    cells = lambda path: [
        cell.metadata['title'] for cell in
        jupytext.read(path, fmt='py:percent').cells if cell.cell_type == 'code']
    self.assertEqual(
        cells(DOCS / f'{name}.py'),
        [f'{original}: {title}' for title in cells(DOCS / original)])

  # Keras 3.15 causes it with NumPy 2, when it gives its weights.
  @pytest.mark.filterwarnings(
      'ignore:__array__ implementation:DeprecationWarning')
  @parameterized.parameters(*EXAMPLES)
  def test_the_examples_of_pages_run(self, page, example, library):
    if library and importlib.util.find_spec(library) is None:
      self.skipTest(f'no {library}')
    exec(compile(example, page, 'exec'), {})


if __name__ == '__main__':
  absltest.main()
