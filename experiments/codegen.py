"""Compiles layers for an H100 or a TPU v5e, without one; reads the programs.

    python -m experiments.codegen --target=h100

Says for every layer of `configs/codegen.py`, by tconv's function and layers, by
lax and by Flax, what the program asks of the device. For an H100: which
convolutions of cuDNN and in which dtype, whether zeros are inserted into an
image, how many multiply-adds beside the useful ones, how much temporary memory.
For a TPU: operations and bytes beside those of lax. Nothing is run or timed:
how fast a program is, only a device says.

Leaves compiled-TARGET.md, and all of it in compiled-TARGET.json, in the folder
`config.out`. The JSON is written after each layer; whatever stops the command,
Ctrl-C too, what was compiled until then is reported. Takes the compilers that
`make codegen` installs into .venv-codegen.
"""

from collections.abc import Mapping
import dataclasses
from importlib import metadata
import pathlib
import platform
import shlex
import sys
from typing import Any

from absl import app
from absl import flags
from absl import logging
import ml_collections
from ml_collections import config_flags
import rich.console
import rich.progress

from experiments.compiled import programs
from experiments.compiled import tables
from experiments.compiled import targets
from experiments.harness import workdir
from experiments.timing import calls
from experiments.timing import layers as layers_lib

_PACKAGES = {'h100': ('jax', 'flax', 'jax-cuda12-plugin', 'jax-cuda13-plugin'),
             'v5e': ('jax', 'flax', 'libtpu')}
_DEVICES = {'h100': 'an NVIDIA H100', 'v5e': 'a TPU v5e'}


def run(config: ml_collections.ConfigDict, target: str,
        console: rich.console.Console, *, command: str) -> None:
  """Compiles every layer, and reports.

  Args:
    config: `configs/codegen.py`.
    target: one of `targets.NAMES`.
    console: where to print.
    command: that compiles, for the report.

  Raises:
    MissingCompilerError: the compiler is not installed.
    OSError: the results cannot be written.
  """
  targets.devices(target)  # Fails before anything is written.
  out = pathlib.Path(config.out)
  out.mkdir(parents=True, exist_ok=True)
  dtypes = [dtype for dtype in config.dtypes
            if (target, dtype) != ('v5e', 'float16')]  # A TPU has none.
  results = {}
  try:
    with rich.progress.Progress(
        console=console, disable=not console.is_terminal) as progress:
      for row in progress.track(config.layers, description=f'for {target}'):
        layer = layers_lib.Layer(*row)
        results[layer] = _compiled(target, layer, dtypes)
        workdir.write_json(out / f'compiled-{target}.json', {
            **_environment(target, command), 'layers': {
                layer.name: _plain(found) for layer, found in results.items()}})
  finally:
    if results:
      _report(results, target, command, out, console)


def _compiled(target, layer, dtypes):
  """Summaries of a layer by kind, dtype and name."""
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


def _environment(target: str, command: str) -> dict[str, Any]:
  """What the programs depend on besides the config."""
  versions = {'python': platform.python_version()}
  for package in _PACKAGES[target]:
    try:
      versions[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      continue  # Of the plugins, there is one.
  return {'command': command, 'target': target, 'versions': versions}


def _plain(found: Any) -> Any:
  """Summaries as JSON has them."""
  if isinstance(found, Mapping):
    return {key: _plain(value) for key, value in found.items()}
  return {**dataclasses.asdict(found), **{
      name: [str(each) for each in getattr(found, name)]
      for name in ('calls', 'inserted')}}


def _report(results, target, command, out, console) -> None:
  """Prints the tables and writes them."""
  every = tables.all_tables(target, results)
  for table in reversed(every):  # The summary comes last: it is seen first.
    console.print(table.screen())
  versions = ', '.join(f'{name} {version}' for name, version in _environment(
      target, command)['versions'].items())
  facts = (f'Compiled for {_DEVICES[target]} on a machine without one, by '
           f'`{command}`; {versions}. Nothing here was run or timed.\n\n'
           f'{tables.LEGENDS[target]}')
  path = out / f'compiled-{target}.md'
  workdir.write_text(path, '\n\n'.join((
      f'# Compiled for {_DEVICES[target]}', facts,
      *(table.markdown() for table in every))) + '\n')
  console.print(f'{facts}\nResults: {path}', soft_wrap=True)


def main(argv: list[str], config: ml_collections.ConfigDict, target: str
         ) -> None:
  """Runs the command.

  Args:
    argv: of the command line.
    config: `configs/codegen.py`.
    target: one of `targets.NAMES`.
  """
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {shlex.join(argv[1:])}')
  try:
    run(config, target, rich.console.Console(markup=False, highlight=False),
        command=shlex.join(
            ['python', '-m', 'experiments.codegen', *sys.argv[1:]]))
  except (targets.MissingCompilerError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    sys.exit(130)


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file('config', 'configs/codegen.py')
  _TARGET = flags.DEFINE_enum(
      'target', 'h100', targets.NAMES, 'The device to compile for.')
  logging.set_verbosity(logging.WARNING)
  app.run(lambda argv: main(argv, _CONFIG.value, _TARGET.value))
