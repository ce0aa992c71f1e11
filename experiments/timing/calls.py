"""A call: a peer's own way to compute a layer, ready to be timed."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from experiments.harness import workdir

# A training step gives the output and the gradients for input and kernel.
KINDS = ('forward', 'training')
_OUTPUTS = ('output', 'gradient for the input', 'gradient for the kernel')
# What float32 sums of some ten thousand products of order 1 lose in another
# order, as a part of the largest value; on a GPU the factors themselves may be
# rounded to 10 bits (TF32), which each library decides for itself.
_TOLERANCE = {'cpu': 1e-4, 'gpu': 4e-3}


@dataclasses.dataclass(frozen=True)
class Call:
  """A computation whose inputs lie where and as its peer likes them.

  Attributes:
    run: without arguments; returns when all is computed, or enqueued.
    read: what `run` returns, as NumPy arrays: [N, *fine, C] and, in training,
      [N, *coarse, O] and [*K, C / groups, O].
    wait: given what `run` returns, gives it back when all is computed.
  """
  run: Callable[[], Any]
  read: Callable[[Any], Sequence[np.ndarray]]
  wait: Callable[[Any], Any] = lambda outputs: outputs


def check_agreement(name: str, found: Sequence[np.ndarray],
                    expected: Sequence[np.ndarray],
                    limit: float | None = None) -> None:
  """Refuses a peer that computes something else.

  Args:
    name: of layer and peer, for the error.
    found: its outputs.
    expected: those of another peer.
    limit: the greatest difference, as a part of the largest value; None for
      what float32 loses on this device.

  Raises:
    RunError: they differ by more than rounding.
  """
  if limit is None:
    limit = _TOLERANCE.get(jax.default_backend(), _TOLERANCE['gpu'])
  for output, (a, b) in zip(_OUTPUTS, zip(found, expected, strict=True)):
    if a.shape != b.shape:
      raise workdir.RunError(
          f'{name}: the {output} has shape {a.shape}, and must have {b.shape}.')
    difference = np.abs(a - b).max() / np.abs(b).max()
    if not difference <= limit:  # NaN is no agreement.
      raise workdir.RunError(
          f'{name}: the {output} is wrong by {difference:.1e} of its largest '
          f'value; rounding is at most {limit:.0e}.')
