"""What the harness does for any study, on one that trains a single number."""

import contextlib
import csv
import importlib
import io
import json
import os
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest

from experiments.harness import devices
from experiments.harness import study
from experiments.harness import workdir as workdir_lib
from tests.harness.toys import toy as toys

CONFIG = toys.get_config()


def run_toy(workdir, toy=None):
  """Runs a toy, and returns it with what was printed."""
  toy, screen = toy or toys.Study(CONFIG), io.StringIO()
  with contextlib.redirect_stdout(screen), workdir_lib.opened(
      str(workdir), CONFIG):
    study.run(toy, workdir, command='make "toy"')
  return toy, screen.getvalue()


def files(workdir):
  return {str(path.relative_to(workdir)): path.read_bytes()
          for path in workdir.rglob('*') if path.is_file()}


class RunTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.whole = pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory())) / 'run'
    cls.toy, cls.shown = run_toy(cls.whole)

  def setUp(self):
    super().setUp()
    # Each test has a copy of the run.
    self.workdir = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())) / 'run'
    shutil.copytree(self.whole, self.workdir)

  def test_everything_is_written(self):
    rows = json.loads((self.workdir / 'results.json').read_text())
    # Rows have the key of their trial, and all of them the same columns.
    self.assertEqual(
        [(row['name'], row['seed'], row['stage']) for row in rows],
        [(name, None if name == 'fixed' else 0, stage)
         for name in ('plain', 'plain', 'again', 'fixed')
         for stage in ('first', 'second')])
    self.assertEqual({tuple(row) for row in rows},
                     {('name', 'seed', 'stage', 'state', 'rate')})
    expected = 0.
    for batch in range(6):
      expected = .7 * expected + (batch + .375) / 3
    self.assertAlmostEqual(rows[0]['state'], expected, places=5)  # float32
    self.assertIsNone(rows[-2]['state'])
    with open(self.workdir / 'results.csv', newline='') as file:
      self.assertEqual(list(csv.DictReader(file)), [
          {name: '' if value is None else str(value)
           for name, value in row.items()} for row in rows])
    self.assertEqual(
        json.loads((self.workdir / 'timings.json').read_text()), [{'ms': 2.}])
    text = (self.workdir / 'report.html').read_text()
    for part in ('Timed 2.0 ms.', 'make &#34;toy&#34;', 'Losses.',
                 'data:image/png', str(rows[0]['state'])):
      self.assertIn(part, text)
    self.assertTrue((self.workdir / 'figures/losses.png').read_bytes()
                    .startswith(b'\x89PNG'))
    # Both trials with the label 'rate 0.5' share a training.
    self.assertEqual(self.toy.examined, ['plain', 'plain', 'again', 'fixed'])
    self.assertEqual(self.shown.count('rate 0.5'), 1)
    self.assertStartsWith(self.shown, 'Toy data.\n')
    self.assertIn(str(rows[0]['state']), self.shown)  # The headline.
    self.assertEndsWith(self.shown, f'report: {self.whole / "report.html"}\n')

  def test_a_second_run_trains_nothing_and_gives_the_same(self):
    before = files(self.workdir)
    _, shown = run_toy(self.workdir)
    for rate in .7, .5:
      self.assertEqual(
          shown.count(f'rate {rate}: already complete, skipped.'), 1)
    for name, content in files(self.workdir).items():
      if name != 'config.json' and not name.startswith('events'):
        self.assertEqual(content, before[name], name)

  def test_an_interrupted_run_ends_with_the_same_results(self):
    other, toy = self.workdir.with_name('other'), toys.Study(CONFIG)
    toy.stop_at = 5
    with self.assertRaises(KeyboardInterrupt):
      run_toy(other, toy)
    self.assertNotIn('results.json', files(other))
    _, shown = run_toy(other)
    self.assertIn('rate 0.7: resumes after step 4.', shown)
    for name in 'results.json', 'metrics.jsonl', 'figures/losses.png':
      self.assertEqual(files(other)[name], files(self.whole)[name], name)

  def test_only_the_primary_process_writes(self):
    (self.workdir / 'report.html').unlink()
    before = files(self.workdir)
    with (mock.patch.object(devices, 'is_primary', lambda: False),
          mock.patch.object(toys.Study, 'timings', side_effect=AssertionError),
          mock.patch.object(toys.Study, 'page', side_effect=AssertionError)):
      toy = toys.Study(CONFIG)
      with contextlib.redirect_stdout(io.StringIO()):
        study.run(toy, self.workdir, command='')
    self.assertLen(toy.examined, 4)  # All processes compute the same.
    self.assertEqual(files(self.workdir), before)

  def test_files_are_replaced_as_a_whole_or_stay(self):
    """Neither figure nor report nor results are ever half written."""
    names = ['results.json', 'results.csv', 'timings.json',
             'figures/losses.png', 'report.html']
    replace = pathlib.Path.replace
    for number, broken in enumerate(names):
      before = {name: (self.workdir / name).stat().st_mtime_ns
                for name in names}
      finished = []

      def stops(partial, target, broken=broken, finished=finished):
        name = str(target.relative_to(self.workdir))
        if name == broken:
          raise OSError(28, os.strerror(28), str(target))
        if name in names:
          # All of the new file is there before the old one goes.
          finished.append(name)
        return replace(partial, target)

      with (mock.patch.object(pathlib.Path, 'replace', stops),
            self.assertRaisesRegex(OSError, broken)):
        run_toy(self.workdir)
      self.assertEqual(finished, names[:number])
      for name in names[number:]:
        self.assertEqual(
            (self.workdir / name).stat().st_mtime_ns, before[name], name)


class ContractTest(absltest.TestCase):

  def test_every_package_of_studies_exports_one(self):
    for name in 'generator', 'segmentation', 'upsampling':
      module = importlib.import_module(f'experiments.studies.{name}')
      self.assertTrue(issubclass(module.Study, study.Study))
      self.assertIsNot(module.Study, study.Study)


if __name__ == '__main__':
  absltest.main()
