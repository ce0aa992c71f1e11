"""Kills runs at random moments, resumes them, and compares the results.

    python -m tests.kills --times=20 --config=configs/upsampling.py:smoke

All other flags are those of `experiments.main`. The undisturbed run comes
first; kills are spread over as long as it took.
"""

from collections.abc import Sequence
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags

_TIMES = flags.DEFINE_integer('times', 20, 'How many runs to kill.')
ROOT = pathlib.Path(__file__).parents[1]


def start(workdir: pathlib.Path, arguments: Sequence[str],
          **options) -> subprocess.Popen:
  """Starts `experiments.main` with arguments; the output is a text."""
  return subprocess.Popen(
      [sys.executable, '-m', 'experiments.main', f'--workdir={workdir}',
       *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, **options)


def finish(process: subprocess.Popen) -> str:
  """Waits for the end of a run that is to end well, and gives its output."""
  output, _ = process.communicate()
  if process.returncode:
    raise AssertionError(f'exit status {process.returncode}:\n{output}')
  return output


def main(argv: Sequence[str]) -> None:
  """Prints what came of each kill, and fails if a result differs."""
  folder = pathlib.Path(tempfile.mkdtemp())
  begin = time.monotonic()
  finish(start(folder / 'whole', argv[1:]))
  longest = time.monotonic() - begin
  expected = (folder / 'whole/results.json').read_bytes()
  print(f'undisturbed: {longest:.0f} s', flush=True)
  draw, different = random.Random(0), 0
  for i in range(_TIMES.value):
    moment = draw.uniform(0, longest)
    process = start(folder / str(i), argv[1:])
    time.sleep(moment)
    process.kill()
    process.communicate()
    output = finish(start(folder / str(i), argv[1:]))
    same = (folder / str(i) / 'results.json').read_bytes() == expected
    different += not same
    print(f'killed after {moment:.1f} s: '
          f'{output.count("already complete, skipped")} trainings were '
          f'complete, {output.count("resumes after")} resumed; results.json '
          f'{"identical" if same else "DIFFERENT"}', flush=True)
  if different:
    sys.exit(f'{different} of {_TIMES.value} differ: {folder}')


if __name__ == '__main__':
  app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))
