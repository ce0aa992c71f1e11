"""The time of a training step, with layers of tconv and with those of Flax."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import statistics
from typing import Any

from flax import nnx
import jax

from experiments.harness import results
from experiments.harness import stopwatch
import tconv

_LAYERS = {'tconv': tconv.nnx.ConvTranspose, 'flax': nnx.ConvTranspose}
_REPEATS = 9

Layer = Callable[..., nnx.Module]
Step = Callable[[Any, Any], Any]


def compare(build: Callable[[Layer], tuple[Step, Any, Any]]
            ) -> dict[str, float]:
  """Times the training step of a network with either kind of layer.

  Args:
    build: function from a class of transposed convolutions to a step, as
      `loop.train` takes it, and the state and the batch to call it with.

  Returns:
    'ms_per_step_tconv' and 'ms_per_step_flax': medians of steps that take
    turns, in milliseconds.
  """
  calls = {}
  for name, layer in _LAYERS.items():
    step, state, batch = build(layer)
    compiled = jax.jit(step).lower(state, batch).compile()
    calls[f'ms_per_step_{name}'] = (
        lambda compiled=compiled, state=state, batch=batch:
        jax.block_until_ready(compiled(state, batch)))
  return {name: statistics.median(times) for name, times in
          stopwatch.interleave(calls, _REPEATS).items()}


def tables(what: str, timings: Sequence[Mapping[str, Any]],
           key: Sequence[str]) -> list[results.Table]:
  """Shows the results of `compare`.

  Args:
    what: description of the step, to begin the caption with.
    timings: results of `compare`, with the columns of the key.
    key: columns that name the network.

  Returns:
    One table, or none if nothing was timed.
  """
  timings = [row for row in timings if 'ms_per_step_tconv' in row]
  return [results.Table(
      f'{what}, with the transposed convolutions of tconv.nnx and of flax.nnx: '
      'medians of steps that take turns, ms.',
      (*key, 'tconv', 'flax', 'flax / tconv'),
      [(*(str(row[name]) for name in key),
        f'{row["ms_per_step_tconv"]:.1f}', f'{row["ms_per_step_flax"]:.1f}',
        f'{row["ms_per_step_flax"] / row["ms_per_step_tconv"]:.2f}')
       for row in timings])] if timings else []
