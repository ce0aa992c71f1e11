"""Runs a study in many processes on one machine.

    python -m experiments.launch --num_processes=2 --config=FILE --workdir=PATH

All other flags are those of `experiments.main`. If a process fails, the others
are stopped, and the last line names the process that failed first. The same
command resumes the run from the last checkpoint. After an error, its cause must
be removed first.
"""

from collections.abc import Sequence
import queue
import signal
import socket
import subprocess
import sys
import threading

from absl import app
from absl import flags

_NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', 2, 'Number of processes.', lower_bound=2)
_GRACE = 5  # Seconds that a process has to end after a signal.
_RESUME = 'the same command resumes the run.'
# Signals that come from outside, from a user or a system out of memory. All
# others come from a fault in the process, which may well occur again.
_SENT = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)


def main(argv: Sequence[str]) -> None:
  """Starts the processes, waits for them, and ends with the first error."""
  number, port = _NUM_PROCESSES.value, free_port()
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # As Ctrl-C.
  processes, failed = [], None
  try:
    for i in range(number):
      processes.append(subprocess.Popen(
          [sys.executable, '-m', 'experiments.main', *argv[1:],
           f'--coordinator=127.0.0.1:{port}', f'--num_processes={number}',
           f'--process_id={i}'],
          stdout=None if i == 0 else subprocess.DEVNULL))
    failed = _first_failure(processes)
  except KeyboardInterrupt:
    sys.exit(f'error: stopped; {_RESUME}')
  finally:
    for impatient in signal.SIGINT, signal.SIGTERM:
      signal.signal(impatient, signal.SIG_IGN)  # Until all are stopped.
    _stop(processes)
  if failed is not None:
    code = processes[failed].returncode
    how = (f'signal {-code}' if code < 0 else
           f'exit status {code}, for the reason above')
    advice = f'; {_RESUME}' if -code in _SENT else '.'
    sys.exit(f'error: process {failed} of {number} ended with {how}, and the '
             f'others were stopped{advice}')


def free_port() -> int:
  """Returns a free port of this machine."""
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


def _first_failure(processes: Sequence[subprocess.Popen]) -> int | None:
  """Waits for all processes, and returns the first to fail, if any."""
  # When a process fails, the others fail within milliseconds. To see which one
  # was first, each has a thread that waits for it.
  ended = queue.SimpleQueue()

  def wait(number, process):
    process.wait()
    ended.put(number)

  for each in enumerate(processes):
    threading.Thread(target=wait, args=each, daemon=True).start()
  return next((number for number in (ended.get() for _ in processes)
               if processes[number].returncode), None)


def _stop(processes: Sequence[subprocess.Popen]) -> None:
  """Ends processes that are still running."""
  for process in processes:
    process.terminate()
  for process in processes:
    try:
      process.wait(_GRACE)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


if __name__ == '__main__':
  app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))
