"""The report of an audit, and its verdicts."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

import tconv
from tconv.audit import evidence
from tconv.audit import outputs
from tconv.audit import probe as probe_lib

# In 8-bit levels, on the flat field where the layer's part is the strongest.
ERROR_LEVELS, WARNING_LEVELS = .5, .15
# How far lines stand out, above the reference, in most inputs.
WARNING_DB = 10
_COULD = 1e-10  # A float32 kernel with equal phases has rho below this.
_AGREE = .02  # Relative difference of predicted and measured patterns.

VERDICTS = ('clean', 'info', 'warning', 'error')


def report_of(name, layers, unknown, probe_rows, versions) -> dict[str, Any]:
  """The report that `tconv/audit/schema.json` describes."""
  rows = [_row(found) for found in layers]
  return {
      'schema': 1, 'model': name,
      'verdict': max((row['verdict'] for row in rows), default='clean',
                     key=VERDICTS.index),
      'upsamplers': rows,
      'unknown': [entry._asdict() for entry in unknown],
      'probes': probe_rows,
      'versions': {'tconv': tconv.__version__, **versions}}


def probe_row(one: probe_lib.Probe, final: np.ndarray | None,
              period: tuple[int, ...] | None, white: float) -> dict[str, Any]:
  """The report of one probe, whose main output is `final`."""
  lines = []
  if one.reference is not None and period is not None:
    lines = outputs.lines(final, one.reference, period, white)
  return {
      'name': one.name, 'kind': one.kind,
      'size': list(final.shape[1:-1]) if final is not None else [],
      'output_rms_levels': (
          outputs.levels(final, period, white)
          if final is not None and outputs.fits(final, period)
          else None),
      'line_db': lines[0][0] if lines else None}


def _row(found: evidence.Layer) -> dict[str, Any]:
  """The report of one upsampler."""
  layer = found.layer
  row: dict[str, Any] = {
      'node': layer.name, 'op': layer.op,
      'kernel_size': list(layer.kernel_size), 'strides': list(layer.strides),
      'groups': layer.groups, 'taps_per_phase': None,
      'period': list(found.period) if found.period else None, 'rho': None,
      'rho_at_means': None,
      'predicted_rms': max(found.predicted, default=None),
      'measured_rms': max(found.measured, default=None),
      'share': found.share,
      'output_rms_levels': max(found.parts, default=None),
      'line_db': (float(np.median([db for db, _ in found.lines]))
                  if found.lines else None)}
  if layer.weights is not None:
    kernel = jnp.asarray(layer.weights.kernel, jnp.float32)
    options = {'kernel_dilation': layer.kernel_dilation}
    row['taps_per_phase'] = list(evidence.taps_per_phase(layer))
    row['rho'] = float(
        tconv.phase_nonuniformity(kernel, layer.strides, **options))
    if found.means:
      row['rho_at_means'] = float(tconv.phase_nonuniformity(
          kernel, layer.strides,
          jnp.asarray(np.mean(found.means, 0), jnp.float32),
          feature_group_count=layer.groups, **options))
  verdict, reason = _verdict(found, row)
  sure = (layer.weights is None or layer.is_exact and not layer.obstacle
          and (found.disagreement or 0) <= _AGREE)
  return row | {'verdict': verdict, 'confidence': 'high' if sure else 'low',
                'reason': reason}


def _verdict(found: evidence.Layer, row: Mapping[str, Any]) -> tuple[str, str]:
  """The verdict on one upsampler, and the reason in one sentence."""
  if found.layer.weights is None:
    return 'clean', 'An interpolation of its inputs paints no grid.'
  levels, share = row['output_rms_levels'], row['share']
  common = [is_own and db >= WARNING_DB for db, is_own in found.lines]
  stand_out = sum(common) > len(common) / 2
  if levels is not None and levels >= WARNING_LEVELS:
    return ('error' if levels >= ERROR_LEVELS else 'warning',
            f'On a flat field, its part of the final pattern is {levels:.2g} '
            f'8-bit levels ({share:.0%} of the power).')
  if stand_out:
    return ('warning', f'Its lines stand {row["line_db"]:.0f} dB above those '
            'of the input, in most inputs.')
  if row['rho'] <= _COULD:
    return 'clean', 'All phases of its kernel have equal gains.'
  if levels is None:
    why = (found.layer.obstacle or (
        'no flat field reaches it' if found.period else
        'its pattern does not reach the output as such'))
    return 'info', f'Its kernel could paint; not measured, because {why}.'
  return ('info', 'Its kernel could paint, but on flat fields its part is '
          f'{levels:.2g} 8-bit levels.')
