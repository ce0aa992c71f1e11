"""What the launcher says of processes that fail, without running a study."""

import os
import pathlib
import signal
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from experiments import launch

# Process 1 waits for the end of process 0, which closes the pipe between them.
_SCRIPT = '''#!/bin/sh
case "$*" in
  *--process_id=0*) exec 3> {pipe}; {first};;
  *) cat {pipe}; sleep .05; {second};;
esac
'''


class LaunchTest(parameterized.TestCase):

  def launch(self, first, second):
    """Launches two processes of shell commands, and gives the last line."""
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    pipe, script = folder / 'pipe', folder / 'python'
    os.mkfifo(pipe)
    script.write_text(_SCRIPT.format(pipe=pipe, first=first, second=second))
    script.chmod(0o700)
    for number in signal.SIGINT, signal.SIGTERM:
      self.addCleanup(signal.signal, number, signal.getsignal(number))
    with (mock.patch.object(sys, 'executable', str(script)),
          mock.patch.object(launch, '_NUM_PROCESSES', mock.Mock(value=2)),
          self.assertRaises(SystemExit) as end):
      launch.main(['launch'])
    return end.exception.code

  @parameterized.parameters('exit 1', 'kill -ABRT $$', 'kill -KILL $$')
  def test_the_process_that_ended_first_is_named(self, second):
    self.assertEqual(
        self.launch('exit 1', second),
        'error: process 0 of 2 ended with exit status 1, for the reason above, '
        'and the others were stopped.')

  @parameterized.parameters(('KILL', 9, True), ('TERM', 15, True),
                            ('SEGV', 11, False), ('ABRT', 6, False))
  def test_to_go_on_is_advised_where_it_helps(self, name, number, helps):
    advice = '; the same command goes on from the last checkpoint.'
    self.assertEqual(
        self.launch(f'kill -{name} $$', 'exit 1'),
        f'error: process 0 of 2 ended with signal {number}, and the others '
        f'were stopped{advice if helps else "."}')

  def test_one_that_ends_well_is_none_that_failed(self):
    self.assertStartsWith(self.launch('exit 0', 'exit 3'),
                          'error: process 1 of 2 ended with exit status 3')


if __name__ == '__main__':
  absltest.main()
