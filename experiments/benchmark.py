"""Times layers of published models through tconv and its peers, side by side.

    python -m experiments.benchmark --config=configs/benchmark.py

Prints the targets with pass or fail, and the tables behind them. Writes the
tables to benchmark.md in the folder `config.out`, all times to benchmark.json
and a figure to benchmark.png. The JSON is rewritten after each layer. A command
that is interrupted reports what it has measured so far.

The calls of a layer take turns in one process, with the same number of threads,
so that other load on the machine changes times but hardly their ratios. The
values of each peer are compared with those of lax before the peer is timed. A
training step computes the output and its gradients with respect to input and
kernel.

A missed target does not change the exit status, which is then still 0.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import functools
import os
import pathlib
import tempfile
from typing import Any

from absl import app
from absl import logging
import jax
import ml_collections
from ml_collections import config_flags
import rich.console
import rich.progress

from experiments import commands
from experiments.harness import workdir
from experiments.timing import figure
from experiments.timing import layers as layers_lib
from experiments.timing import measure
from experiments.timing import peers as peers_lib
from experiments.timing import tables
from tconv import tuning_cache

_PACKAGES = ('python', 'jax', 'jaxlib', 'flax', 'numpy', 'torch', 'onnxruntime')


def run(config: ml_collections.ConfigDict, console: rich.console.Console, *,
        command: str) -> None:
  """Measures every layer and series, and reports.

  Args:
    config: `configs/benchmark.py`.
    console: console to print on.
    command: command line that started the measurement, for the report.

  Raises:
    RunError: a peer's values differ from those of lax.
    OSError: the results cannot be written.
  """
  out = pathlib.Path(config.out)
  out.mkdir(parents=True, exist_ok=True)
  builders, skipped = peers_lib.available()
  for name, why in skipped.items():
    console.print(f'Skipped {name}: {why}', soft_wrap=True)
  device = jax.devices()[0]
  results = {
      'command': command, 'device': f'{device.platform} ({device.device_kind})',
      'processor': tuning_cache.processor().strip(),
      'threads': tuning_cache.cores(),
      'versions': commands.versions(
          *(name for name in _PACKAGES if name not in skipped)),
      'skipped': skipped, 'layers': {}, 'series': {}}
  try:
    for _ in _measurements(config, builders, results, console):
      workdir.write_json(out / 'benchmark.json', results)
  finally:
    if results['layers']:
      _report(results, out, console)


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
  # Refreshed only between measurements: a thread for it would disturb them.
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
  """Prints the tables, and writes them and the figure."""
  every = tables.all_tables(results)
  for table in reversed(every):  # The targets end up next to the prompt.
    console.print(table.screen())
  skipped = ''.join(f' Skipped {name}: {why}.'
                    for name, why in results['skipped'].items())
  facts = (f'Measured in float32 on {results["processor"]}, '
           f'{results["device"]}, with {results["threads"]} threads, by '
           f'`{results["command"]}`; '
           f'{commands.listed(results["versions"])}.{skipped}')
  commands.write_page(out / 'benchmark.md', 'Benchmark', facts,
                      '![Ratios and series](benchmark.png)', *every)
  workdir.write_figure(out / 'benchmark.png', figure.draw(results), 110)
  console.print(f'{facts}\nResults: {out}', soft_wrap=True)


def main(argv: list[str], config: ml_collections.ConfigDict) -> None:
  """Runs the command with a config like `configs/benchmark.py`."""
  if 'steps' in config:
    raise app.UsageError('this --config is for experiments.gpu.')
  # A compilation cache would shorten the first calls, and results of
  # `tconv.tune` for this user would replace the default choice of forms.
  jax.config.update('jax_enable_compilation_cache', False)
  with (commands.started('benchmark', argv) as (console, command),
        tempfile.TemporaryDirectory() as empty):
    os.environ['XDG_CACHE_HOME'] = empty
    run(config, console, command=command)


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file('config', 'configs/benchmark.py')
  logging.set_verbosity(logging.WARNING)
  app.run(lambda argv: main(argv, _CONFIG.value))
