"""What must hold of the library's speed, and whether it does.

Ratios are of medians of one run: how many times as long another took as tconv.
They are read from the results, which `measure.py` describes.
"""

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from experiments.harness import stopwatch

Entry = Mapping[str, Any]

# Of single layers; their tables mark what is not within.
LAX_EACH = .9  # Least time of lax, forward.
MATMUL_EACH = .7  # Least time of one matmul, where a layer is compute-bound.
FIRST_CALL_EACH = 1.5  # Most time to trace and compile, in those of lax.
PATCHES_EACH = 1.  # Most memory beyond the arrays, in buffers of all patches.
FLAT = 2.  # Most time for a unit of work, in that of the fastest of a series.
# Of the largest image: no such buffer is taken.
PATCHES_OF_LARGEST = .5
FORM = .9  # Least time of the fastest form, in that of auto.
# What the time of a series is taken for.
UNITS = {'stride': 'multiply_adds', 'size': 'output_pixels'}


class Target(NamedTuple):
  """One thing that must hold.

  Attributes:
    what: was measured.
    wanted: of it.
    measured: the number, and where.
    holds: whether it is as wanted; None where there is nothing to judge.
  """
  what: str
  wanted: str
  measured: str
  holds: bool | None


def fastest(entry: Entry, kind: str, start: str = '') -> str | None:
  """The peer with the smallest median on a layer.

  Args:
    entry: of the layer.
    kind: 'forward' or 'training'.
    start: of the names of those to look at.

  Returns:
    Its name, or None if there is none.
  """
  times = entry['milliseconds'][kind]
  peers = [name for name in times
           if name not in ('tconv', 'matmul') and name.startswith(start)]
  return min(peers, key=lambda name: stopwatch.median(times[name]),
             default=None)


def against(entry: Entry, kind: str,
            peer: str | None) -> stopwatch.Ratio | None:
  """The time of a peer over that of tconv; None where it has none."""
  times = entry['milliseconds'][kind]
  return stopwatch.ratio(times[peer], times['tconv']) if peer in times else None


def first_call(entry: Entry, kind: str) -> float:
  """The time that tconv takes to trace and compile, over that of lax."""
  times = entry['first_call_ms'][kind]
  return times['tconv'] / times['lax']


def patches(entry: Entry, peer: str = 'tconv') -> float:
  """Memory beyond the arrays of the forward pass, over that of all patches."""
  return entry['temporary_bytes']['forward'][peer] / entry['patches_bytes']


def relative(series: Mapping[str, Entry], unit: str,
             peer: str = 'tconv') -> dict[str, float]:
  """Time for a unit of work, over that of the fastest layer of tconv.

  Args:
    series: entries of layers by name.
    unit: 'multiply_adds' or 'output_pixels'.
    peer: whose time.

  Returns:
    The ratio by name.
  """
  each = lambda entry, name: stopwatch.median(
      entry['milliseconds']['forward'][name]) / entry[unit]
  least = min((each(entry, 'tconv') for entry in series.values()), default=1)
  return {name: each(entry, peer) / least for name, entry in series.items()}


def best_form(contraction: Entry) -> tuple[str, float]:
  """The form that is fastest at an operation, and its time over that of auto.

  Args:
    contraction: of an entry, by one operation.

  Returns:
    The form's name and the ratio.
  """
  medians = {name: stopwatch.median(times)
             for name, times in contraction['milliseconds'].items()}
  auto = medians.pop('auto')
  name = min(medians, key=medians.__getitem__)
  return name, medians[name] / auto


def judge(results: Mapping[str, Any]) -> list[Target]:
  """Holds results against every bar.

  Args:
    results: 'layers' and 'series' as far as they were measured.

  Returns:
    The bars, in the order of the design's points.
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
  """A bar for the geometric mean."""
  wanted = f'>= {least:g}, geometric mean'
  if not values:
    return Target(what, wanted, 'not measured', None)
  mean = stopwatch.geometric_mean(values.values())
  low, high = (f'{values[name]:.2f} at {name}' for name in (
      _lowest(values), _highest(values)))
  return Target(what, wanted, f'{mean:.2f} ({low}, {high})', mean >= least)


def each(what: str, sign: str, limit: float | None,
         values: Mapping[str, float]) -> Target:
  """Makes a bar for every single layer.

  Args:
    what: was measured.
    sign: '>=' or '<='.
    limit: for each layer, or None: then nothing is judged.
    values: by layer.

  Returns:
    The bar, with the worst of the values.
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
  """Whether a value is '>=' or '<=' a limit; always where there is none."""
  if limit is None:
    return True
  return value >= limit if sign == '>=' else value <= limit


def _lowest(values: Mapping[str, float]) -> str:
  return min(values, key=values.__getitem__)


def _highest(values: Mapping[str, float]) -> str:
  return max(values, key=values.__getitem__)
