"""Limits for compiled layers, and the limits that a program exceeds."""

from collections.abc import Mapping

from experiments.compiled import programs
from experiments.timing import layers

DTYPES = {'float32': 'f32', 'bfloat16': 'bf16', 'float16': 'f16'}
# cuDNN's calls for a layer without groups and dilation.
_FORWARD = ('convBackwardInput',)
_TRAINING = ('convBackwardFilter', 'convBackwardInput', 'convForward')
WORK = 1.2  # Multiply-adds relative to the useful ones.
FLOPS, BYTES = 1.05, 1.1  # On a TPU, relative to lax.


def useful(layer: layers.Layer, kind: str) -> int:
  """Counts the multiply-adds without inserted zeros; training has thrice."""
  return layer.multiply_adds * {'forward': 1, 'training': 3}[kind]


def is_plain(layer: layers.Layer) -> bool:
  """Returns whether cuDNN has a call for each of the three operations."""
  return layer.groups == layer.dilation == 1


def on_gpu(layer: layers.Layer, kind: str, dtype: str,
           summary: programs.Summary,
           peer: programs.Summary | None = None) -> tuple[str, ...]:
  """Lists the faults of a program for a GPU.

  Args:
    layer: layer that the program computes.
    kind: 'forward' or 'training'.
    dtype: dtype of the layer's arrays.
    summary: summary of the program.
    peer: summary of the program of Flax or lax, whose memory is the limit.

  Returns:
    The faults: 'zeros' if any are inserted into an image; 'dtype' if arrays are
    convolved in another dtype; 'work' for more than `WORK` times the useful
    multiply-adds; 'calls' if they are not those of cuDNN; 'memory', where cuDNN
    has no call, for more than that of the peer.
  """
  found = []
  if summary.inserted:
    found.append('zeros')
  if any(operand.dtype != DTYPES[dtype]
         for call in summary.calls for operand in call.operands):
    found.append('dtype')
  if summary.multiply_adds > WORK * useful(layer, kind):
    found.append('work')
  if is_plain(layer):
    if not _has_the_calls(layer, kind, summary):
      found.append('calls')
  elif peer and summary.temporary_bytes > peer.temporary_bytes:
    found.append('memory')
  return tuple(found)


def on_tpu(summary: programs.Summary, lax: programs.Summary
           ) -> Mapping[str, float]:
  """Returns 'flops' and 'bytes' of a program for a TPU, relative to lax."""
  return {'flops': summary.flops / lax.flops,
          'bytes': summary.bytes_accessed / lax.bytes_accessed}


def _has_the_calls(layer: layers.Layer, kind: str, summary: programs.Summary
                   ) -> bool:
  found = tuple(call.kind for call in summary.calls)
  wanted = _FORWARD if kind == 'forward' else _TRAINING
  if layer.stride > 1:
    return found == wanted
  # With stride 1, a transposed convolution is also an ordinary one.
  forward = [call != 'convBackwardFilter' for call in found]
  return sorted(forward) == sorted(call != 'convBackwardFilter'
                                   for call in wanted)
