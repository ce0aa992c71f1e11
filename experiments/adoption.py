"""Training steps of models in other libraries, before and after `accelerate`.

    python -m experiments.adoption --page=docs/accelerate.md
    python -m experiments.adoption --page=docs/accelerate.md --target=h100

The first command times the steps here, in about ten minutes on two cores. The
second one compiles them for an H100, in a minute and without one, and reads
from the programs what they ask of it; it takes the compilers that `make
codegen` installs into .venv-codegen. Libraries that are not installed are named
and left out. In the page, the table of the command and the versions below it
are replaced; the text around them is written by hand.
"""

import collections
from collections.abc import Callable
from importlib import metadata
import os
import pathlib
import re
import sys
import time
from typing import Any
from typing import NamedTuple
from unittest import mock

from absl import app
from absl import flags
import jax
import numpy as np

from experiments.compiled import programs
from experiments.compiled import targets
from experiments.harness import stopwatch
from experiments.timing import adopted
import tconv

_PAGE = flags.DEFINE_string('page', None, 'Page whose table to replace.')
_REPEATS = flags.DEFINE_integer('repeats', 9, 'Rounds of steps, in turns.')
_TARGET = flags.DEFINE_enum(
    'target', None, ['h100'], 'Device to compile for, instead of timing here.')
_TABLE = {
    None: re.compile(r'^\| model .*?^Measured with .*?\n\n', re.M | re.S),
    'h100': re.compile(r'^\| step .*?^Compiled with .*?\n\n', re.M | re.S)}
_CUDNN = ('convForward', 'convBackwardInput', 'convBackwardFilter')
_LIBRARIES = ('jax', 'flax', 'dm-haiku', 'equinox', 'keras')
_LEAST, _SLOWEST = 3, .9  # Times as fast: on the whole, and each.


class Row(NamedTuple):
  """What was measured of a model."""
  name: str
  replaced: int
  left: int
  before: float  # Milliseconds of a step.
  ratio: stopwatch.Ratio
  difference: float  # Of the values returned, over the largest of its array.
  tracing: float  # Times as long as before.


def measure(name: str, build: Callable[[], adopted.Step],
            repeats: int) -> Row:
  """Times the steps of a model, with and without `tconv.accelerate`.

  Args:
    name: name of the model.
    build: makes the step and its arguments.
    repeats: rounds.

  Returns:
    What was measured.
  """
  step, args = build()
  accelerated = tconv.accelerate(step)
  programs, outputs = {}, {}
  for key, function in (('before', step), ('after', accelerated)):
    compiled = jax.jit(function).lower(*args).compile()
    programs[key] = lambda compiled=compiled: jax.block_until_ready(
        compiled(*args))
  times = stopwatch.interleave(programs, repeats, check=outputs.__setitem__)
  ratio = stopwatch.ratio(times['before'], times['after'])
  found = tconv.explain(step, *args)
  return Row(name, sum(bool(e.form) for e in found), len(found.missed),
             stopwatch.median(times['before']), ratio,
             _difference(outputs['before'], outputs['after']),
             _tracing(accelerated, args) / _tracing(step, args))


def _difference(before: Any, after: Any) -> float:
  """The largest difference, over the largest value of the same array."""
  pairs = zip(*(map(np.asarray, jax.tree.leaves(t)) for t in (before, after)))
  return max(float(abs(a - b).max() / max(abs(a).max(), 1e-30))
             for a, b in pairs)


def _tracing(function: Callable[..., Any], args: tuple[Any, ...]) -> float:
  """Seconds to trace a function, when all that it shares is traced."""
  times = []
  for _ in range(5):
    start = time.perf_counter()
    # A new function is traced anew.
    jax.make_jaxpr(lambda *args: function(*args))(*args)  # noqa: B023
    times.append(time.perf_counter() - start)
  return stopwatch.median(times)


def table(rows: list[Row]) -> str:
  """The rows in Markdown, and what they were measured with."""
  lines = [
      '| model | replaced | left with zeros | step before, ms | times as fast '
      '(quartiles) | largest relative difference | tracing, times as long |',
      '|---|---|---|---|---|---|---|']
  lines += [
      f'| {r.name} | {r.replaced} | {r.left} | {r.before:.1f} | '
      f'{r.ratio.value:.2f} ({r.ratio.low:.2f} to {r.ratio.high:.2f}) | '
      f'{r.difference:.0e} | {r.tracing:.2f} |' for r in rows]
  mean = stopwatch.geometric_mean(r.ratio.value for r in rows)
  lines.append(f'| geometric mean | | | | {mean:.2f} | | |')
  device = jax.devices()[0].device_kind
  return '\n'.join([
      *lines, '', f'Measured with {_versions()} on {device}, '
      f'{os.cpu_count()} cores, float32.', '', ''])


def compiled(name: str, build: Callable[[], adopted.Step], target: str
             ) -> list[str]:
  """Compiles the steps of a model, with and without `tconv.accelerate`.

  Args:
    name: name of the model.
    build: makes the step and its arguments.
    target: one of `targets.NAMES`.

  Returns:
    A row of the table for each, in Markdown.
  """
  step, args = build()
  shapes = jax.tree.map(
      lambda a: targets.placed(target, a.shape, a.dtype), args)
  rows = []
  # What is replaced depends on the devices that JAX has; let it have a GPU.
  with mock.patch.object(jax, 'default_backend', lambda: 'gpu'):
    for what, function in (('as it is', step),
                           ('accelerated', tconv.accelerate(step))):
      found = programs.summarize(target, function, *shapes)
      kinds = collections.Counter(
          call.kind.replace('BiasActivation', '') for call in found.calls)
      rows.append(
          f'| {name}, {what} | {len(found.inserted)} | '
          + ' | '.join(str(kinds[kind]) for kind in (*_CUDNN, 'matmul'))
          + f' | {found.multiply_adds / 1e9:.2f} | '
          f'{found.temporary_bytes / 1e6:.1f} |')
  return rows


def compiled_table(rows: list[list[str]]) -> str:
  """The rows of `compiled`, and what they were compiled with."""
  return '\n'.join([
      '| step | inserted zeros | forward | backward-input | backward-filter | '
      'matmul | multiply-adds, 1e9 | temporary memory, MB |',
      '|---|---|---|---|---|---|---|---|', *sum(rows, []), '',
      f'Compiled with {_versions()}, float32.', '', ''])


def _versions() -> str:
  return ', '.join(f'{library} {metadata.version(library)}'
                   for library in _LIBRARIES if _installed(library))


def _installed(library: str) -> bool:
  try:
    return bool(metadata.version(library))
  except metadata.PackageNotFoundError:
    return False


def main(_):
  """Measures or compiles all models, prints a table, and writes it."""
  target = _TARGET.value
  if target:
    try:
      targets.devices(target)  # Before JAX looks for devices.
    except targets.MissingCompilerError as error:
      sys.exit(f'error: {error}')
    text = compiled_table(
        _of_all(lambda name, build: compiled(name, build, target)))
    print(f'\n{text}')
  else:
    rows = _of_all(lambda name, build: measure(name, build, _REPEATS.value))
    text = table(rows)
    print(f'\n{text}')
    _print_targets([row.ratio.value for row in rows])
  if _PAGE.value:
    page = pathlib.Path(_PAGE.value)
    page.write_text(_TABLE[target].sub(
        lambda _: text, page.read_text(encoding='utf-8')), encoding='utf-8')


def _of_all(row: Callable[[str, Callable[[], adopted.Step]], Any]
            ) -> list[Any]:
  """The rows of all models whose libraries are installed."""
  rows = []
  for name, build in adopted.MODELS.items():
    try:
      rows.append(row(name, build))
    except ModuleNotFoundError as error:
      print(f'{name}: left out, {error.name} is not installed')
    else:
      print(f'{name}: done', flush=True)
  return rows


def _print_targets(ratios: list[float]) -> None:
  for what, holds in (
      (f'at least {_LEAST} times as fast in the geometric mean',
       stopwatch.geometric_mean(ratios) >= _LEAST),
      (f'none below {_SLOWEST}', min(ratios) >= _SLOWEST)):
    print(f'{"pass" if holds else "FAIL"}: {what}')


if __name__ == '__main__':
  app.run(main)
