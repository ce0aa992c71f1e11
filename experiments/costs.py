"""What a training step costs, with one layer or with another."""

from collections.abc import Callable
from collections.abc import Mapping
import statistics
from typing import Any

import jax

from experiments.timing import stopwatch

Builder = Callable[[], tuple[Callable[[Any, Any], Any], Any, Any]]


def compare(builders: Mapping[str, Builder], *,
            repeats: int = 9) -> dict[str, float]:
  """Times steps side by side, in turns.

  Args:
    builders: by name, functions that give a step as `training.train` takes it,
      and the state and the batch to call it with.
    repeats: turns.

  Returns:
    Medians in ms, by name.
  """
  calls = {}
  for name, build in builders.items():
    step, state, batch = build()
    compiled = jax.jit(step).lower(state, batch).compile()
    calls[name] = lambda compiled=compiled, state=state, batch=batch: (
        jax.block_until_ready(compiled(state, batch)))
  return {name: statistics.median(times) for name, times in
          stopwatch.interleave(calls, repeats).items()}
