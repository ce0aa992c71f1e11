"""Tests tconv on this machine's GPU, and times it beside its peers.

    python -m experiments.gpu --config.out=PATH

Ends within ten minutes. The tests marked "gpu" run first, for up to
`config.tests_seconds`. Then the layers are measured: in float32, with TF32 and
in bfloat16; forward and in training; through tconv's function and layer, lax,
Flax and, if it is installed, PyTorch. No new layer is started when
`config.seconds` have passed since the start; a second run with
--config.first=N skips the first N layers.

Writes tests.txt and, after every layer, gpu.json and a Markdown page named
after the card, so that an interrupted run loses at most one layer. The exit
status is 1 if a test fails. Missed targets are marked in the tables and do not
change it.
"""

import os
import pathlib
import re
import subprocess
import sys
import time
from typing import Any

from absl import app
from absl import logging
import jax
import ml_collections
from ml_collections import config_flags
import rich.console

from experiments import commands
from experiments.harness import workdir
from experiments.timing import enqueued
from experiments.timing import gpu_tables
from experiments.timing import layers as layers_lib

_ROOT = pathlib.Path(__file__).parents[1]
_PACKAGES = ('python', 'jax', 'jaxlib', 'flax', 'numpy')
MARK = 'pytest.mark.gpu'


def test(seconds: float, out: pathlib.Path, console: rich.console.Console
         ) -> tuple[str, bool]:
  """Runs the marked tests in a process of their own.

  Args:
    seconds: time limit.
    out: folder for tests.txt, to which each result is written at once.
    console: console to print on.

  Returns:
    The outcome in one line, and whether none of the tests that ran failed.
  """
  # Files without the mark may need packages that are not installed.
  # agreement_test.py takes longest: it runs last, as far as the time allows.
  files = sorted((path for path in (_ROOT / 'tests').glob('*_test.py')
                  if MARK in path.read_text(encoding='utf-8')),
                 key=lambda path: (path.name == 'agreement_test.py', path))
  command = [
      sys.executable, '-u', '-m', 'pytest', '-v', '-o', 'addopts=', '-W',
      'default', '-p', 'no:cacheprovider', '-m', 'gpu', *map(str, files)]
  # The tests set level 0, but for a GPU XLA has no level below 2.
  flags = (os.environ.get('XLA_FLAGS', '')
           + ' --xla_backend_optimization_level=3')
  path = out / 'tests.txt'
  with path.open('w', encoding='utf-8') as file:
    try:
      code = subprocess.run(
          command, cwd=_ROOT, env=os.environ | {'XLA_FLAGS': flags},
          stdout=file, stderr=subprocess.STDOUT, timeout=seconds,
          check=False).returncode
    except subprocess.TimeoutExpired:
      code = None
  text = path.read_text(encoding='utf-8')
  lines = text.splitlines()
  failures = re.findall(r'^\S+::.* (?:FAILED|ERROR)\b', text, re.MULTILINE)
  for line in failures:
    console.print(line, soft_wrap=True)
  if code is None:
    outcome = (f'stopped after {seconds:g} s, with {text.count(" PASSED")} '
               'passed; the rest was skipped')
  elif code < 0:
    outcome = f'ended by signal {-code}, with {text.count(" PASSED")} passed'
  else:
    outcome = lines[-1].strip('= ') if lines else 'no output'
  return outcome, not failures and code in (0, None)


def measure(config: ml_collections.ConfigDict, facts: dict[str, Any],
            deadline: float, out: pathlib.Path,
            console: rich.console.Console) -> None:
  """Measures one layer after the other, and reports after each.

  Args:
    config: `configs/benchmark.py:gpu`.
    facts: 'command' (the command line) and 'tests' (their outcome).
    deadline: value of `time.monotonic()` after which no layer is started.
    out: folder for the results.
    console: console to print on.

  Raises:
    OSError: the results cannot be written.
  """
  torch, missing = enqueued.torch_steps()
  if missing:
    console.print(f'Skipped torch: {missing}', soft_wrap=True)
  results: dict[str, Any] = {
      **facts, 'device': jax.devices()[0].device_kind,
      'versions': commands.versions(
          *_PACKAGES, *['torch'] * (torch is not None)),
      'precisions': list(config.precisions), 'layers': {}}
  rows = [layers_lib.Layer(*row) for row in config.layers][config.first:]
  for i, layer in enumerate(rows):
    if time.monotonic() > deadline:
      names = ', '.join(layer.name for layer in rows[i:])
      console.print(f'Skipped, as the time is over: {names}. To measure these, '
                    f'add --config.first={config.first + i}', soft_wrap=True)
      break
    start = time.monotonic()
    entry = enqueued.measure(
        layer, config.precisions, config.repeats, config.steps, torch)
    results['layers'][layer.name] = entry
    workdir.write_json(out / 'gpu.json', results)
    _write_page(results, out)
    console.print(f'{layer.name}: {time.monotonic() - start:.0f} s')
    for (program, why), where in gpu_tables.failures(entry).items():
      console.print(f'  Skipped {program} in {", ".join(where)}: {why}',
                    soft_wrap=True)
  if results['layers']:
    console.print(gpu_tables.all_tables(results)[0].screen())
  console.print(f'Tests: {facts["tests"]}\nResults: {out}', soft_wrap=True)


def _write_page(results: dict[str, Any], out: pathlib.Path) -> None:
  card = results['device']
  commands.write_page(
      out / f'{workdir.file_name(card).lower()}.md', f'Benchmark, {card}',
      f'Measured on {card} by `{results["command"]}`; '
      f'{commands.listed(results["versions"])}. Tests before: '
      f'{results["tests"]}.', *gpu_tables.all_tables(results))


def main(argv: list[str], config: ml_collections.ConfigDict) -> None:
  """Runs the command with a config like `configs/benchmark.py:gpu`."""
  start = time.monotonic()
  if 'steps' not in config:
    raise app.UsageError('--config must be configs/benchmark.py:gpu or '
                         ':gpu_smoke; others are for experiments.benchmark.')
  out = pathlib.Path(config.out)
  with commands.started('gpu', argv) as (console, command):
    out.mkdir(parents=True, exist_ok=True)
    # Set before JAX starts here: by default it takes most of the GPU's memory,
    # and PyTorch needs some as well.
    os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '.5')
    outcome, passed = test(config.tests_seconds, out, console)
    console.print(f'Tests: {outcome}', soft_wrap=True)
    measure(config, {'tests': outcome, 'command': command},
            start + config.seconds, out, console)
  if not passed:
    sys.exit(f'error: tests failed; see {out / "tests.txt"}')


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file(
      'config', 'configs/benchmark.py:gpu')
  logging.set_verbosity(logging.WARNING)
  app.run(lambda argv: main(argv, _CONFIG.value))
