"""Costs of a layer besides its run time: compilation and memory."""

import time

import jax
import numpy as np

from experiments.timing import layers
from experiments.timing import through_jax

_REPEATS = 3


def first_calls(layer: layers.Layer, kind: str) -> dict[str, float]:
  """Measures the time to trace and compile a layer of tconv and of lax.

  JAX's caches are cleared before each measurement.

  Returns:
    Medians in milliseconds, by name.
  """
  names = 'tconv', 'lax'
  times = {name: [] for name in names}
  for _ in range(1 + _REPEATS):  # The first round is not counted.
    for name in names:
      function, shapes = through_jax.program(name, layer, kind)
      jax.clear_caches()
      start = time.perf_counter()
      jax.jit(function).lower(*shapes).compile()
      times[name].append(1e3 * (time.perf_counter() - start))
  return {name: float(np.median(t[1:])) for name, t in times.items()}


def temporary_bytes(layer: layers.Layer, kind: str) -> dict[str, int]:
  """Returns bytes of memory beyond arguments and results, by name."""
  found = {}
  for name in through_jax.NAMES:
    try:
      function, shapes = through_jax.program(name, layer, kind)
    except NotImplementedError:
      continue
    compiled = jax.jit(function).lower(*shapes).compile()
    found[name] = compiled.memory_analysis().temp_size_in_bytes  # pyrefly: ignore
  return found
