"""One small run of a study, which all tests of a class look at."""

import contextlib
import csv
import io
import json
import math
import pathlib
import shutil
import tempfile
from typing import Any
from unittest import mock

from absl.testing import absltest
from matplotlib import image as image_lib
import numpy as np

from experiments.harness import loop
from experiments.harness import records
from experiments.harness import study as study_lib
from experiments.harness import workdir as workdir_lib


def run(study, workdir: pathlib.Path) -> str:
  """Checks and runs a study, and returns what was printed."""
  screen = io.StringIO()
  study.check()
  with contextlib.redirect_stdout(screen), workdir_lib.opened(
      str(workdir), study.config):
    study_lib.run(study, workdir, command='a command')
  return screen.getvalue()


class _Enough(Exception):
  pass


class Run(absltest.TestCase):
  """What every study leaves."""
  study: Any  # Its class, ...
  config: Any
  figures: list[str]  # ... their names, and the number of trainings.
  trainings: int
  workdir: pathlib.Path
  rows: list[dict[str, Any]]
  timings: list[dict[str, Any]]
  text: str  # Of the report.
  printed: str

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.workdir = pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory())) / 'run'
    cls.printed = run(cls.study(cls.config), cls.workdir)
    cls.rows, cls.timings = (
        json.loads((cls.workdir / name).read_text())
        for name in ('results.json', 'timings.json'))
    cls.text = (cls.workdir / 'report.html').read_text()

  def values(self, metric, **key):
    found = [row[metric] for row in self.rows
             if all(row[name] == value for name, value in key.items())]
    self.assertNotEmpty(found, key)
    return found

  def test_numbers_are_finite_and_the_same_in_both_tables(self):
    for row in self.rows:
      for value in row.values():
        self.assertTrue(not isinstance(value, float) or math.isfinite(value))
    with open(self.workdir / 'results.csv', newline='') as file:
      self.assertEqual(list(csv.DictReader(file)), [
          {name: '' if cell is None else str(cell)
           for name, cell in row.items()} for row in self.rows])

  def test_figures_are_pictures_and_inside_of_the_page(self):
    found = {path.stem: path for path in (self.workdir / 'figures').iterdir()}
    self.assertCountEqual(found, self.figures)
    for path in found.values():
      pixels = image_lib.imread(path)
      self.assertGreater(min(pixels.shape[:2]), 100)
      self.assertGreater(pixels.std(), .05)
    self.assertEqual(self.text.count('src="data:image/png;base64,'),
                     len(self.figures))
    for link in 'src="', 'href="':  # To nothing outside of the page.
      for target in self.text.split(link)[1:]:
        self.assertTrue(target.startswith(('data:', '#')), target[:80])

  def test_an_interrupted_run_ends_with_the_same_results(self):
    workdir = pathlib.Path(self.enter_context(
        tempfile.TemporaryDirectory())) / 'run'
    train, calls = loop.train, []

    def stops(*args, label, **options):
      calls.append(label)
      train(*args, label=label, **{
          **options, 'num_steps': self.config.save_every})
      raise KeyboardInterrupt

    with (mock.patch.object(loop, 'train', stops),
          self.assertRaises(KeyboardInterrupt)):
      run(self.study(self.config), workdir)
    # All other trainings are complete.
    for path in (self.workdir / 'checkpoints').iterdir():
      if path.name != workdir_lib.file_name(calls[0]):
        shutil.copytree(path, workdir / 'checkpoints' / path.name)
    # Results are written before anything is timed; the rest is not wanted.
    printed = io.StringIO()
    with (mock.patch.object(self.study, 'timings', side_effect=_Enough),
          contextlib.redirect_stdout(printed), self.assertRaises(_Enough)):
      study_lib.run(self.study(self.config), workdir, command='')
    self.assertIn(f'{calls[0]}: resumes after step {self.config.save_every}.',
                  printed.getvalue())
    self.assertEqual(printed.getvalue().count('already complete'),
                     self.trainings - 1)
    first, second = (records.history(folder)[calls[0]]
                     for folder in (self.workdir, workdir))
    self.assertEqual(first, second)  # Bit by bit.
    rows = json.loads((workdir / 'results.json').read_text())
    for row, other in zip(self.rows, rows, strict=True):
      for name, value in row.items():
        if isinstance(value, float):
          # Spectra of the same image may differ by rounding.
          np.testing.assert_allclose(other[name], value, 1e-4, 1e-4, name)
        else:
          self.assertEqual(other[name], value)
