"""Times layers on a GPU, where launching a layer takes longer than running it.

Many runs are enqueued at once and waited for together, so that the time of the
device is measured and not that of the launch.
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
Steps = Callable[..., calls.Call]  # Such as `through_torch.steps`.


class Precision(NamedTuple):
  """A precision to compute in.

  Attributes:
    dtype: dtype of all arrays.
    of_products: value of `jax.default_matmul_precision`.
    limit: largest allowed difference between two programs, relative to the
      largest value.
  """
  dtype: str
  of_products: str
  limit: float


PRECISIONS = {
    # Some algorithms of cuDNN transform the arrays and lose a digit.
    'float32': Precision('float32', 'highest', 1e-3),
    'TF32': Precision('float32', 'default', 4e-3),  # Factors have 10 bits.
    # Factors and results have 8 bits.
    'bfloat16': Precision('bfloat16', 'default', 2e-2),
}


def torch_steps() -> tuple[Steps | None, str | None]:
  """Returns PyTorch's `Steps`, or None and the reason why there are none."""
  try:
    from experiments.timing import through_torch
    through_torch.device()
  except ImportError as error:
    return None, str(error)
  return through_torch.steps, None


def measure(layer: layers.Layer, precisions: Sequence[str], repeats: int,
            steps: int, torch: Steps | None) -> dict[str, Any]:
  """Measures one layer.

  A program that fails, or whose values differ from those of lax, is not timed.

  Args:
    layer: layer to measure.
    precisions: names from `PRECISIONS`.
    repeats: number of rounds.
    steps: number of runs of the layer in one program.
    torch: first result of `torch_steps`.

  Returns:
    Facts of the layer; and by precision, kind and program, 'milliseconds' of
    one run in each round, and the reason why a program 'failed'.
  """
  arrays = layer.arrays()
  entry = {**layer.facts(), 'milliseconds': {}, 'failed': {}}
  for name in precisions:
    times, failed = {}, {}
    for kind in calls.KINDS:
      times[kind], failed[kind] = _measured(
          layer, arrays, kind, PRECISIONS[name], repeats, steps, torch)
    entry['milliseconds'][name], entry['failed'][name] = times, failed
  return entry


def _measured(layer, arrays, kind, precision, repeats, steps, torch):
  """Returns times by program, and reasons why others have none."""
  built, failed = {}, {}
  lowered, compiled = {}, {}
  options = layer, arrays, kind, precision.dtype, steps
  with jax.default_matmul_precision(precision.of_products):
    for name in JAX_NAMES:
      with _noted(failed, name):
        lowered[name] = through_jax.lowered_steps(name, *options)
  # Compilation takes most of the time, so each program has a thread for it.
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
      expected = expected or found  # The first are those of lax.
      calls.check_agreement(name, found, expected, precision.limit)
  runs = {name: call.run for name, call in built.items() if name not in failed}
  times = stopwatch.interleave(
      runs, repeats, wait=lambda name, outputs: built[name].wait(outputs)
      ) if runs else {}
  return {name: [each / steps for each in rounds]
          for name, rounds in times.items()}, failed


@contextlib.contextmanager
def _noted(failed: dict[str, str], name: str) -> Iterator[None]:
  """Records the reason if a program fails, without raising."""
  try:
    yield
  except Exception as error:  # Compilers and drivers may raise anything.
    what = str(error).partition('\n')[0]
    known = isinstance(error, (NotImplementedError, workdir.RunError))
    failed[name] = what if known else f'{type(error).__name__}: {what}'
