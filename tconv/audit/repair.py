"""Makes the upsamplers of a model clean, one after the other, if that helps."""

from collections.abc import Callable
import math
from typing import NamedTuple

import numpy as np

from tconv.audit import findings
from tconv.audit import model as model_lib


class Decision(NamedTuple):
  """What was decided for an upsampler.

  Attributes:
    node: its name.
    is_repaired: whether its parameters were replaced.
    before: rms of the final pattern on the worst flat field before, in 8-bit
      levels; None if the layer was not tried.
    after: the same with the new parameters.
    psnr: peak signal-to-noise ratio, in dB, of the output with the new
      parameters against the original model's, the least over inputs; infinite
      if they are equal.
    reason: one sentence.
  """
  node: str
  is_repaired: bool
  before: float | None
  after: float | None
  psnr: float | None
  reason: str


def repair(model: model_lib.Model, audit: findings.Audit, *,
           min_psnr: float = 40.,
           progress: Callable[[str], None] = lambda text: None
           ) -> tuple[model_lib.Model, list[Decision]]:
  """Replaces kernels by those with equal phases that change outputs least.

  A layer is repaired only if the pattern on flat fields falls, and the output
  for all inputs stays close to that of the original model.

  Args:
    model: the model; it does not change.
    audit: its audit.
    min_psnr: smallest peak signal-to-noise ratio, in dB, of the repaired
      model's output against the original's.
    progress: function that is told what is being done.

  Returns:
    The repaired model, and a decision for each upsampler with a kernel.
  """
  original = _outputs(model, audit)
  decisions = []
  for found in audit.layers:
    layer = found.layer
    if layer.weights is None:
      continue
    refused = _refusal(found, audit)
    if refused:
      decisions.append(Decision(layer.name, False, None, None, None, refused))
      continue
    progress(f'repairing {layer.name}')
    weights = findings.clean(found)
    assert weights is not None
    candidate = model.replaced({layer.name: weights})
    before, after = (_worst(one, audit) for one in (model, candidate))
    psnr = min(map(_psnr, original, _outputs(candidate, audit),
                   [audit.white] * len(original)), default=math.inf)
    if after >= before:
      reason = (f'Left as it is: the pattern would go from {before:.2g} to '
                f'{after:.2g} 8-bit levels.')
    elif psnr < min_psnr:
      reason = (f'Left as it is: the output would change to {psnr:.1f} dB PSNR '
                f'of the original, below {min_psnr:g} dB, for a pattern of '
                f'{after:.2g} in place of {before:.2g} 8-bit levels.')
    else:
      model = candidate
      reason = (f'Repaired: the pattern goes from {before:.2g} to {after:.2g} '
                f'8-bit levels, at {psnr:.1f} dB PSNR of the original output.')
    decisions.append(Decision(
        layer.name, model is candidate, before, after, psnr, reason))
  return model, decisions


def _refusal(found: findings.Layer, audit: findings.Audit) -> str:
  """Why a layer is not even tried; empty if it is."""
  layer = found.layer
  if layer.obstacle:
    return f'Left as it is: {layer.obstacle}.'
  fewest, most = findings.taps_per_phase(layer)
  if fewest == 0:
    return ('Left as it is: its kernel is smaller than its stride, so that '
            'some outputs get the bias only.')
  if most == 1:
    return ('Left as it is: with one tap for each phase, a clean kernel can '
            'only copy pixels (nearest neighbor). Average its result instead.')
  if found.period is None or audit.output is None:
    return ('Left as it is: its pattern was not found in an output, so that a '
            'repair cannot be judged.')
  if not any(one.kind == 'flat' for one in audit.probes):
    return 'Left as it is: the model takes no flat field to judge it by.'
  return ''


def _worst(model, audit: findings.Audit) -> float:
  """The pattern on the worst flat field, in 8-bit levels."""
  period = findings.common_period(audit.layers)
  return max(findings.pattern_levels(
      model.run(one.feeds).outputs[audit.output], period, audit.white)
             for one in audit.probes if one.kind == 'flat')


def _outputs(model, audit: findings.Audit) -> list[np.ndarray]:
  """The main output for each probe that is not a flat field."""
  if audit.output is None:
    return []
  return [model.run(one.feeds).outputs[audit.output]
          for one in audit.probes if one.kind != 'flat']


def _psnr(one: np.ndarray, other: np.ndarray, white: float) -> float:
  error = ((one.astype(np.float64) - other)**2).mean()
  return -10 * math.log10(error / white**2) if error else math.inf
