"""Runs that are stopped, killed, started twice, or left by another process."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest

from tests import kills

LABEL = 'x2-transposed-k4-seed-0'
ARGUMENTS = [
    '--config=configs/upsampling.py:smoke',
    "--config.upsamplers=('transposed k4',)", '--config.save_every=20']
ENDLESS = [*ARGUMENTS, '--config.num_steps=100000']
STOPPED = 'error: stopped; the same command goes on from the last checkpoint.\n'
SECONDS = 120  # Until something is wrong.


def wait_for_step(workdir, step):
  """Waits until a step of the training is saved."""
  end = time.monotonic() + SECONDS
  while not (workdir / 'checkpoints' / LABEL / str(step)).exists():
    if time.monotonic() > end:
      raise AssertionError(f'step {step} did not come')
    time.sleep(.05)


class FaultsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())) / 'run'

  def start(self, arguments):
    process = kills.start(self.workdir, arguments)
    self.addCleanup(process.wait)
    self.addCleanup(process.kill)
    return process

  def test_a_signal_ends_a_run_and_a_second_one_is_refused(self):
    first = self.start(ENDLESS)
    wait_for_step(self.workdir, 20)
    second = self.start(ENDLESS)
    output, _ = second.communicate(timeout=SECONDS)
    self.assertEqual(second.returncode, 1)
    self.assertEqual(
        output, f'error: another run is going on in {self.workdir}; wait for '
        'it, or take another --workdir.\n')
    first.terminate()
    output, _ = first.communicate(timeout=SECONDS)
    self.assertEqual(first.returncode, 1)
    self.assertIn(STOPPED, output)

  def test_a_killed_run_ends_with_the_same_results(self):
    arguments = [*ARGUMENTS, '--config.num_steps=100']
    killed = self.start(arguments)
    wait_for_step(self.workdir, 40)
    killed.kill()
    killed.communicate()
    output = kills.finish(self.start(arguments))
    self.assertRegex(output, 'goes on after step [1-9]')
    results = (self.workdir / 'results.json').read_bytes()
    self.workdir = self.workdir.parent / 'whole'
    kills.finish(self.start(arguments))
    self.assertEqual((self.workdir / 'results.json').read_bytes(), results)

  def launch(self):
    """Starts two processes, and gives the program and their ids."""
    launch = subprocess.Popen(
        [sys.executable, '-m', 'experiments.launch', '--num_processes=2',
         f'--workdir={self.workdir}', *ENDLESS], cwd=kills.ROOT, text=True,
        env={**os.environ, 'XLA_FLAGS': '--xla_backend_optimization_level=0'},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    self.addCleanup(launch.wait)
    self.addCleanup(launch.terminate)
    wait_for_step(self.workdir, 20)
    listed = pathlib.Path(f'/proc/{launch.pid}/task/{launch.pid}/children')
    return launch, list(map(int, listed.read_text().split()))

  def test_a_signal_ends_all_processes(self):
    launch, children = self.launch()
    self.assertLen(children, 2)
    launch.terminate()
    output, _ = launch.communicate(timeout=SECONDS)
    self.assertEqual(launch.returncode, 1)
    self.assertIn(STOPPED, output)
    for child in children:
      self.assertFalse(pathlib.Path(f'/proc/{child}').exists())

  def test_a_dead_process_ends_the_others(self):
    launch, (_, second) = self.launch()
    os.kill(second, signal.SIGKILL)
    output, _ = launch.communicate(timeout=SECONDS)
    self.assertEqual(launch.returncode, 1)
    self.assertIn(
        'error: process 1 of 2 ended with signal 9, and the others '
        'were stopped; the same command goes on from the last checkpoint.\n',
        output)


if __name__ == '__main__':
  absltest.main()
