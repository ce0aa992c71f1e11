"""Targets on a GPU, and the tables behind them.

A ratio is the median time of another program over that of tconv's function or
layer, whichever is slower.
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


def _least(kind: str, other: str, num_axes: int) -> float | None:
  """Returns the target of a ratio, or None if it has no target."""
  if kind == 'forward':
    return _FORWARD[other]
  return {'torch': _TRAINING_TORCH,
          'flax': _TRAINING_FLAX.get(num_axes)}.get(other)


def ratio(entry: targets.Entry, precision: str, kind: str, other: str
          ) -> float | None:
  """Returns the ratio of another program to tconv; None if a time is missing.

  Args:
    entry: entry of the layer, as returned by `enqueued.measure`.
    precision: one of `enqueued.PRECISIONS`.
    kind: one of `calls.KINDS`.
    other: name of the other program.

  Returns:
    The ratio.
  """
  times = entry['milliseconds'][precision][kind]
  if other not in times or not all(name in times for name in _OURS):
    return None
  return stopwatch.median(times[other]) / max(
      stopwatch.median(times[name]) for name in _OURS)


def all_tables(results: Mapping[str, Any]) -> list[Table]:
  """Returns all tables, that of the targets first.

  Args:
    results: 'layers', with results of `enqueued.measure` by name, at least one;
      and 'precisions', their names.

  Returns:
    The tables.
  """
  layers, precisions = results['layers'], results['precisions']
  return [
      tables.summary([
          target for precision in precisions for kind in calls.KINDS
          for target in _judge(layers, precision, kind)]),
      *(_times(layers, precision, kind)
        for precision in precisions for kind in calls.KINDS),
      _without_time(layers), tables.shapes(layers)]


def _judge(layers, precision, kind) -> list[targets.Target]:
  """Returns the targets of one kind; equal ratios share a target."""
  found = {}
  for name, entry in layers.items():
    num_axes = len(entry['coarse_size'])
    for other in _OTHERS:
      limit = _least(kind, other, num_axes)
      value = ratio(entry, precision, kind, other)
      if limit is not None and value is not None:
        axes = f' in {num_axes}-D' if limit in _TRAINING_FLAX.values() else ''
        what = f'{precision}, {kind}{axes}: {other} / tconv'
        found.setdefault((what, limit), {})[name] = value
  return [targets.each(what, '>=', limit, values)
          for (what, limit), values in found.items()]


def _times(layers, precision, kind) -> Table:
  """Shows medians, and ratios to tconv."""
  rows = []
  for name, entry in layers.items():
    times = entry['milliseconds'][precision][kind]
    row = [name, *(tables.number(1e3 * stopwatch.median(times[program]))
                   if program in times else None
                   for program in (*_OURS, *_OTHERS))]
    for other in _OTHERS:
      value = ratio(entry, precision, kind, other)
      row.append(None if value is None else tables.marked(
          f'{value:.2f}', targets.is_within('>=', _least(
              kind, other, len(entry['coarse_size'])), value)))
    rows.append(row)
  return Table(
      f'{precision}, {kind}: microseconds, and ratios to tconv\'s slower '
      'program. "!": misses its target.',
      ('layer', *_OURS, *_OTHERS, *(f'{other} / tconv' for other in _OTHERS)),
      rows)


def failures(entry: targets.Entry) -> dict[tuple[str, str], list[str]]:
  """Lists precisions and kinds without a time, by program and reason."""
  found = {}
  for precision, kinds in entry['failed'].items():
    for kind, failed in kinds.items():
      for program_and_why in failed.items():
        found.setdefault(program_and_why, []).append(f'{precision} {kind}')
  return found


def _without_time(layers) -> Table:
  return Table(
      'Programs without a time. "!": one of tconv.',
      ('layer', 'program', 'why', 'where'),
      [(layer, program, tables.marked(why, program not in _OURS),
        ', '.join(where)) for layer, entry in layers.items()
       for (program, why), where in failures(entry).items()])
