"""One small run of a study, which all tests of a class look at."""

import contextlib
import io
import json
import math
import pathlib
import tempfile
from typing import Any
from unittest import mock

from absl.testing import absltest
from flax import nnx
import jax
from matplotlib import image as image_lib

from experiments.harness import step_times
from experiments.harness import study as study_lib
from experiments.harness import workdir as workdir_lib
import tconv

TIMES = {'ms_per_step_tconv': 2., 'ms_per_step_flax': 3.}


def run(study, workdir: pathlib.Path) -> str:
  """Checks and runs a study, and returns what was printed."""
  screen = io.StringIO()
  study.check()
  with contextlib.redirect_stdout(screen), workdir_lib.opened(
      str(workdir), study.config):
    study_lib.run(study, workdir, command='a command')
  return screen.getvalue()


def traced(build):
  """Traces the steps that `step_times.compare` compiles and times."""
  for layer in tconv.nnx.ConvTranspose, nnx.ConvTranspose:
    step, *arguments = build(layer)
    jax.eval_shape(step, *arguments)
  return TIMES


class Run(absltest.TestCase):
  """What every study leaves."""
  study: Any  # Its class, ...
  config: Any
  figures: list[str]  # ... and their names.
  workdir: pathlib.Path
  rows: list[dict[str, Any]]
  timings: list[dict[str, Any]]
  text: str  # Of the report.

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.workdir = pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory())) / 'run'
    with mock.patch.object(step_times, 'compare', traced):
      run(cls.study(cls.config), cls.workdir)
    cls.rows, cls.timings = (
        json.loads((cls.workdir / name).read_text())
        for name in ('results.json', 'timings.json'))
    cls.text = (cls.workdir / 'report.html').read_text()

  def test_numbers_are_finite(self):
    for row in self.rows:
      for value in row.values():
        self.assertTrue(not isinstance(value, float) or math.isfinite(value))

  def test_figures_are_pictures(self):
    found = {path.stem: path for path in (self.workdir / 'figures').iterdir()}
    self.assertCountEqual(found, self.figures)
    for path in found.values():
      pixels = image_lib.imread(path)
      self.assertGreater(min(pixels.shape[:2]), 100)
      self.assertGreater(pixels.std(), .05)
