"""What a training step costs, with layers of tconv and with those of Flax."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import statistics
from typing import Any

from flax import nnx
import jax

from experiments.report import page
from experiments.timing import stopwatch
import tconv

_LAYERS = {'tconv': tconv.nnx.ConvTranspose, 'flax': nnx.ConvTranspose}
_REPEATS = 9

Layer = Callable[..., nnx.Module]
Step = Callable[[Any, Any], Any]


def compare(build: Callable[[Layer], tuple[Step, Any, Any]]
            ) -> dict[str, float]:
  """Times the steps of a network of either kind, in turns.

  Args:
    build: from a class of transposed convolutions to a step as
      `training.train` takes it, and the state and the batch to call it with.

  Returns:
    'ms_per_step_tconv' and 'ms_per_step_flax', medians.
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
           names: Sequence[str]) -> list[page.Table]:
  """Shows what `compare` found.

  Args:
    what: was timed, to begin the caption with.
    timings: the names of a network, and its times.
    names: of the columns that say which network it is.

  Returns:
    A table, or none where nothing was timed.
  """
  return [page.Table(
      f'{what}, with the transposed convolutions of tconv.nnx and of flax.nnx: '
      'medians of steps in turns, ms.',
      (*names, 'tconv', 'flax', 'flax / tconv'),
      [(*(str(row[name]) for name in names),
        f'{row["ms_per_step_tconv"]:.1f}', f'{row["ms_per_step_flax"]:.1f}',
        f'{row["ms_per_step_flax"] / row["ms_per_step_tconv"]:.2f}')
       for row in timings])] if timings else []
