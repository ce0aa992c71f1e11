"""Targets for the library's speed, and whether they are met.

Ratios are of median times: the time of another implementation over that of
tconv. They are computed from the results that `measure.py` describes.
"""

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from experiments.harness import stopwatch

Entry = Mapping[str, Any]

# Targets of single layers; tables mark the values that miss them.
LAX_EACH = .9  # Least lax / tconv, forward.
MATMUL_EACH = .7  # Least matmul / tconv for compute-bound layers.
FIRST_CALL_EACH = 1.5  # Largest tconv / lax of the time to trace and compile.
PATCHES_EACH = 1.  # Largest memory beyond the arrays / that of all patches.
PATCHES_OF_LARGEST = .5  # The same for the largest image: no such buffer.
FLAT = 2.  # Largest time per unit of work / the least in a series.
FORM = .9  # Least time of the fastest form / that of auto.
# Unit of work for each series.
UNITS = {'stride': 'multiply_adds', 'size': 'output_pixels'}


class Target(NamedTuple):
  """A target, and whether it is met.

  Attributes:
    what: measured quantity.
    wanted: condition on the quantity.
    measured: value, and the layer that has it.
    holds: whether the condition holds; None if there is nothing to test.
  """
  what: str
  wanted: str
  measured: str
  holds: bool | None


def fastest(entry: Entry, kind: str, start: str = '') -> str | None:
  """Returns the fastest peer whose name begins with `start`, or None."""
  times = entry['milliseconds'][kind]
  peers = [name for name in times
           if name not in ('tconv', 'matmul') and name.startswith(start)]
  return min(peers, key=lambda name: stopwatch.median(times[name]),
             default=None)


def against(entry: Entry, kind: str,
            peer: str | None) -> stopwatch.Ratio | None:
  """Returns the time of a peer over that of tconv; None if it has none."""
  times = entry['milliseconds'][kind]
  return stopwatch.ratio(times[peer], times['tconv']) if peer in times else None


def first_call(entry: Entry, kind: str) -> float:
  """Returns the time to trace and compile tconv, over that of lax."""
  times = entry['first_call_ms'][kind]
  return times['tconv'] / times['lax']


def patches(entry: Entry, peer: str = 'tconv') -> float:
  """Returns memory beyond the arrays, forward, over that of all patches."""
  return entry['temporary_bytes']['forward'][peer] / entry['patches_bytes']


def relative(series: Mapping[str, Entry], unit: str,
             peer: str = 'tconv') -> dict[str, float]:
  """Returns times per unit of work, over the least of tconv in the series.

  Args:
    series: entries of layers by name.
    unit: 'multiply_adds' or 'output_pixels'.
    peer: implementation to show.

  Returns:
    The ratios by name of the layer.
  """
  each = lambda entry, name: stopwatch.median(
      entry['milliseconds']['forward'][name]) / entry[unit]
  least = min((each(entry, 'tconv') for entry in series.values()), default=1)
  return {name: each(entry, peer) / least for name, entry in series.items()}


def best_form(contraction: Entry) -> tuple[str, float]:
  """Returns the fastest form of an operation, and its time over auto's."""
  medians = {name: stopwatch.median(times)
             for name, times in contraction['milliseconds'].items()}
  auto = medians.pop('auto')
  name = min(medians, key=medians.__getitem__)
  return name, medians[name] / auto


def judge(results: Mapping[str, Any]) -> list[Target]:
  """Compares results with all targets.

  Args:
    results: 'layers' and 'series' measured so far.

  Returns:
    The targets in order.
  """
  layers, series = results['layers'], results['series']

  def ratios(kind, find):
    found = {name: against(entry, kind, find(entry))
             for name, entry in layers.items()}
    return {name: ratio.value for name, ratio in found.items() if ratio}

  lax = ratios('forward', lambda entry: 'lax')
  stride, size = series.get('stride', {}), series.get('size', {})
  return [
      _mean('1. forward: best peer / tconv', 1, ratios(
          'forward', lambda entry: fastest(entry, 'forward'))),
      _mean('1. forward: lax / tconv', 1.3, lax),
      each('1. forward: lax / tconv', '>=', LAX_EACH, lax),
      _mean('2. training: lax / tconv', 8, ratios(
          'training', lambda entry: 'lax')),
      _mean('2. training: best torch / tconv', 1, ratios(
          'training', lambda entry: fastest(entry, 'training', 'torch'))),
      each('3. forward, compute-bound: one matmul / tconv', '>=', MATMUL_EACH,
           ratios('forward', lambda entry: 'matmul')),
      each('4. forward: time per multiply-add / least of all strides', '<=',
           FLAT, relative(stride, UNITS['stride'])),
      each('4. forward: time per pixel / least of all sizes', '<=', FLAT,
           relative(size, UNITS['size'])),
      *(each(f'5. first call, {kind}: tconv / lax', '<=', limit, {
          name: first_call(entry, kind) for name, entry in layers.items()})
        for kind, limit in (('forward', FIRST_CALL_EACH), ('training', None))),
      each('5. memory, forward: beyond arrays / patches', '<=', PATCHES_EACH,
           {name: patches(entry) for name, entry in layers.items()}),
      each('5. memory, largest image: beyond arrays / patches', '<=',
           PATCHES_OF_LARGEST,
           {name: patches(size[name]) for name in list(size)[-1:]})]


def _mean(what: str, least: float, values: Mapping[str, float]) -> Target:
  """Makes a target for the geometric mean."""
  wanted = f'>= {least:g}, geometric mean'
  if not values:
    return Target(what, wanted, 'not measured', None)
  mean = stopwatch.geometric_mean(values.values())
  low, high = (f'{values[name]:.2f} at {name}' for name in (
      _lowest(values), _highest(values)))
  return Target(what, wanted, f'{mean:.2f} ({low}, {high})', mean >= least)


def each(what: str, sign: str, limit: float | None,
         values: Mapping[str, float]) -> Target:
  """Makes a target for every single layer.

  Args:
    what: measured quantity.
    sign: '>=' or '<='.
    limit: limit for each layer, or None to show the values only.
    values: values by name of the layer.

  Returns:
    The target, with the worst value.
  """
  wanted = 'shown' if limit is None else f'{sign} {limit:g}, every layer'
  if not values:
    return Target(what, wanted, 'not measured', None)
  worst = _lowest(values) if sign == '>=' else _highest(values)
  measured = f'{values[worst]:.2f} at {worst}'
  missed = [value for value in values.values()
            if not is_within(sign, limit, value)]
  if missed:
    measured += f'; {len(missed)} of {len(values)} miss it'
  return Target(what, wanted, measured, None if limit is None else not missed)


def is_within(sign: str, limit: float | None, value: float) -> bool:
  """Returns whether a value is '>=' or '<=' a limit; True without a limit."""
  if limit is None:
    return True
  return value >= limit if sign == '>=' else value <= limit


def _lowest(values: Mapping[str, float]) -> str:
  return min(values, key=values.__getitem__)


def _highest(values: Mapping[str, float]) -> str:
  return max(values, key=values.__getitem__)
