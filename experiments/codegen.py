"""Compiles layers for an H100 or a TPU v5e, without one; reads the programs.

    python -m experiments.codegen --target=h100

Reports what each layer of `configs/codegen.py` asks of the device when it is
computed by tconv's function and layers, by lax and by Flax. For an H100 these
are cuDNN's convolutions and their dtypes, zeros inserted into an image, the
multiply-adds beyond the useful ones, and the temporary memory. For a TPU, they
are the operations and bytes relative to lax. Programs are not run, so nothing
is said of their speed.

Writes compiled-TARGET.md and, with all details, compiled-TARGET.json to the
folder `config.out`. The JSON is rewritten after each layer. A command that is
interrupted reports what it has compiled so far. The compilers are those that
`make codegen` installs into .venv-codegen.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

from absl import app
from absl import flags
from absl import logging
import ml_collections
from ml_collections import config_flags
import rich.console
import rich.progress

from experiments import commands
from experiments.compiled import programs
from experiments.compiled import tables
from experiments.compiled import targets
from experiments.harness import workdir
from experiments.timing import calls
from experiments.timing import layers as layers_lib

# Of the plugins, one is installed.
_PACKAGES = {'h100': ('python', 'jax', 'flax', 'jax-cuda12-plugin',
                      'jax-cuda13-plugin'),
             'v5e': ('python', 'jax', 'flax', 'libtpu')}
_DEVICES = {'h100': 'an NVIDIA H100', 'v5e': 'a TPU v5e'}


def run(config: ml_collections.ConfigDict, target: str,
        console: rich.console.Console, *, command: str) -> None:
  """Compiles every layer, and reports.

  Args:
    config: `configs/codegen.py`.
    target: one of `targets.NAMES`.
    console: console to print on.
    command: command line that started the compilation, for the report.

  Raises:
    MissingCompilerError: the compiler is not installed.
    OSError: the results cannot be written.
  """
  targets.devices(target)  # Fails before anything is written.
  out = pathlib.Path(config.out)
  out.mkdir(parents=True, exist_ok=True)
  dtypes = [dtype for dtype in config.dtypes
            if (target, dtype) != ('v5e', 'float16')]  # A TPU has no float16.
  versions = commands.versions(*_PACKAGES[target])
  results = {}
  try:
    with rich.progress.Progress(
        console=console, disable=not console.is_terminal) as progress:
      for row in progress.track(config.layers, description=f'for {target}'):
        layer = layers_lib.Layer(*row)
        results[layer] = _compiled(target, layer, dtypes)
        workdir.write_json(out / f'compiled-{target}.json', {
            'command': command, 'target': target, 'versions': versions,
            'layers': {layer.name: _plain(found)
                       for layer, found in results.items()}})
  finally:
    if results:
      every = tables.all_tables(target, results)
      for table in reversed(every):  # The summary ends up next to the prompt.
        console.print(table.screen())
      facts = (f'Compiled for {_DEVICES[target]} on a machine without one, by '
               f'`{command}`; {commands.listed(versions)}. Nothing here was '
               f'run or timed.\n\n{tables.LEGENDS[target]}')
      path = out / f'compiled-{target}.md'
      commands.write_page(
          path, f'Compiled for {_DEVICES[target]}', facts, *every)
      console.print(f'{facts}\nResults: {path}', soft_wrap=True)


def _compiled(target, layer, dtypes):
  """Returns the summaries of a layer by kind, dtype and name."""
  found = {}
  for kind in calls.KINDS:
    found[kind] = {}
    for dtype in dtypes:
      found[kind][dtype] = here = {}
      for name in programs.NAMES[target]:
        try:
          here[name] = programs.of_layer(target, name, layer, kind, dtype)
        except NotImplementedError:
          continue  # Flax has no groups.
  return found


def _plain(found: Any) -> Any:
  """Converts summaries to values that JSON has."""
  if isinstance(found, Mapping):
    return {key: _plain(value) for key, value in found.items()}
  return {**dataclasses.asdict(found), **{
      name: [str(each) for each in getattr(found, name)]
      for name in ('calls', 'inserted')}}


def main(argv: list[str], config: ml_collections.ConfigDict, target: str
         ) -> None:
  """Runs the command with a config like `configs/codegen.py`."""
  with commands.started('codegen', argv) as (console, command):
    run(config, target, console, command=command)


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file('config', 'configs/codegen.py')
  _TARGET = flags.DEFINE_enum(
      'target', 'h100', targets.NAMES, 'Device to compile for.')
  logging.set_verbosity(logging.WARNING)
  app.run(lambda argv: main(argv, _CONFIG.value, _TARGET.value))
