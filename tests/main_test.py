"""The command, as a user runs it wrong."""

import pathlib
import signal
import subprocess
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments):
  return subprocess.run(
      [sys.executable, '-m', 'experiments.main', *arguments], cwd=ROOT,
      capture_output=True, text=True, check=False)


class MainTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.workdir = pathlib.Path(folder) / 'run'

  @parameterized.parameters(
      ('--config.num_stepz=1', 'such field: \'num_stepz\'\n.*mean "num_steps"'),
      ('--config.trunk.depth=1', "such field: 'depth'"),
      ('--config.num_steps=many', r'--config.num_steps=many: invalid literal'),
      ('--config.scales=(1,)', r'config.scales must be .*2 to 50; got \(1,\)'),
      ('--config.study=art', "config.study must be .*got 'art'"))
  def test_a_wrong_config_is_one_clear_line(self, flag, message):
    result = run('--config=configs/upsampling.py:smoke',
                 f'--workdir={self.workdir}', flag)
    self.assertEqual(result.returncode, 1)
    self.assertNotIn('Traceback', result.stderr)
    self.assertRegex(result.stderr, message)
    self.assertFalse(self.workdir.exists())

  def test_a_workdir_that_cannot_be_is_one_clear_line(self):
    self.workdir.write_text('a file')
    result = run('--config=configs/upsampling.py:smoke',
                 f'--workdir={self.workdir}')
    self.assertEqual(result.returncode, 1)
    self.assertRegex(
        result.stderr,
        r'^error: --workdir cannot be written: .*File exists: .*\n$')

  def test_a_workdir_without_a_name_is_refused(self):
    result = run('--config=configs/upsampling.py:smoke', '--workdir=')
    self.assertEqual(result.returncode, 1)
    self.assertIn('--workdir must name a folder', result.stderr)

  def test_a_signal_at_the_very_end_has_no_traceback(self):
    program = (
        'import atexit, os, runpy, signal\n'
        'atexit.register(os.kill, os.getpid(), signal.SIGTERM)\n'
        'runpy.run_module("experiments.main", run_name="__main__")')
    result = subprocess.run(
        [sys.executable, '-c', program, f'--workdir={self.workdir}',
         '--config=configs/upsampling.py:smoke', '--config.study=art'],
        cwd=ROOT, capture_output=True, text=True, check=False)
    self.assertEqual(result.returncode, -signal.SIGTERM)
    self.assertRegex(result.stderr, '^error: config.study must be .*\n$')

  def test_a_config_that_is_not_there_is_one_clear_line(self):
    result = run('--config=configs/none.py', f'--workdir={self.workdir}')
    self.assertEqual(result.returncode, 1)
    self.assertRegex(result.stderr, r'^error: [^\']*\'configs/none.py\'\n$')


if __name__ == '__main__':
  absltest.main()
