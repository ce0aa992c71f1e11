"""Makes the upsamplers of a model clean, one after the other, if that helps.

A layer gets a kernel with equal phases. Where that is impossible or changes too
much, its result can be averaged over one period instead.
"""

from collections.abc import Callable
import math
from typing import NamedTuple

import numpy as np

from tconv.audit import evidence
from tconv.audit import findings
from tconv.audit import model as model_lib
from tconv.audit import outputs
from tconv.audit import verdicts


class Decision(NamedTuple):
  """What was decided for an upsampler.

  Attributes:
    node: its name.
    is_repaired: whether its parameters were replaced, or its result is
      filtered.
    before: rms of the final pattern on the worst flat field before the change,
      in 8-bit levels; None if no change of the kernel was tried.
    after: the same with the change.
    psnr: peak signal-to-noise ratio, in dB, of the output with the change
      against the original model's, the least over inputs; infinite if they are
      equal.
    reason: a sentence for each change that was tried.
  """
  node: str
  is_repaired: bool
  before: float | None
  after: float | None
  psnr: float | None
  reason: str


def repair(model: model_lib.Model, audit: findings.Audit, *,
           min_psnr: float = 40., with_filters: bool = False,
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
    with_filters: whether the results of layers that paint a pattern, and whose
      kernel stays as it is, are filtered by a moving average over one period.
    progress: function that is told what is being done.

  Returns:
    The repaired model, and a decision for each upsampler with a kernel.

  Raises:
    AuditError: filters cannot be inserted in models of this kind.
  """
  original = _outputs(model, audit)
  decisions = []
  for found, row in zip(audit.layers, audit.report['upsamplers']):
    layer = found.layer
    if layer.weights is None:
      continue
    unjudged = _unjudged(found, audit)
    refused = unjudged or _refusal(layer)
    if refused:
      decision = Decision(layer.name, False, None, None, None, refused)
    else:
      progress(f'repairing {layer.name}')
      weights = found.clean
      assert weights is not None
      candidate = model.replaced({layer.name: weights})
      decision = _judge(layer.name, model, candidate, audit, original, min_psnr)
      model = candidate if decision.is_repaired else model
    unmeasured = row['output_rms_levels'] is None and row['verdict'] == 'info'
    if (with_filters and not decision.is_repaired and not unjudged
        and (unmeasured or row['verdict'] in ('warning', 'error'))):
      progress(f'filtering {layer.name}')
      candidate = model.filtered([layer.name])
      least = verdicts.WARNING_LEVELS if unmeasured else 0
      try:
        judged = _judge(layer.name, model, candidate, audit, original,
                        min_psnr, 'Filtered', 'With a filter', least)
      except model_lib.AuditError as error:  # An average of integers, say.
        judged = decision._replace(reason=f'With a filter: {error}')
      if judged.is_repaired:
        model, decision = candidate, judged
      else:
        decision = decision._replace(
            reason=f'{decision.reason} {judged.reason}')
    decisions.append(decision)
  return model, decisions


def _judge(name, model, candidate, audit: findings.Audit, original,
           min_psnr: float, done: str = 'Repaired',
           left: str = 'Left as it is', least: float = 0) -> Decision:
  """Compares a model with a candidate that differs in one layer.

  Args:
    name: name of the layer.
    model: the model.
    candidate: the candidate.
    audit: the audit of the original model.
    original: the original model's outputs.
    min_psnr: smallest PSNR of the candidate's outputs against them.
    done: how the reason begins if the candidate is better.
    left: how it begins if it is not.
    least: how much of the pattern must go away, in 8-bit levels.

  Returns:
    The decision.
  """
  before, after = (_worst(one, audit) for one in (model, candidate))
  psnr = min(map(_psnr, original, _outputs(candidate, audit),
                 [audit.white] * len(original)), default=math.inf)
  gone = math.sqrt(max(0, before**2 - after**2))
  if gone <= least:
    reason = (f'{left}: the pattern would go from {before:.2g} to {after:.2g} '
              '8-bit levels' + f', by less than {least:g}' * (least > 0) + '.')
  elif psnr < min_psnr:
    reason = (f'{left}: the output would change to {psnr:.1f} dB PSNR of the '
              f'original, below {min_psnr:g} dB, for a pattern of {after:.2g} '
              f'in place of {before:.2g} 8-bit levels.')
  else:
    reason = (f'{done}: the pattern goes from {before:.2g} to {after:.2g} '
              f'8-bit levels, at {psnr:.1f} dB PSNR of the original output.')
    return Decision(name, True, before, after, psnr, reason)
  return Decision(name, False, before, after, psnr, reason)


def _unjudged(found: evidence.Layer, audit: findings.Audit) -> str:
  """Why no change of a layer can be judged; empty if it can."""
  if found.period is None or audit.output is None:
    return ('Left as it is: its pattern was not found in an output, so that a '
            'repair cannot be judged.')
  if not any(one.kind == 'flat' for one in audit.probes):
    return 'Left as it is: the model takes no flat field to judge it by.'
  return ''


def _refusal(layer: model_lib.Upsampler) -> str:
  """Why a kernel is not even tried; empty if it is."""
  if layer.obstacle:
    return f'Left as it is: {layer.obstacle}.'
  fewest, most = evidence.taps_per_phase(layer)
  if fewest == 0:
    return ('Left as it is: its kernel is smaller than its stride, so that '
            'some outputs get the bias only.')
  if most == 1:
    return ('Left as it is: with one tap for each phase, a clean kernel can '
            'only copy pixels (nearest neighbor). A filter can average its '
            'result instead (--filter).')
  return ''


def _worst(model, audit: findings.Audit) -> float:
  """The pattern on the worst flat field, in 8-bit levels."""
  period = outputs.common_period(
      found.period for found in audit.layers)
  return max(outputs.levels(
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
