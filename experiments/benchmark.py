"""Times layers of published models through tconv and its peers, side by side.

    python -m experiments.benchmark --config=configs/benchmark.py

Prints what must hold, whether it does, and the tables behind it. Leaves them in
the folder `config.out` as benchmark.md, every time in benchmark.json, and a
picture in benchmark.png. The JSON is written after each layer; whatever stops
the command, Ctrl-C too, what was measured until then is reported.

All calls of a layer take turns in one process, each with as many threads: a
machine that others use as well changes times, and hardly their ratios. Before a
peer is timed, its values are compared with those of lax. A training step is the
output and its gradients for input and kernel.

Ends with status 0 also where something does not hold: the table says so.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import functools
from importlib import metadata
import os
import pathlib
import platform
import shlex
import sys
import tempfile
from typing import Any

from absl import app
from absl import logging
import jax
import ml_collections
from ml_collections import config_flags
import rich.console
import rich.progress

from experiments.harness import workdir
from experiments.timing import figure
from experiments.timing import layers as layers_lib
from experiments.timing import measure
from experiments.timing import peers as peers_lib
from experiments.timing import tables
from tconv import tuning_cache

_PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'torch', 'onnxruntime')


def run(config: ml_collections.ConfigDict, console: rich.console.Console, *,
        command: str) -> None:
  """Measures every layer and series, and reports.

  Args:
    config: `configs/benchmark.py`.
    console: where to print.
    command: that measures, for the report.

  Raises:
    RunError: a peer's values differ.
    OSError: the results cannot be written.
  """
  out = pathlib.Path(config.out)
  out.mkdir(parents=True, exist_ok=True)
  builders, skipped = peers_lib.available()
  for name, why in skipped.items():
    console.print(f'Skipped {name}: {why}', soft_wrap=True)
  results = {**_environment(command, skipped), 'layers': {}, 'series': {}}
  try:
    for _ in _measurements(config, builders, results, console):
      workdir.write_json(out / 'benchmark.json', results)
  finally:
    if results['layers']:
      _report(results, out, console)


def _environment(command: str, skipped: Mapping[str, str]) -> dict[str, Any]:
  """What the times depend on besides the config."""
  device = jax.devices()[0]
  return {
      'command': command, 'device': f'{device.platform} ({device.device_kind})',
      'processor': tuning_cache.processor().strip(),
      'threads': tuning_cache.cores(),
      'versions': {'python': platform.python_version(), **{
          name: metadata.version(name) for name in _PACKAGES
          if name not in skipped}},
      'skipped': skipped}


def _measurements(config: ml_collections.ConfigDict,
                  builders: Mapping[str, peers_lib.Build],
                  results: dict[str, Any], console: rich.console.Console
                  ) -> Iterator[None]:
  """Fills results, one layer or series after the other."""
  read = lambda rows: [layers_lib.Layer(*row) for row in rows]
  options = {'peers': builders, 'repeats': config.repeats}
  jobs = [(results['layers'], layer.name,
           functools.partial(measure.measure, layer, **options))
          for layer in read(config.layers)]
  jobs += [(results['series'], name,
            functools.partial(measure.series, read(rows), **options))
           for name, rows in config.series.items() if rows]
  # Drawn only between measurements: a thread of its own would be timed, too.
  with rich.progress.Progress(
      console=console, disable=not console.is_terminal, auto_refresh=False
      ) as progress:
    task = progress.add_task('', total=len(jobs))

    def say(name, what):
      progress.update(task, description=f'{name}: {what}', refresh=True)

    for place, name, job in jobs:
      place[name] = job(say=functools.partial(say, name))
      progress.advance(task)
      yield


def _report(results: Mapping[str, Any], out: pathlib.Path,
            console: rich.console.Console) -> None:
  """Prints the tables, and writes them and the picture."""
  every = tables.all_tables(results)
  for table in reversed(every):  # The targets, to be seen first, come last.
    console.print(table.screen())
  versions = ', '.join(
      f'{name} {version}' for name, version in results['versions'].items())
  skipped = ''.join(f' Skipped {name}: {why}.'
                    for name, why in results['skipped'].items())
  facts = (f'Measured in float32 on {results["processor"]}, '
           f'{results["device"]}, with {results["threads"]} threads, by '
           f'`{results["command"]}`; '
           f'{versions}.{skipped}')
  workdir.write_text(out / 'benchmark.md', '\n\n'.join((
      '# Benchmark', facts, '![Ratios and series](benchmark.png)',
      *(table.markdown() for table in every))) + '\n')
  workdir.write_figure(out / 'benchmark.png', figure.draw(results), 110)
  console.print(f'{facts}\nResults: {out}', soft_wrap=True)


def main(argv: list[str], config: ml_collections.ConfigDict) -> None:
  """Runs the command.

  Args:
    argv: of the command line.
    config: `configs/benchmark.py`.
  """
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {shlex.join(argv[1:])}')
  if 'steps' in config:
    raise app.UsageError('this --config is for experiments.gpu.')
  # What was compiled yesterday must not shorten a first call, and what
  # `tconv.tune` found for this user must not decide instead of the rule.
  jax.config.update('jax_enable_compilation_cache', False)
  with tempfile.TemporaryDirectory() as empty:
    os.environ['XDG_CACHE_HOME'] = empty
    try:
      run(config, rich.console.Console(markup=False, highlight=False),
          command=shlex.join(
              ['python', '-m', 'experiments.benchmark', *sys.argv[1:]]))
    except (workdir.RunError, OSError) as error:
      sys.exit(f'error: {error}')
    except KeyboardInterrupt:
      sys.exit(130)


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file('config', 'configs/benchmark.py')
  logging.set_verbosity(logging.WARNING)
  app.run(lambda argv: main(argv, _CONFIG.value))
