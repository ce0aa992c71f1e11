"""What must hold of a compiled layer, and what does not."""

from collections.abc import Mapping

from experiments.compiled import programs
from experiments.timing import layers

DTYPES = {'float32': 'f32', 'bfloat16': 'bf16', 'float16': 'f16'}
# Convolutions of a layer without groups and dilation; a training step has all.
_FORWARD = ('convBackwardInput',)
_TRAINING = ('convBackwardFilter', 'convBackwardInput', 'convForward')
WORK = 1.2  # Times the useful multiply-adds.
FLOPS, BYTES = 1.05, 1.1  # On a TPU, times those of lax.


def useful(layer: layers.Layer, kind: str) -> int:
  """Multiply-adds that a layer cannot do without.

  Args:
    layer: to compute.
    kind: 'forward', or 'training' for the output and both gradients.

  Returns:
    The number.
  """
  return layer.multiply_adds * {'forward': 1, 'training': 3}[kind]


def is_plain(layer: layers.Layer) -> bool:
  """Whether cuDNN has a call for each of the three contractions."""
  return layer.groups == layer.dilation == 1


def on_gpu(layer: layers.Layer, kind: str, dtype: str,
           summary: programs.Summary,
           peer: programs.Summary | None = None) -> tuple[str, ...]:
  """Judges a program for a GPU.

  Args:
    layer: that it computes.
    kind: 'forward' or 'training'.
    dtype: of its arrays.
    summary: of the program.
    peer: what Flax's or lax's program asks for, which bounds the memory.

  Returns:
    What does not hold, none of them if all is as it must be: 'zeros' are
    inserted into an image; arrays are of another 'dtype' than the layer's where
    they are convolved; the 'work' is more than `WORK` times the useful; the
    'calls' are not the three of cuDNN; the 'memory' is more than the peer's,
    where cuDNN has no call.
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
  """Compares a program for a TPU with that of lax.

  Args:
    summary: of the program.
    lax: of that of lax.

  Returns:
    Times the 'flops' and the 'bytes' of lax.
  """
  return {'flops': summary.flops / lax.flops,
          'bytes': summary.bytes_accessed / lax.bytes_accessed}


def _has_the_calls(layer: layers.Layer, kind: str, summary: programs.Summary
                   ) -> bool:
  found = tuple(call.kind for call in summary.calls)
  wanted = _FORWARD if kind == 'forward' else _TRAINING
  if layer.stride > 1:
    return found == wanted
  # A transposed convolution of stride 1 is an ordinary one as well.
  forward = [call != 'convBackwardFilter' for call in found]
  return sorted(forward) == sorted(call != 'convBackwardFilter'
                                   for call in wanted)
