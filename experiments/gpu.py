"""Tests tconv on this machine's GPU, and times it beside its peers.

    python -m experiments.gpu --config.out=PATH

Ends within ten minutes. First run the tests that are marked "gpu", as far as
`config.tests_seconds` reaches. Then the layers are measured: in float32, with
TF32 and in bfloat16; forward and in training; through tconv's function and
layer, lax, Flax and, where it is installed, PyTorch. Once `config.seconds` have
passed since the start, no new layer is begun; a second run goes on behind the
first N with --config.first=N.

Writes tests.txt, and after every layer gpu.json and a table in Markdown, which
is named after the card. A run that is cut off has lost no layer that was
finished. Ends with status 1 if a test fails; that a ratio is not as wanted, the
table says.
"""

from importlib import metadata
import os
import pathlib
import platform
import re
import shlex
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

from experiments.harness import workdir
from experiments.timing import enqueued
from experiments.timing import gpu_tables
from experiments.timing import layers as layers_lib

_ROOT = pathlib.Path(__file__).parents[1]
_PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy')
MARK = 'pytest.mark.gpu'


def test(seconds: float, out: pathlib.Path, console: rich.console.Console
         ) -> tuple[str, bool]:
  """Runs the marked tests in a process of their own.

  Args:
    seconds: after which they are stopped.
    out: folder for tests.txt, to which each result is written at once.
    console: where to print.

  Returns:
    The outcome, a line; and whether nothing failed as far as they ran.
  """
  # Files without the mark may need packages that are not here. That with all
  # forms takes longest; if the time is too short, it is cut.
  files = sorted((path for path in (_ROOT / 'tests').glob('*_test.py')
                  if MARK in path.read_text(encoding='utf-8')),
                 key=lambda path: (path.name == 'agreement_test.py', path))
  command = [
      sys.executable, '-u', '-m', 'pytest', '-v', '-o', 'addopts=', '-W',
      'default', '-p', 'no:cacheprovider', '-m', 'gpu', *map(str, files)]
  # The tests ask for level 0, and for a GPU XLA has none below 2.
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
  """Measures layer after layer, and reports after each.

  Args:
    config: `configs/benchmark.py:gpu`.
    facts: for the report: 'command' and 'tests'.
    deadline: of `time.monotonic`; no layer is begun behind it.
    out: folder for the results.
    console: where to print.

  Raises:
    OSError: the results cannot be written.
  """
  torch, missing = enqueued.torch_steps()
  if missing:
    console.print(f'Skipped torch: {missing}', soft_wrap=True)
  results: dict[str, Any] = {
      **facts, **_environment(torch is not None),
      'precisions': list(config.precisions), 'layers': {}}
  rows = [layers_lib.Layer(*row) for row in config.layers][config.first:]
  for i, layer in enumerate(rows):
    if time.monotonic() > deadline:
      names = ', '.join(layer.name for layer in rows[i:])
      console.print(f'Skipped, as the time is over: {names}. They are measured '
                    f'with --config.first={config.first + i}', soft_wrap=True)
      break
    start = time.monotonic()
    entry = enqueued.measure(
        layer, config.precisions, config.repeats, config.steps, torch)
    results['layers'][layer.name] = entry
    workdir.write_json(out / 'gpu.json', results)
    _write_tables(results, out)
    console.print(f'{layer.name}: {time.monotonic() - start:.0f} s')
    for (program, why), where in gpu_tables.failures(entry).items():
      console.print(f'  Skipped {program} in {", ".join(where)}: {why}',
                    soft_wrap=True)
  if results['layers']:
    console.print(gpu_tables.all_tables(results)[0].screen())
  console.print(f'Tests: {facts["tests"]}\nResults: {out}', soft_wrap=True)


def _environment(with_torch: bool) -> dict[str, Any]:
  """What the times depend on besides the config."""
  packages = _PACKAGES + ('torch',) * with_torch
  return {'device': jax.devices()[0].device_kind, 'versions': {
      'python': platform.python_version(),
      **{name: metadata.version(name) for name in packages}}}


def _write_tables(results: dict[str, Any], out: pathlib.Path) -> None:
  versions = ', '.join(
      f'{name} {version}' for name, version in results['versions'].items())
  card = results['device']
  workdir.write_text(
      out / f'{workdir.file_name(card).lower()}.md', '\n\n'.join((
          f'# Benchmark, {card}',
          f'Measured on {card} by `{results["command"]}`; {versions}. Tests '
          f'before: {results["tests"]}.',
          *(table.markdown()
            for table in gpu_tables.all_tables(results)))) + '\n')


def main(argv: list[str], config: ml_collections.ConfigDict) -> None:
  """Runs the command.

  Args:
    argv: of the command line.
    config: `configs/benchmark.py:gpu`.
  """
  start = time.monotonic()
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {shlex.join(argv[1:])}')
  if 'steps' not in config:
    raise app.UsageError('--config must be configs/benchmark.py:gpu or '
                         ':gpu_smoke; others are for experiments.benchmark.')
  console = rich.console.Console(markup=False, highlight=False)
  out = pathlib.Path(config.out)
  try:
    out.mkdir(parents=True, exist_ok=True)
    # Before JAX starts here: it takes much of the GPU's memory, and PyTorch
    # needs some, too.
    os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '.5')
    outcome, passed = test(config.tests_seconds, out, console)
    console.print(f'Tests: {outcome}', soft_wrap=True)
    measure(config, {'tests': outcome, 'command': shlex.join(
        ['python', '-m', 'experiments.gpu', *sys.argv[1:]])},
            start + config.seconds, out, console)
  except OSError as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    sys.exit(130)
  if not passed:
    sys.exit(f'error: tests failed; see {out / "tests.txt"}')


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file(
      'config', 'configs/benchmark.py:gpu')
  logging.set_verbosity(logging.WARNING)
  app.run(lambda argv: main(argv, _CONFIG.value))
