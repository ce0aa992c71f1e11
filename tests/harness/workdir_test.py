"""The folder of a run, and the files in it."""

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

  def open(self):
    return workdir_lib.opened(str(self.path), self.config)

  def assert_refused(self, message):
    with self.assertRaisesRegex(workdir_lib.RunError, message), self.open():
      self.fail('opened')

  def test_a_run_can_be_opened_again_with_its_config_only(self):
    with self.open() as workdir:
      self.assertEqual(workdir, self.path)
      written = json.loads((workdir / 'config.json').read_text())
      self.assertEqual(written['config'], {'n': 3, 'names': ['x', 'y']})
      self.assertContainsSubset(['python', 'jax', 'flax'], written['versions'])
      self.assertIn('cpu', written['device'])
      self.assertIn('git_revision', written)
      (workdir / 'results.json').write_text('[]')
    with self.open() as workdir:
      self.assertTrue((workdir / 'results.json').exists())
    before = (self.path / 'config.json').read_bytes()
    self.config.n = 4
    self.assert_refused('run of another config')
    self.assertEqual((self.path / 'config.json').read_bytes(), before)

  def test_a_run_is_opened_once_at_a_time(self):
    with self.open():
      self.assert_refused(f'another run uses {self.path}; .*--workdir')

  def test_a_lock_ends_with_an_error(self):
    with self.assertRaises(KeyError), self.open():
      raise KeyError
    with self.open():
      pass

  @parameterized.parameters(
      'figures', 'events', 'checkpoints', 'metrics.jsonl', 'results.json',
      'results.csv', 'timings.json', 'report.html')
  def test_what_is_in_the_way_is_named(self, name):
    self.path.mkdir(parents=True)
    if '.' in name:
      (self.path / name).mkdir()
    else:
      (self.path / name).write_text('not a folder')
    self.assert_refused(
        f'written: .*(Is a directory|File exists).*a/run/{name}')

  @parameterized.parameters(
      '{"config": ', '[]', '{}', '[' * 200_000, '{"config":' * 200_000)
  def test_a_broken_record_counts_as_another_config(self, record):
    self.path.mkdir(parents=True)
    (self.path / 'config.json').write_text(record)
    self.assert_refused('run of another config')

  def test_results_are_the_same_in_both_files(self):
    rows = [{'name': 'a, "b"', 'seed': None, 'level': 1.25},
            {'name': 'c', 'seed': 0, 'level': -3e-7}]
    self.path.mkdir(parents=True)
    workdir_lib.write_results(self.path, rows)
    self.assertEqual(json.loads((self.path / 'results.json').read_text()), rows)
    with open(self.path / 'results.csv', newline='') as file:
      table = list(csv.DictReader(file))
    self.assertEqual(table, [
        {'name': 'a, "b"', 'seed': '', 'level': '1.25'},
        {'name': 'c', 'seed': '0', 'level': '-3e-07'}])
    with self.assertRaisesRegex(ValueError, 'not JSON compliant'):
      workdir_lib.write_results(self.path, [{'level': float('nan')}])
    self.assertEqual(json.loads((self.path / 'results.json').read_text()), rows)

  def test_a_label_is_no_path(self):
    name = workdir_lib.file_name('../x2 k4/../seed 0\n')
    self.assertRegex(name, r'^[\w-]+$')
    self.assertNotEqual(name, workdir_lib.file_name('x4 k4, seed 0'))


if __name__ == '__main__':
  absltest.main()
