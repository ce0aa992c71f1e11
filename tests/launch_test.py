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

from experiments import launch
from tests import kills

ARGUMENTS = ['--config=tests/harness/toys/toy.py', '--config.num_steps=12',
             '--config.save_every=6', '--config.pause=.03']
WRITTEN = 'results.json', 'metrics.jsonl'
SECONDS = 120  # Until something is wrong.
ENVIRONMENT = {**os.environ, 'XLA_FLAGS': ''}  # A device for each process.


def wait_for_step(workdir, step):
  """Waits until a step of the first training is saved."""
  end = time.monotonic() + SECONDS
  while not (workdir / 'checkpoints/rate-0-7' / str(step)).exists():
    if time.monotonic() > end:
      raise AssertionError(f'step {step} did not come')
    time.sleep(.05)


class RunTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))

  def start(self, name):
    process = kills.start(self.folder / name, ARGUMENTS, env=ENVIRONMENT)
    self.addCleanup(process.wait)
    self.addCleanup(process.kill)
    return process

  def launch(self, name):
    launched = subprocess.Popen(
        [sys.executable, '-m', 'experiments.launch', '--num_processes=2',
         f'--workdir={self.folder / name}', *ARGUMENTS], cwd=kills.ROOT,
        text=True, env=ENVIRONMENT, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    self.addCleanup(launched.wait)
    self.addCleanup(launched.terminate)
    return launched

  def test_who_dies_can_go_on_and_ends_the_same(self):
    """One process of one, and one process of two."""
    whole, killed, shared = (
        self.folder / name for name in ('whole', 'killed', 'shared'))
    kills.finish(self.start('whole'))
    first = self.start('killed')
    wait_for_step(killed, 6)
    first.send_signal(signal.SIGSTOP)  # It holds the folder, and waits.
    second = self.start('killed')
    output, _ = second.communicate(timeout=SECONDS)
    self.assertEqual(second.returncode, 1)
    self.assertRegex(output, f'^error: another run uses {killed}; .*\n$')
    first.kill()
    first.communicate()
    self.assertRegex(kills.finish(self.start('killed')),
                     'resumes after step|already complete|damaged, and moved')

    launched = self.launch('shared')
    wait_for_step(shared, 6)
    listed = pathlib.Path(f'/proc/{launched.pid}/task/{launched.pid}/children')
    _, second = map(int, listed.read_text().split())
    os.kill(second, signal.SIGKILL)
    output, _ = launched.communicate(timeout=SECONDS)
    self.assertEqual(launched.returncode, 1)
    self.assertIn('error: process 1 of 2 ended with signal 9, and the others '
                  'were stopped; the same command ', output)
    self.assertFalse((shared / 'report.html').exists())
    kills.finish(self.launch('shared'))
    settings = json.loads((shared / 'config.json').read_text())
    self.assertStartsWith(settings['device'], '2 x cpu')
    self.assertTrue((shared / 'report.html').exists())

    for workdir in killed, shared:
      for name in WRITTEN:
        self.assertEqual((workdir / name).read_bytes(),
                         (whole / name).read_bytes(), name)


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

  @parameterized.parameters(
      ('exit 1', 'kill -ABRT $$', '0 of 2 .* exit status 1, for the reason'),
      ('exit 1', 'kill -KILL $$', '0 of 2 .* exit status 1, for the reason'),
      # A rerun is advised where it helps.
      ('kill -KILL $$', 'exit 1', '0 of 2 .* signal 9, .*; the same command'),
      ('kill -TERM $$', 'exit 1', '0 of 2 .* signal 15, .*; the same command'),
      ('kill -SEGV $$', 'exit 1', r'0 of 2 .* signal 11, .* stopped\.$'),
      ('exit 0', 'exit 3', '1 of 2 .* exit status 3,'))
  def test_the_first_that_failed_is_named(self, first, second, message):
    self.assertRegex(self.launch(first, second), f'^error: process {message}')

  def test_a_signal_ends_all_processes(self):
    message = self.launch('kill -TERM $PPID; sleep 60', 'sleep 60')
    self.assertStartsWith(message, 'error: stopped; the same command')


if __name__ == '__main__':
  absltest.main()
