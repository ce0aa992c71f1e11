"""Compares what kernels predict with what a model does on probes.

Three questions are asked of each upsampler. Could its kernel paint a grid:
`rho`, of the kernel alone, which says little, because training balances the
channels at the means that occur. Does it: the pattern in its result, predicted
from the kernel and measured. Does it matter: the part of the final pattern that
goes away when the layer alone is made clean.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import fractions
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv import calibrated
from tconv.audit import model as model_lib
from tconv.audit import patterns
from tconv.audit import probe as probe_lib

# In 8-bit levels, on the flat field where the layer's part is the strongest.
ERROR_LEVELS, WARNING_LEVELS = .5, .15
# How far lines stand out, above the reference, in most inputs.
WARNING_DB = 10
_CHANCE = .01  # p-value below which lines are not due to chance.
# How far lines fall, at least, when a layer that paints them is made clean. Of
# four layers with equal parts, each takes 1.2 dB away.
_FALL_DB = 1
_COULD = 1e-10  # A float32 kernel with equal phases has rho below this.
_AGREE = .02  # Relative difference of predicted and measured patterns.
_ROUNDING = 1e-5  # Patterns below this, relative to the result, are rounding.
_POSITIONS = 2**14  # Positions of each layer's input kept for calibration.
# Compiled once for each size and period.
_LEVEL = jax.jit(tconv.grid_level, static_argnums=1)
_TEST = jax.jit(tconv.grid_test, static_argnums=1)

VERDICTS = ('clean', 'info', 'warning', 'error')


@dataclasses.dataclass
class Layer:
  """What is found about an upsampler, over all probes.

  Attributes:
    layer: the upsampler.
    period: period of its pattern in the main output, or None.
    inputs: some of its inputs, for calibration, [n, *coarse, O] arrays.
    means: [O] means of its inputs, by probe.
    predicted: rms of the pattern in its result, by probe; units of the tensor.
    measured: the same, from the result itself.
    disagreement: largest relative difference of both, over the probes in which
      the pattern is above rounding; None if there is none.
    parts: its part of the final pattern, by flat field, in 8-bit levels.
    share: its share of the final pattern's power on the flat field where its
      part is the largest; None if it was not measured.
    lines: levels of its lines above the reference, in dB, and whether they are
      its own, by input: neither due to chance, nor there without its pattern.
  """
  layer: model_lib.Upsampler
  period: tuple[int, ...] | None = None
  inputs: list[np.ndarray] = dataclasses.field(default_factory=list)
  means: list[np.ndarray] = dataclasses.field(default_factory=list)
  predicted: list[float] = dataclasses.field(default_factory=list)
  measured: list[float] = dataclasses.field(default_factory=list)
  disagreement: float | None = None
  parts: list[float] = dataclasses.field(default_factory=list)
  share: float | None = None
  lines: list[tuple[float, bool]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Audit:
  """The result of an audit, with what a repair and a page need of it.

  Attributes:
    report: the report, as `tconv/audit/schema.json` describes it.
    layers: what was found about each upsampler.
    probes: the probes.
    output: name of the main output, or None if none has spatial axes.
    white: value of white in the main output.
  """
  report: dict[str, Any]
  layers: list[Layer]
  probes: Sequence[probe_lib.Probe]
  output: str | None
  white: float


def audit(model: model_lib.Model, probes: Sequence[probe_lib.Probe],
          progress: Callable[[str], None] = lambda text: None) -> Audit:
  """Audits a model.

  Args:
    model: the model.
    probes: what to run it on, from `probe.probes`.
    progress: function that is told what is being done.

  Returns:
    The audit.

  Raises:
    AuditError: the model does not run on a probe.
  """
  layers = [Layer(layer) for layer in model.upsamplers]
  by_name = {found.layer.name: found for found in layers}
  output, seen = None, []
  for one in probes:
    progress(f'running on {one.name}')
    run = model.run(one.feeds)
    if output is None and run.outputs:
      output = max(run.outputs, key=lambda n, run=run: run.outputs[n].size)
    final = run.outputs.get(output) if output else None
    seen.append(final)
    for name, before in run.before.items():
      _look(by_name[name], before, run.after[name], final, one.kind)
  white = _white([x for x, one in zip(seen, probes) if x is not None
                  and (one.kind != 'noise' or len(probes) == 1)])
  levels = 255 / white
  period = common_period(layers)

  flat = [i for i, one in enumerate(probes) if one.kind == 'flat']
  powers = {i: _power(seen[i], period) for i in flat}
  for found in layers:
    if not found.period:
      continue
    equal, without = clean(found), None
    if equal is not None:
      progress(f'knocking out {found.layer.name}')
      without = model.replaced({found.layer.name: equal})
      _knock_out(found, without, probes, powers, output, period, levels)
    for one, final in zip(probes, seen):
      if output and one.reference is not None and final is not None:
        found.lines += _lines(
            final, one.reference, found.period, white,
            without.run(one.feeds).outputs[output] if without else None)

  report = _report(
      model.name, layers, model.unknown,
      [_probe_row(one, final, period, white)
       for one, final in zip(probes, seen)], model.versions)
  return Audit(report, layers, probes, output, white)


def of_kernels(name: str, upsamplers: Sequence[model_lib.Upsampler],
               versions: Mapping[str, str]) -> dict[str, Any]:
  """The report on kernels without a model: only what they could do.

  Args:
    name: what to call the file that they are from.
    upsamplers: layers with weights, whose obstacle tells that there is no
      model.
    versions: version of each format and library that matters, by name.

  Returns:
    The report.
  """
  return _report(name, [Layer(each) for each in upsamplers], (), [], versions)


def clean(found: Layer) -> model_lib.Weights | None:
  """The parameters with equal phases that change a layer's result least.

  Args:
    found: what was found about the layer.

  Returns:
    The parameters, or None if they cannot be changed or equalized.
  """
  layer = found.layer
  if layer.weights is None or layer.obstacle or not found.inputs:
    return None
  if not taps_per_phase(layer)[0]:
    return None
  kernel, bias = layer.weights
  equal, mean = calibrated.equalize(
      jnp.asarray(kernel, layer.dtype), layer.strides, found.inputs,
      kernel_dilation=layer.kernel_dilation, feature_group_count=layer.groups,
      bias=bias)
  equal = tconv.equalize_phases(
      equal, layer.strides, kernel_dilation=layer.kernel_dilation)
  if bias is not None and mean is not None:
    bias = np.broadcast_to(mean, bias.shape).astype(bias.dtype)
  return model_lib.Weights(np.asarray(equal, kernel.dtype), bias)


def taps_per_phase(layer: model_lib.Upsampler) -> tuple[int, int]:
  """The fewest and the most taps of a phase of a layer with weights."""
  assert layer.weights is not None
  counts = tconv.overlap_count(
      layer.weights.kernel.shape[:-2], layer.strides,
      kernel_dilation=layer.kernel_dilation)
  return int(counts.min()), int(counts.max())


def pattern_levels(final: np.ndarray, period: Sequence[int] | None,
                   white: float) -> float:
  """The rms of the pattern in an output, in 8-bit levels.

  Args:
    final: [N, *size, C] output.
    period: one int for each axis, or None.
    white: value of white.

  Returns:
    The rms; 0 without a period.
  """
  return 255 / white * math.sqrt(_power(final, period))


def _power(final, period) -> float:
  if not _fits(final, period):
    return 0.
  return float((patterns.rms(patterns.measured(final, period))**2).mean())


def _fits(final, period) -> bool:
  """Whether an output has this many axes, and at least 4 periods on each."""
  return (final is not None and period is not None
          and final.ndim == len(period) + 2
          and all(n >= 4 * p for n, p in zip(final.shape[1:], period)))


def _look(found: Layer, before: np.ndarray, after: np.ndarray,
          final: np.ndarray | None, kind: str) -> None:
  """Adds what one run shows of a layer."""
  layer = found.layer
  size = after.shape[1:-1]
  if found.period is None and final is not None:
    found.period = _period(layer.strides, size, final.shape[1:-1])
  # Flat fields tell about means only. A calibration needs to know what varies.
  if kind != 'flat':
    found.inputs.append(_middle(before))
  if any(n < 4 * s for n, s in zip(size, layer.strides)):
    return
  found.means.append(
      before.mean(tuple(range(before.ndim - 1)), dtype=np.float64))
  there = patterns.measured(after, layer.strides)
  told = patterns.predicted(before, layer, size)
  found.measured.append(float(patterns.rms(there).max()))
  found.predicted.append(float(patterns.rms(told).max()))
  if found.measured[-1] > _ROUNDING * math.sqrt((after**2).mean()):
    # As vectors: two patterns can have the same rms and be different.
    difference = (float(np.linalg.norm(there - told) / np.linalg.norm(there)))
    found.disagreement = max(found.disagreement or 0, difference)


def _period(strides, size, final) -> tuple[int, ...] | None:
  """The period in the output of a pattern whose period is a layer's strides.

  Whatever follows the layer enlarges or shrinks it as it does the whole image,
  but for the borders.
  """
  if len(size) != len(final):
    return None
  period = []
  for s, n, out in zip(strides, size, final):
    ratio = fractions.Fraction(
        max(1, round(out / n))) if out >= n else fractions.Fraction(
            1, max(1, round(n / out)))
    if s > 1 and (s * ratio < 2 or (s * ratio).denominator > 1):
      return None
    period.append(int(s * ratio) if s > 1 else 1)
  return tuple(period) if max(period) > 1 else None


def common_period(layers: Sequence[Layer]) -> tuple[int, ...] | None:
  """The least common period of all layers in the output, or None."""
  periods = [found.period for found in layers if found.period]
  if not periods:
    return None
  return tuple(math.lcm(*axis) for axis in zip(*periods, strict=True))


def _middle(before: np.ndarray) -> np.ndarray:
  """The middle of an activation, at most about _POSITIONS large."""
  axes = before.ndim - 2
  side = round(_POSITIONS**(1 / axes))
  return before[(slice(0, 1), *(
      slice(max(0, (n - side) // 2), max(0, (n - side) // 2) + side)
      for n in before.shape[1:-1]))]


def _white(outputs) -> float:
  """The value of white: 1, 2 from -1 to 1, 255, or the range that occurs."""
  if not outputs:
    return 1.
  low = min(float(x.min()) for x in outputs)
  high = max(float(x.max()) for x in outputs)
  if -.5 <= low and high <= 1.5:
    return 1.
  if -1.5 <= low < -.5 and high <= 1.5:
    return 2.
  if -128 <= low and 128 < high <= 383:
    return 255.
  return (high - low) or 1.


def _knock_out(found, without, probes, powers, output, period, levels):
  """Measures the final pattern on flat fields without one layer's part."""
  best = 0.
  for i, power in powers.items():
    final = without.run(probes[i].feeds).outputs[output]
    gone = max(0., power - _power(final, period))
    found.parts.append(levels * math.sqrt(gone))
    if gone >= best and power > 0:
      best, found.share = gone, min(1., gone / power)


def _lines(final, reference, period, white, without=None
           ) -> list[tuple[float, bool]]:
  """How far an output's lines stand out above those of the input's.

  Args:
    final: [N, *size, C] output.
    reference: [*size, C] input.
    period: one int for each axis.
    white: value of white in the output.
    without: output of the model without the pattern of one layer, or None.

  Returns:
    The level in dB, and whether the lines are neither due to chance nor there
    without the layer's pattern; nothing if they cannot be measured.
  """
  if not _fits(final, period) or final.shape[-1] not in (1, 3):
    return []
  grey = lambda x: jnp.asarray(x[:1].mean(-1, keepdims=True), jnp.float32)
  level = lambda x: float(_LEVEL(x, period)[0, 0])
  image = grey(final / white)
  like = jax.image.resize(grey(reference[None]), image.shape, 'bicubic')
  above = level(image) - max(0., level(like))
  is_own = float(_TEST(image, period)[0, 0]) < _CHANCE and (
      without is None or level(image) - level(grey(without / white)) > _FALL_DB)
  return [(above, is_own)]


def _report(name, layers, unknown, probe_rows, versions) -> dict[str, Any]:
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


def _row(found: Layer) -> dict[str, Any]:
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
    row['taps_per_phase'] = list(taps_per_phase(layer))
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


def _verdict(found: Layer, row: Mapping[str, Any]) -> tuple[str, str]:
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


def _probe_row(one, final, period, white) -> dict[str, Any]:
  lines = []
  if one.reference is not None and period is not None:
    lines = _lines(final, one.reference, period, white)
  return {
      'name': one.name, 'kind': one.kind,
      'size': list(final.shape[1:-1]) if final is not None else [],
      'output_rms_levels': (
          pattern_levels(final, period, white) if _fits(final, period)
          else None),
      'line_db': lines[0][0] if lines else None}
