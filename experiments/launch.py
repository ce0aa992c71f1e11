"""Runs a study in many processes on one machine.

    python -m experiments.launch --num_processes=2 --config=FILE --workdir=PATH

All other flags are those of `experiments.main`. If a process ends before its
time, the others are stopped; the same command goes on from the last checkpoint.
"""

from collections.abc import Sequence
import signal
import socket
import subprocess
import sys
import time

from absl import app
from absl import flags

_NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', 2, 'How many to run.', lower_bound=2)
_GRACE = 5  # Seconds to end in, after a signal.


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
    sys.exit('error: stopped; the same command goes on from the last '
             'checkpoint.')
  finally:
    _stop(processes)
  if failed is not None:
    code = processes[failed].returncode
    how = (f'signal {-code}' if code < 0 else
           f'exit status {code}, for the reason above')
    sys.exit(f'error: process {failed} of {number} ended with {how}, and the '
             'others were stopped; the same command goes on from the last '
             'checkpoint.')


def free_port() -> int:
  """Finds a port of this machine that nobody uses."""
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


def _first_failure(processes: Sequence[subprocess.Popen]) -> int | None:
  """Waits until all have ended well, or one has not, and tells which."""
  while True:
    codes = [process.poll() for process in processes]
    bad = {code: i for i, code in enumerate(codes) if code}
    if bad or None not in codes:
      # One that was killed comes first: its end is the reason of the others.
      return bad[min(bad)] if bad else None
    time.sleep(.2)


def _stop(processes: Sequence[subprocess.Popen]) -> None:
  """Ends what is still running."""
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
