"""A layer as computed by one library, ready to be timed."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from experiments.harness import workdir

# A training step computes the output and both gradients.
KINDS = ('forward', 'training')
_OUTPUTS = ('output', 'gradient for the input', 'gradient for the kernel')
# Rounding errors of float32 sums of some ten thousand products in other orders,
# relative to the largest value. On a GPU, libraries may also round the factors
# to 10 bits (TF32).
_TOLERANCE = {'cpu': 1e-4, 'gpu': 4e-3}


@dataclasses.dataclass(frozen=True)
class Call:
  """A computation whose inputs are already in the memory of its library.

  Attributes:
    run: function without arguments that computes or enqueues the outputs.
    read: function from outputs to NumPy arrays: [N, *fine, C] and, in training,
      [N, *coarse, O] and [*K, C / groups, O].
    wait: function that returns outputs as soon as they are computed.
  """
  run: Callable[[], Any]
  read: Callable[[Any], Sequence[np.ndarray]]
  wait: Callable[[Any], Any] = lambda outputs: outputs


def check_agreement(name: str, found: Sequence[np.ndarray],
                    expected: Sequence[np.ndarray],
                    limit: float | None = None) -> None:
  """Compares the outputs of a peer with those of another one.

  Args:
    name: names of layer and peer, for the error.
    found: outputs of the peer.
    expected: outputs of the other peer.
    limit: largest allowed difference, relative to the largest value; by default
      the rounding error of float32 on this device.

  Raises:
    RunError: the outputs differ by more than the limit.
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
