"""The page of an audit, with the figures that the model gives."""

import numpy as np

from tconv.audit import findings
from tconv.audit import metrics
from tconv.audit import model as model_lib
from tconv.audit import outputs
from tconv.audit import page as page_lib
from tconv.audit import repair

_MAPS = 6  # Layers whose phase gains are drawn: those of strongest pattern.


def page(model: model_lib.Model, audit: findings.Audit) -> str:
  """Draws the figures of an audit, and renders its page.

  Args:
    model: the model.
    audit: its audit.

  Returns:
    HTML.

  Raises:
    AuditError: the model does not run.
  """
  repaired, decisions = repair.repair(model, audit)
  figures = _gains(audit)
  period = outputs.common_period(
      found.period for found in audit.layers)
  if audit.output is not None and period is not None:
    changed = repaired is not model
    figures += _flat(model, repaired if changed else None, audit, period)
    figures += _spectra(model, repaired if changed else None, audit, period)
  return page_lib.render(
      audit.report, figures, [(d.node, d.reason) for d in decisions])


def _gains(audit: findings.Audit) -> list[tuple[str, bytes]]:
  layers = [(found, found.layer.weights) for found in audit.layers]
  layers = [(found, weights) for found, weights in layers
            if weights is not None and found.means]
  layers.sort(key=lambda layer: -max(layer[0].measured))
  return [(
      f'{found.layer.name}: gain of each phase at the means of its inputs',
      page_lib.phase_gain_map(
          weights, np.mean(found.means, 0), found.layer.strides,
          kernel_dilation=found.layer.kernel_dilation,
          groups=found.layer.groups)) for found, weights in layers[:_MAPS]]


def _output(model, audit: findings.Audit, feeds) -> np.ndarray:
  return model.run(feeds).outputs[audit.output]


def _flat(model, repaired, audit, period) -> list[tuple[str, bytes]]:
  """The output for the flat field with the strongest pattern."""
  flats = [one for one in audit.probes if one.kind == 'flat']
  if not flats:
    return []
  levels = metrics.LEVELS / audit.white
  finals = [_output(model, audit, one.feeds) for one in flats]
  strength = [outputs.levels(x, period, audit.white) for x in finals]
  worst = int(np.argmax(strength))
  if not strength[worst]:
    return []
  # Its root mean square becomes an eighth of the range from black to white.
  gain = 32 / strength[worst]
  name = flats[worst].name
  figures = [(f'Output for the probe "{name}", amplified {gain:.3g} times',
              page_lib.flat_field(finals[worst][0] * levels, gain))]
  if repaired is not None:
    figures.append((
        f'The same after repair, amplified {gain:.3g} times',
        page_lib.flat_field(
            _output(repaired, audit, flats[worst].feeds)[0] * levels, gain)))
  return figures


def _spectra(model, repaired, audit, period) -> list[tuple[str, bytes]]:
  """Spectra of the first probe that is not a flat field."""
  for one in audit.probes:
    if one.kind == 'flat':
      continue
    after = _output(model, audit, one.feeds)[0]
    if any(n < 4 * p for n, p in zip(after.shape, period)):
      continue
    return [(
        f'Spectra for the probe "{one.name}"; circles: the frequencies of the '
        'pattern', page_lib.spectra(
            one.reference, after, None if repaired is None else
            _output(repaired, audit, one.feeds)[0], period=period))]
  return []
