"""What the runs of a model show of each of its upsamplers."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np

import tconv
from tconv import calibrated
from tconv.audit import model as model_lib
from tconv.audit import outputs
from tconv.audit import patterns

_ROUNDING = 1e-5  # Patterns below this, relative to the result, are rounding.
_POSITIONS = 2**14  # Positions of each layer's input kept for calibration.


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

  @functools.cached_property
  def clean(self) -> model_lib.Weights | None:
    """The parameters with equal phases that change its result least.

    None if they cannot be changed or equalized. Found once, after all runs.
    """
    layer = self.layer
    if layer.weights is None or layer.obstacle or not self.inputs:
      return None
    if not taps_per_phase(layer)[0]:
      return None
    kernel, bias = layer.weights
    equal, mean = calibrated.equalize(
        jnp.asarray(kernel, layer.dtype), layer.strides, self.inputs,
        kernel_dilation=layer.kernel_dilation, feature_group_count=layer.groups,
        bias=bias)
    equal = tconv.equalize_phases(
        equal, layer.strides, kernel_dilation=layer.kernel_dilation)
    if bias is not None and mean is not None:
      bias = np.broadcast_to(mean, bias.shape).astype(bias.dtype)
    return model_lib.Weights(np.asarray(equal, kernel.dtype), bias)


def look(found: Layer, before: np.ndarray, after: np.ndarray,
          final: np.ndarray | None, kind: str) -> None:
  """Adds what one run shows of a layer."""
  layer = found.layer
  size = after.shape[1:-1]
  if found.period is None and final is not None:
    found.period = outputs.period_of(layer.strides, size, final.shape[1:-1])
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


def taps_per_phase(layer: model_lib.Upsampler) -> tuple[int, int]:
  """The fewest and the most taps of a phase of a layer with weights."""
  assert layer.weights is not None
  counts = tconv.overlap_count(
      layer.weights.kernel.shape[:-2], layer.strides,
      kernel_dilation=layer.kernel_dilation)
  return int(counts.min()), int(counts.max())


def _middle(before: np.ndarray) -> np.ndarray:
  """The middle of an activation, at most about _POSITIONS large."""
  axes = before.ndim - 2
  side = round(_POSITIONS**(1 / axes))
  return before[(slice(0, 1), *(
      slice(max(0, (n - side) // 2), max(0, (n - side) // 2) + side)
      for n in before.shape[1:-1]))]
