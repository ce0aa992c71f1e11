"""Runs that are killed, started twice, or shared by processes that may die."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import numpy as np

from experiments import launch
from experiments.harness import records
from tests import kills

LABEL = 'head 8, frozen, seed 0'
ARGUMENTS = [
    '--config=configs/segmentation.py:smoke', '--config.heads=(8,)',
    "--config.decoders=('frozen',)", '--config.channels=(2,2,2)',
    '--config.train_images=16', '--config.num_steps=40',
    '--config.save_every=8']
SECONDS = 120  # Until something is wrong.
# A device for each process.
ENVIRONMENT = {**os.environ, 'XLA_FLAGS': '--xla_backend_optimization_level=0'}


def wait_for_step(workdir, step):
  """Waits until a step of the training is saved."""
  end = time.monotonic() + SECONDS
  while not (workdir / 'checkpoints/head-8-frozen-seed-0' / str(step)).exists():
    if time.monotonic() > end:
      raise AssertionError(f'step {step} did not come')
    time.sleep(.05)


class RunTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(
        cls.enterClassContext(tempfile.TemporaryDirectory()))
    cls.whole = cls.folder / 'whole'
    kills.finish(kills.start(cls.whole, ARGUMENTS, env=ENVIRONMENT))

  def start(self, workdir):
    process = kills.start(workdir, ARGUMENTS, env=ENVIRONMENT)
    self.addCleanup(process.wait)
    self.addCleanup(process.kill)
    return process

  def launch(self, workdir):
    launched = subprocess.Popen(
        [sys.executable, '-m', 'experiments.launch', '--num_processes=2',
         f'--workdir={workdir}', *ARGUMENTS], cwd=kills.ROOT, text=True,
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    self.addCleanup(launched.wait)
    self.addCleanup(launched.terminate)
    return launched

  def assert_results_close(self, workdir, rtol):
    first, second = (json.loads((folder / 'results.json').read_text())
                     for folder in (self.whole, workdir))
    for row, other in zip(first, second, strict=True):
      for name in 'accuracy', 'iou', 'grid_level_db':
        np.testing.assert_allclose(other[name], row[name], rtol, 1e-4)

  def test_a_folder_has_one_run_and_outlives_its_death(self):
    workdir = self.folder / 'killed'
    first = self.start(workdir)
    wait_for_step(workdir, 8)
    first.send_signal(signal.SIGSTOP)  # It holds the folder, and waits.
    second = self.start(workdir)
    output, _ = second.communicate(timeout=SECONDS)
    self.assertEqual(second.returncode, 1)
    self.assertRegex(output, f'^error: another run uses {workdir}; .*\n$')
    first.kill()
    first.communicate()
    output = kills.finish(self.start(workdir))
    self.assertRegex(output, r'resumes after step [1-9]|already complete')
    self.assertEqual(records.history(workdir), records.history(self.whole))
    self.assert_results_close(workdir, rtol=1e-4)

  def test_two_processes_of_which_one_dies_give_what_one_gives(self):
    workdir = self.folder / 'shared'
    launched = self.launch(workdir)
    wait_for_step(workdir, 8)
    listed = pathlib.Path(f'/proc/{launched.pid}/task/{launched.pid}/children')
    _, second = map(int, listed.read_text().split())
    os.kill(second, signal.SIGKILL)
    output, _ = launched.communicate(timeout=SECONDS)
    self.assertEqual(launched.returncode, 1)
    self.assertIn('error: process 1 of 2 ended with signal 9, and the others '
                  'were stopped; the same command ', output)
    self.assertFalse((workdir / 'report.html').exists())

    kills.finish(self.launch(workdir))
    one, two = (records.history(folder)[LABEL]
                for folder in (self.whole, workdir))
    # Sums in another order, each of which the next steps enlarge.
    chex.assert_trees_all_close(two, one, atol=1e-5)
    settings = json.loads((workdir / 'config.json').read_text())
    self.assertStartsWith(settings['device'], '2 x cpu')
    # Of 48 x 48 pixels, a few may be as likely of one class as of another.
    self.assert_results_close(workdir, rtol=.05)
    self.assertTrue((workdir / 'report.html').exists())


# Process 1 waits for the end of process 0, which closes the pipe between them.
_SCRIPT = '''#!/bin/sh
echo $$ >> {pids}
case "$*" in
  *--process_id=0*) exec 3> {pipe}; {first};;
  *) cat {pipe}; sleep .05; {second};;
esac
'''


class EndTest(parameterized.TestCase):
  """What the launcher does as shell commands end in place of a study."""

  def launch(self, first, second):
    """Launches two processes of shell commands, and gives the last line."""
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    pipe, script, pids = (folder / name for name in ('pipe', 'python', 'pids'))
    os.mkfifo(pipe)
    script.write_text(_SCRIPT.format(
        pipe=pipe, pids=pids, first=first, second=second))
    script.chmod(0o700)
    for number in signal.SIGINT, signal.SIGTERM:
      self.addCleanup(signal.signal, number, signal.getsignal(number))
    with (mock.patch.object(sys, 'executable', str(script)),
          mock.patch.object(launch, '_NUM_PROCESSES', mock.Mock(value=2)),
          self.assertRaises(SystemExit) as end):
      launch.main(['launch'])
    for pid in pids.read_text().split():  # None outlives the launcher.
      self.assertFalse(pathlib.Path(f'/proc/{pid}').exists())
    return end.exception.code

  @parameterized.parameters('exit 1', 'kill -ABRT $$', 'kill -KILL $$')
  def test_the_process_that_ended_first_is_named(self, second):
    self.assertStartsWith(
        self.launch('exit 1', second),
        'error: process 0 of 2 ended with exit status 1, for the reason above')

  @parameterized.parameters(('KILL', 9, True), ('TERM', 15, True),
                            ('SEGV', 11, False), ('ABRT', 6, False))
  def test_a_rerun_is_advised_where_it_helps(self, name, number, helps):
    message = self.launch(f'kill -{name} $$', 'exit 1')
    self.assertStartsWith(
        message, f'error: process 0 of 2 ended with signal {number}')
    self.assertEqual('the same command' in message, helps)

  def test_one_that_ends_well_is_none_that_failed(self):
    self.assertStartsWith(self.launch('exit 0', 'exit 3'),
                          'error: process 1 of 2 ended with exit status 3')

  def test_a_signal_ends_all_processes(self):
    message = self.launch('kill -TERM $PPID; sleep 60', 'sleep 60')
    self.assertStartsWith(message, 'error: stopped; the same command')


if __name__ == '__main__':
  absltest.main()
