"""Training steps of models in other libraries, before and after `accelerate`.

    python -m experiments.adoption --page=docs/accelerate.md

Libraries that are not installed are named and left out. Takes about ten minutes
on two cores. In the page it replaces the table and the versions below; the text
around them is written by hand.
"""

from collections.abc import Callable
from importlib import metadata
import os
import pathlib
import re
import time
from typing import Any
from typing import NamedTuple

from absl import app
from absl import flags
import jax
import numpy as np

from experiments.timing import adopted
from experiments.timing import stopwatch
import tconv

_PAGE = flags.DEFINE_string('page', None, 'Page whose table to replace.')
_REPEATS = flags.DEFINE_integer('repeats', 9, 'Rounds of steps, in turns.')
_MEASURED = re.compile(r'^\| model .*?^Measured with .*?\n\n', re.M | re.S)
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
  versions = ', '.join(f'{library} {metadata.version(library)}'
                       for library in _LIBRARIES if _installed(library))
  device = jax.devices()[0].device_kind
  return '\n'.join([
      *lines, '', f'Measured with {versions} on {device}, '
      f'{os.cpu_count()} cores, float32.', '', ''])


def _installed(library: str) -> bool:
  try:
    return bool(metadata.version(library))
  except metadata.PackageNotFoundError:
    return False


def main(_):
  """Measures all models, prints the table, and writes it to the page."""
  rows = []
  for name, build in adopted.MODELS.items():
    try:
      rows.append(measure(name, build, _REPEATS.value))
    except ModuleNotFoundError as error:
      print(f'{name}: left out, {error.name} is not installed')
      continue
    print(f'{name}: {rows[-1].ratio.value:.2f} times as fast', flush=True)
  text = table(rows)
  print(f'\n{text}')
  ratios = [row.ratio.value for row in rows]
  for what, holds in (
      (f'at least {_LEAST} times as fast in the geometric mean',
       stopwatch.geometric_mean(ratios) >= _LEAST),
      (f'none below {_SLOWEST}', min(ratios) >= _SLOWEST)):
    print(f'{"pass" if holds else "FAIL"}: {what}')
  if _PAGE.value:
    page = pathlib.Path(_PAGE.value)
    page.write_text(_MEASURED.sub(
        lambda _: text, page.read_text(encoding='utf-8')), encoding='utf-8')


if __name__ == '__main__':
  app.run(main)
