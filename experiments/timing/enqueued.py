"""Times of a layer on a GPU, where launching it takes longer than the layer.

Runs of a layer are enqueued, many at once, and waited for together, so that the
device is timed and not the launch.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
import contextlib
from typing import Any
from typing import NamedTuple

import jax

from experiments.harness import stopwatch
from experiments.harness import workdir
from experiments.timing import calls
from experiments.timing import layers
from experiments.timing import through_jax

JAX_NAMES = 'lax', 'tconv', 'tconv.nnx', 'flax'
# As `through_torch.steps`.
Steps = Callable[..., calls.Call]


class Precision(NamedTuple):
  """A way to compute.

  Attributes:
    dtype: of all arrays.
    of_products: JAX's name for it, of `jax.default_matmul_precision`.
    limit: the greatest difference of two programs that both round as they may,
      as a part of the largest value.
  """
  dtype: str
  of_products: str
  limit: float


PRECISIONS = {
    # Some algorithms of cuDNN transform the arrays, and lose a digit.
    'float32': Precision('float32', 'highest', 1e-3),
    # Factors of 10 bits.
    'TF32': Precision('float32', 'default', 4e-3),
    # Factors and results of 8 bits.
    'bfloat16': Precision('bfloat16', 'default', 2e-2),
}


def torch_steps() -> tuple[Steps | None, str | None]:
  """Looks for PyTorch: its calls, or why there are none."""
  try:
    from experiments.timing import through_torch
    through_torch.device()
  except ImportError as error:
    return None, str(error)
  return through_torch.steps, None


def measure(layer: layers.Layer, precisions: Sequence[str], repeats: int,
            steps: int, torch: Steps | None,
            say: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
  """Measures one layer.

  A program that fails, or whose values are not those of lax, gets no time; the
  others are timed all the same.

  Args:
    layer: to measure.
    precisions: names from `PRECISIONS`.
    repeats: rounds.
    steps: runs of the layer in one program.
    torch: as `torch_steps` gives it.
    say: is told what is being measured.

  Returns:
    Facts of the layer; by precision, kind and program, 'milliseconds' of one
    run, round by round, and the reason why a program 'failed'.
  """
  arrays = layer.arrays()
  entry = {**layer.facts(), 'milliseconds': {}, 'failed': {}}
  for name in precisions:
    times, failed = {}, {}
    for kind in calls.KINDS:
      say(f'{name}, {kind}')
      times[kind], failed[kind] = _measured(
          layer, arrays, kind, PRECISIONS[name], repeats, steps, torch)
    entry['milliseconds'][name], entry['failed'][name] = times, failed
  return entry


def _measured(layer, arrays, kind, precision, repeats, steps, torch):
  """Times of all programs by name, and why others have none."""
  built, failed = {}, {}
  lowered, compiled = {}, {}
  options = layer, arrays, kind, precision.dtype, steps
  with jax.default_matmul_precision(precision.of_products):
    for name in JAX_NAMES:
      with _noted(failed, name):
        lowered[name] = through_jax.lowered_steps(name, *options)
  # Compilation takes the most time; here each program has a thread.
  with futures.ThreadPoolExecutor() as pool:
    for name, (program, _) in lowered.items():
      compiled[name] = pool.submit(program.compile)
  for name, (_, call_of) in lowered.items():
    with _noted(failed, name):
      built[name] = call_of(compiled[name].result())
  if torch:
    with _noted(failed, 'torch'):
      built['torch'] = torch(
          *options, tf32=precision.of_products != 'highest')
  expected = None
  for name, call in list(built.items()):
    with _noted(failed, name):
      found = call.read(call.wait(call.run()))
      expected = expected or found  # Of lax, which is the first.
      calls.check_agreement(name, found, expected, precision.limit)
  runs = {name: call.run for name, call in built.items() if name not in failed}
  times = stopwatch.interleave(
      runs, repeats, wait=lambda name, outputs: built[name].wait(outputs)
      ) if runs else {}
  return {name: [each / steps for each in rounds]
          for name, rounds in times.items()}, failed


@contextlib.contextmanager
def _noted(failed: dict[str, str], name: str) -> Iterator[None]:
  """Writes down why a program fails, and goes on."""
  try:
    yield
  except Exception as error:  # Whatever a compiler or a driver may raise.
    what = str(error).partition('\n')[0]
    known = isinstance(error, (NotImplementedError, workdir.RunError))
    failed[name] = what if known else f'{type(error).__name__}: {what}'
