"""Training steps of models in other libraries, before and after `accelerate`.

    python -m experiments.adoption --page=docs/accelerate.md
    python -m experiments.adoption --page=docs/accelerate.md --target=h100

The first command times the steps on this machine, in about ten minutes on two
cores. The second one compiles them for an H100, in a minute and without a GPU,
and reads from the programs what they ask of it. Its compilers are those that
`make codegen` installs into .venv-codegen. Models whose library is not
installed are skipped. In the page, only the command's table and the versions
below it are replaced.
"""

import collections
from collections.abc import Callable
import os
import time
from typing import Any
from typing import NamedTuple
from unittest import mock

from absl import app
from absl import flags
import jax
import numpy as np

from experiments import commands
from experiments.compiled import programs
from experiments.compiled import targets
from experiments.harness import stopwatch
from experiments.harness.results import Table
from experiments.timing import adopted
import tconv

_PAGE = flags.DEFINE_string(
    'page', None, 'Markdown page whose table is replaced.')
_REPEATS = flags.DEFINE_integer(
    'repeats', 9, 'Rounds in which both versions of a step take turns.')
_TARGET = flags.DEFINE_enum(
    'target', None, ['h100'], 'Device to compile for, instead of timing here.')
_CUDNN = ('convForward', 'convBackwardInput', 'convBackwardFilter')
_LIBRARIES = ('jax', 'flax', 'dm-haiku', 'equinox', 'keras')
# Target speedups: the geometric mean, and that of every model.
_LEAST, _SLOWEST = 3, .9


class Row(NamedTuple):
  """Measurements of a model.

  Attributes:
    name: name of the model.
    replaced: number of convolutions that `accelerate` replaces.
    left: number of convolutions with inserted zeros that it leaves.
    before: milliseconds of a step without `accelerate`.
    ratio: speedup by `accelerate`.
    difference: largest difference of a returned value, relative to the largest
      value of its array.
    tracing: time to trace the accelerated step, relative to the original.
  """
  name: str
  replaced: int
  left: int
  before: float
  ratio: stopwatch.Ratio
  difference: float
  tracing: float


def measure(name: str, build: Callable[[], adopted.Step],
            repeats: int) -> Row:
  """Times the steps of a model, with and without `tconv.accelerate`."""
  step, args = build()
  accelerated = tconv.accelerate(step)
  calls, outputs = {}, {}
  for key, function in (('before', step), ('after', accelerated)):
    compiled = jax.jit(function).lower(*args).compile()
    calls[key] = lambda compiled=compiled: jax.block_until_ready(
        compiled(*args))
  times = stopwatch.interleave(calls, repeats, check=outputs.__setitem__)
  ratio = stopwatch.ratio(times['before'], times['after'])
  found = tconv.explain(step, *args)
  return Row(name, sum(bool(e.form) for e in found), len(found.missed),
             stopwatch.median(times['before']), ratio,
             _difference(outputs['before'], outputs['after']),
             _tracing(accelerated, args) / _tracing(step, args))


def _difference(before: Any, after: Any) -> float:
  """Returns the largest difference, relative to its array's largest value."""
  pairs = zip(*(map(np.asarray, jax.tree.leaves(t)) for t in (before, after)))
  return max(float(abs(a - b).max() / max(abs(a).max(), 1e-30))
             for a, b in pairs)


def _tracing(function: Callable[..., Any], args: tuple[Any, ...]) -> float:
  """Returns the seconds that tracing takes when shared parts are cached."""
  times = []
  for _ in range(5):
    start = time.perf_counter()
    # JAX traces a new function object again.
    jax.make_jaxpr(lambda *args: function(*args))(*args)  # noqa: B023
    times.append(time.perf_counter() - start)
  return stopwatch.median(times)


def table(rows: list[Row]) -> str:
  """Formats rows in Markdown, with the versions used."""
  mean = stopwatch.geometric_mean(r.ratio.value for r in rows)
  lines = Table('', (
      'model', 'replaced', 'left with zeros', 'step before, ms',
      'times as fast (quartiles)', 'largest relative difference',
      'tracing, times as long'), [
          *((r.name, str(r.replaced), str(r.left), f'{r.before:.1f}',
             f'{r.ratio.value:.2f} ({r.ratio.low:.2f} to {r.ratio.high:.2f})',
             f'{r.difference:.0e}', f'{r.tracing:.2f}') for r in rows),
          ('geometric mean', None, None, None, f'{mean:.2f}', None, None)])
  return (f'{lines.markdown().lstrip()}\n\nMeasured with {_versions()} on '
          f'{jax.devices()[0].device_kind}, {os.cpu_count()} cores, float32.')


def compiled(name: str, build: Callable[[], adopted.Step], target: str
             ) -> list[tuple[str, ...]]:
  """Compiles a model's step with and without `accelerate`: a row for each."""
  step, args = build()
  shapes = jax.tree.map(
      lambda a: targets.placed(target, a.shape, a.dtype), args)
  rows: list[tuple[str, ...]] = []
  # `accelerate` chooses by the default backend, here a CPU.
  with mock.patch.object(jax, 'default_backend', lambda: 'gpu'):
    for what, function in (('as it is', step),
                           ('accelerated', tconv.accelerate(step))):
      found = programs.summarize(target, function, *shapes)
      kinds = collections.Counter(
          call.kind.replace('BiasActivation', '') for call in found.calls)
      rows.append((
          f'{name}, {what}', str(len(found.inserted)),
          *(str(kinds[kind]) for kind in (*_CUDNN, 'matmul')),
          f'{found.multiply_adds / 1e9:.2f}',
          f'{found.temporary_bytes / 1e6:.1f}'))
  return rows


def compiled_table(rows: list[tuple[str, ...]]) -> str:
  """Formats rows of `compiled` in Markdown, with the versions used."""
  lines = Table('', (
      'step', 'inserted zeros', 'forward', 'backward-input', 'backward-filter',
      'matmul', 'multiply-adds, 1e9', 'temporary memory, MB'), rows)
  return (f'{lines.markdown().lstrip()}\n\nCompiled with {_versions()}, '
          'float32.')


def _versions() -> str:
  return commands.listed(commands.versions(*_LIBRARIES))


def main(argv: list[str]) -> None:
  """Measures or compiles all models, prints a table, and writes it."""
  target = _TARGET.value
  with commands.started('adoption', argv):
    if target:
      targets.devices(target)  # Before JAX looks for devices.
      text = compiled_table(sum(_of_all(
          lambda name, build: compiled(name, build, target)), []))
      print(f'\n{text}\n')
    else:
      rows = _of_all(lambda name, build: measure(name, build, _REPEATS.value))
      text = table(rows)
      print(f'\n{text}\n')
      _print_targets([row.ratio.value for row in rows])
    if _PAGE.value:
      commands.replace_part(
          _PAGE.value, *(('| step ', 'Compiled with ') if target else
                         ('| model ', 'Measured with ')), text)


def _of_all(row: Callable[[str, Callable[[], adopted.Step]], Any]
            ) -> list[Any]:
  """Returns the rows of all models whose libraries are installed."""
  rows = []
  for name, build in adopted.MODELS.items():
    try:
      rows.append(row(name, build))
    except ModuleNotFoundError as error:
      print(f'{name}: skipped, {error.name} is not installed')
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
