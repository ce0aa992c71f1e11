"""Times functions that take turns in one process, and compares them by ratios.

Machines are shared and their clock rates change, so that a time alone means
little. The ratio of the times of two functions that took turns is reliable.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import math
import random
import time
from typing import Any
from typing import NamedTuple

import numpy as np

# Seconds. A call that takes longer is measured in two rounds only.
SLOW = .3
# A shorter call is run several times in a row, until this much has passed.
_SHORTEST = 5e-3
# Before it is timed, a call runs untimed for so long: by then the threads of
# the library that was timed before, which spin for a while, have gone to sleep,
# and its own are awake.
_SETTLING = 15e-3


class Ratio(NamedTuple):
  """A ratio of medians, with the quartiles of the ratios of the rounds."""
  value: float
  low: float
  high: float


def interleave(
    calls: Mapping[Any, Callable[[], Any]], repeats: int, *,
    check: Callable[[Any, Any], None] = lambda name, outputs: None,
    wait: Callable[[Any, Any], Any] = lambda name, outputs: None,
    hopeless: float = math.inf) -> dict[Any, list[float]]:
  """Times functions round by round, in a new random order in each round.

  Every function is run once before, because libraries set things up then.

  Args:
    calls: functions by name.
    repeats: number of rounds.
    check: function of the name and the outputs of a first run.
    wait: function of the name and the outputs of a run that returns when they
      are computed, for functions that return earlier.
    hopeless: ratio to the fastest first run above which a slow function is not
      run again; its first run is the result.

  Returns:
    Milliseconds of one run, by name, in the order of the rounds.
  """
  latest = {}
  for name, call in calls.items():
    start = time.perf_counter()
    outputs = call()
    wait(name, outputs)
    latest[name] = time.perf_counter() - start
    check(name, outputs)
  limit = max(hopeless * min(latest.values()), SLOW)
  times = {name: [1e3 * first] if first > limit else []
           for name, first in latest.items()}
  going = [name for name in calls if not times[name]]
  for i in range(repeats):
    for name in random.Random(i).sample(going, len(going)):
      if i >= 2 and latest[name] > SLOW:
        continue
      runs = math.ceil(_SHORTEST / max(latest[name], 1e-5))
      if latest[name] < SLOW:
        start = time.perf_counter()
        while time.perf_counter() < start + _SETTLING:
          wait(name, calls[name]())
      outputs, start = None, time.perf_counter()
      for _ in range(runs):
        outputs = calls[name]()
      wait(name, outputs)
      latest[name] = (time.perf_counter() - start) / runs
      times[name].append(1e3 * latest[name])
  return times


def ratio(over: Sequence[float], under: Sequence[float]) -> Ratio:
  """How many times as long one call took as another.

  Args:
    over: times, round by round.
    under: times, round by round; rounds that one of them lacks are left out of
      the quartiles.

  Returns:
    The ratio of the medians, with its spread.
  """
  low, high = np.quantile([a / b for a, b in zip(over, under)], (.25, .75))
  return Ratio(median(over) / median(under), float(low), float(high))


def median(times: Sequence[float]) -> float:
  """The median, which one disturbed round does not move."""
  return float(np.median(times))


def geometric_mean(values: Iterable[float]) -> float:
  """The geometric mean: ratios of 2 and 1/2 cancel out."""
  return math.exp(np.mean([math.log(value) for value in values]))
