"""What must hold on a GPU, and the tables behind it.

A ratio is the median time of another program over that of tconv: of its
function or its layer, whichever took longer.
"""

from collections.abc import Mapping
from typing import Any

from experiments.harness import stopwatch
from experiments.harness.results import Table
from experiments.timing import calls
from experiments.timing import tables
from experiments.timing import targets

_OURS = 'tconv', 'tconv.nnx'
_OTHERS = 'flax', 'lax', 'torch'
_FORWARD = {'flax': .95, 'lax': .95, 'torch': .9}
_TRAINING_TORCH = .9
_TRAINING_FLAX = {2: 2, 3: 10}  # By the number of spatial axes.


def least(kind: str, other: str, num_axes: int) -> float | None:
  """The ratio that must be reached.

  Args:
    kind: one of `calls.KINDS`.
    other: the program that is compared with.
    num_axes: spatial axes of the layer.

  Returns:
    The least ratio, or None where it is only shown.
  """
  if kind == 'forward':
    return _FORWARD[other]
  return {'torch': _TRAINING_TORCH,
          'flax': _TRAINING_FLAX.get(num_axes)}.get(other)


def ratio(entry: targets.Entry, precision: str, kind: str, other: str
          ) -> float | None:
  """The time of another program over that of tconv's slower one.

  Args:
    entry: of the layer.
    precision: that both compute in.
    kind: one of `calls.KINDS`.
    other: name of the other program.

  Returns:
    The ratio, or None where a time is missing.
  """
  times = entry['milliseconds'][precision][kind]
  if other not in times or not all(name in times for name in _OURS):
    return None
  return stopwatch.median(times[other]) / max(
      stopwatch.median(times[name]) for name in _OURS)


def all_tables(results: Mapping[str, Any]) -> list[Table]:
  """Every table, that of the targets first.

  Args:
    results: 'layers', entries of `enqueued.measure` by name, at least one; and
      'precisions', their names.

  Returns:
    The tables of what was measured.
  """
  layers, precisions = results['layers'], results['precisions']
  return [
      tables.summary([bar for precision in precisions for kind in calls.KINDS
                      for bar in _judge(layers, precision, kind)]),
      *(_times(layers, precision, kind)
        for precision in precisions for kind in calls.KINDS),
      _without_time(layers), tables.shapes(layers)]


def _judge(layers, precision, kind) -> list[targets.Target]:
  """The bars of one kind: those with the same least ratio are one."""
  found = {}
  for name, entry in layers.items():
    num_axes = len(entry['coarse_size'])
    for other in _OTHERS:
      limit = least(kind, other, num_axes)
      value = ratio(entry, precision, kind, other)
      if limit is not None and value is not None:
        axes = f' in {num_axes}-D' if limit in _TRAINING_FLAX.values() else ''
        what = f'{precision}, {kind}{axes}: {other} / tconv'
        found.setdefault((what, limit), {})[name] = value
  return [targets.each(what, '>=', limit, values)
          for (what, limit), values in found.items()]


def _times(layers, precision, kind) -> Table:
  """Medians, and ratios to tconv."""
  rows = []
  for name, entry in layers.items():
    times = entry['milliseconds'][precision][kind]
    row = [name, *(tables.number(1e3 * stopwatch.median(times[program]))
                   if program in times else None
                   for program in (*_OURS, *_OTHERS))]
    for other in _OTHERS:
      value = ratio(entry, precision, kind, other)
      row.append(None if value is None else tables.marked(
          f'{value:.2f}', targets.is_within('>=', least(
              kind, other, len(entry['coarse_size'])), value)))
    rows.append(row)
  return Table(
      f'{precision}, {kind}: microseconds, and times over that of tconv\'s '
      'slower program. "!": below its bar.',
      ('layer', *_OURS, *_OTHERS, *(f'{other} / tconv' for other in _OTHERS)),
      rows)


def failures(entry: targets.Entry) -> dict[tuple[str, str], list[str]]:
  """Says which programs have no time.

  Args:
    entry: of a layer.

  Returns:
    By program and reason, the precisions and kinds.
  """
  found = {}
  for precision, kinds in entry['failed'].items():
    for kind, failed in kinds.items():
      for program_and_why in failed.items():
        found.setdefault(program_and_why, []).append(f'{precision} {kind}')
  return found


def _without_time(layers) -> Table:
  return Table(
      'Programs without a time. "!": of tconv.',
      ('layer', 'program', 'why', 'where'),
      [(layer, program, tables.marked(why, program not in _OURS),
        ', '.join(where)) for layer, entry in layers.items()
       for (program, why), where in failures(entry).items()])
