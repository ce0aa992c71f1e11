"""A study in a few steps, from config to report: what all studies leave."""

import csv
import json
import pathlib
import tempfile
from typing import Any
from unittest import mock

from absl.testing import absltest
from matplotlib import image as image_lib

from experiments.harness import workdir as workdir_lib


class Run(absltest.TestCase):
  """One run that all tests of a class look at."""
  study: Any  # Its module, ...
  config: Any
  figures: list[str]
  figure_size: int  # ... and pixels that no side of a figure goes below.
  workdir: pathlib.Path
  rows: list[dict[str, Any]]
  text: str  # Of the report.
  printed: mock.Mock

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.study.check(cls.config)
    cls.workdir = workdir_lib.open_workdir(
        cls.enterClassContext(tempfile.TemporaryDirectory()), cls.config)
    with mock.patch('builtins.print') as cls.printed:
      cls.study.run(cls.config, cls.workdir, command=(
          'python -m experiments.main --config=a.py --workdir="<b>"'))
    cls.rows = json.loads((cls.workdir / 'results.json').read_text())
    cls.text = (cls.workdir / 'report.html').read_text()

  def test_both_tables_are_the_same(self):
    with open(self.workdir / 'results.csv', newline='') as file:
      table = list(csv.DictReader(file))
    self.assertEqual(table, [
        {name: '' if cell is None else str(cell) for name, cell in row.items()}
        for row in self.rows])

  def test_figures_are_pictures(self):
    for name in self.figures:
      pixels = image_lib.imread(self.workdir / 'figures' / f'{name}.png')
      self.assertGreater(min(pixels.shape[:2]), self.figure_size)
      self.assertGreater(pixels.std(), .05)
    self.assertEqual(self.text.count('src="data:image/png;base64,'),
                     len(self.figures))

  def test_report_has_the_command(self):
    self.assertIn('--config=a.py --workdir=&#34;&lt;b&gt;&#34;', self.text)

  def test_last_line_says_where_the_report_is(self):
    self.printed.assert_called_with(f'report: {self.workdir / "report.html"}')
