"""The folder of a run, and what is written to it."""

import csv
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import ml_collections

from experiments.harness import workdir as workdir_lib


class WorkdirTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'a' / 'run'
    self.config = ml_collections.ConfigDict({'n': 3, 'names': ('x', 'y')})

  def test_config_is_written_with_its_surroundings(self):
    workdir = workdir_lib.open_workdir(str(self.path), self.config)
    written = json.loads((workdir / 'config.json').read_text())
    self.assertEqual(written['config'], {'n': 3, 'names': ['x', 'y']})
    self.assertContainsSubset(['python', 'jax', 'flax'], written['versions'])
    self.assertIn('cpu', written['device'])
    self.assertIn('git_revision', written)

  def test_the_same_config_may_run_again(self):
    first = workdir_lib.open_workdir(str(self.path), self.config)
    (first / 'results.json').write_text('[]')
    again = workdir_lib.open_workdir(str(self.path), self.config)
    self.assertEqual(again, first)
    self.assertTrue((again / 'results.json').exists())

  def test_a_run_of_another_config_is_left_alone(self):
    workdir_lib.open_workdir(str(self.path), self.config)
    before = (self.path / 'config.json').read_bytes()
    self.config.n = 4
    with self.assertRaisesRegex(workdir_lib.RunError, 'run of another config'):
      workdir_lib.open_workdir(str(self.path), self.config)
    self.assertEqual((self.path / 'config.json').read_bytes(), before)

  def test_a_file_in_the_way_is_named(self):
    self.path.parent.mkdir()
    self.path.write_text('not a folder')
    with self.assertRaisesRegex(workdir_lib.RunError, 'written: .*a/run'):
      workdir_lib.open_workdir(str(self.path), self.config)

  @parameterized.parameters('figures', 'events', 'checkpoints')
  def test_a_file_in_the_way_of_a_folder_is_named(self, name):
    self.path.mkdir(parents=True)
    (self.path / name).write_text('not a folder')
    with self.assertRaisesRegex(
        workdir_lib.RunError, f'written: .*File exists.*a/run/{name}'):
      workdir_lib.open_workdir(str(self.path), self.config)

  @parameterized.parameters(
      'metrics.jsonl', 'results.json', 'results.csv', 'timings.json',
      'report.html')
  def test_a_folder_in_the_way_of_a_file_is_named(self, name):
    (self.path / name).mkdir(parents=True)
    with self.assertRaisesRegex(
        workdir_lib.RunError, f'written: .*Is a directory.*a/run/{name}'):
      workdir_lib.open_workdir(str(self.path), self.config)

  @parameterized.parameters(
      '{"config": ', '[]', '3', '{}', '[' * 200_000, '{"config":' * 200_000)
  def test_a_broken_record_counts_as_another_config(self, record):
    self.path.mkdir(parents=True)
    (self.path / 'config.json').write_text(record)
    with self.assertRaisesRegex(workdir_lib.RunError, 'run of another config'):
      workdir_lib.open_workdir(str(self.path), self.config)

  def test_results_are_the_same_in_both_files(self):
    rows = [{'name': 'a, "b"', 'seed': None, 'level': 1.25},
            {'name': 'c', 'seed': 0, 'level': -3e-7}]
    workdir = workdir_lib.open_workdir(str(self.path), self.config)
    workdir_lib.write_results(workdir, rows)
    self.assertEqual(json.loads((workdir / 'results.json').read_text()), rows)
    with open(workdir / 'results.csv', newline='') as file:
      table = list(csv.DictReader(file))
    self.assertEqual(table, [
        {'name': 'a, "b"', 'seed': '', 'level': '1.25'},
        {'name': 'c', 'seed': '0', 'level': '-3e-07'}])

  def test_no_nan_is_written(self):
    workdir = workdir_lib.open_workdir(str(self.path), self.config)
    with self.assertRaisesRegex(ValueError, 'not JSON compliant'):
      workdir_lib.write_results(workdir, [{'level': float('nan')}])


if __name__ == '__main__':
  absltest.main()
