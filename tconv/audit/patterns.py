"""Periodic patterns of activations: what a kernel predicts, and what is there.

Both are means over the positions of each phase, weighted by a Hann window that
spans the middle of the activation. Its samples of each phase have the same sum
and nearly the same center, so that neither the mean nor a slope of the
activation looks like a pattern, and borders do not count.
"""

from collections.abc import Sequence
import math

import numpy as np

from tconv.audit import model


def measured(values: np.ndarray, period: Sequence[int]) -> np.ndarray:
  """Means of the phases, less their mean.

  Args:
    values: [N, *size, C] array, at least as large as the period.
    period: one int for each axis.

  Returns:
    [N, *period, C] float64 array. Phase a has the positions a, a + period, ...
  """
  weights = []
  for n, p in zip(values.shape[1:-1], period):
    window, sums = _window(n, p)
    own = np.arange(n) % p == np.arange(p)[:, None]
    weights.append(own * window / sums[:, None])
  return _without_mean(_contract(values, weights))


def predicted(before: np.ndarray, layer: model.Upsampler, size: Sequence[int]
              ) -> np.ndarray:
  """What `measured` gives for a layer's result, from its kernel and its input.

  By the theorem of `tconv.phases`, only the means of the input count. Each tap
  has a mean of its own here, over the positions that it sees under the window,
  so that the prediction is exact for any input.

  Args:
    before: [N, *coarse, O] input of the layer.
    layer: upsampler with weights.
    size: size of the layer's result, one int for each axis.

  Returns:
    [N, *strides, C] float64 array.
  """
  assert layer.weights is not None
  kernel, bias = layer.weights
  *taps, fine, coarse = kernel.shape
  weights, phases = [], []
  for n, m, k, s, d, offset in zip(
      size, before.shape[1:-1], taps, layer.strides, layer.kernel_dilation,
      layer.offset):
    window, sums = _window(n, s)
    phase = (np.arange(k) * d - offset) % s
    # Tap p of input m contributes to this position of the result.
    place = s * np.arange(m) + d * np.arange(k)[:, None] - offset
    inside = (place >= 0) & (place < n)
    weights.append(np.where(inside, window[np.where(inside, place, 0)], 0)
                   / sums[phase, None])
    phases.append(phase)
  means = _contract(before, weights)  # [N, *taps, O]
  groups = layer.groups
  means = means.reshape(len(means), math.prod(taps), groups, 1, -1)
  terms = (kernel.astype(np.float64).reshape(
      -1, fine, groups, coarse // groups).transpose(0, 2, 1, 3) * means).sum(-1)
  result = np.zeros((*layer.strides, len(means), groups * fine))
  np.add.at(result, np.ix_(*phases), terms.reshape(
      len(means), *taps, -1).transpose(*range(1, len(taps) + 1), 0, -1))
  result = np.moveaxis(result, -2, 0)
  if bias is not None:
    # Phase a of the full result is at position a - offset here.
    result += np.roll(bias, [-o for o in layer.offset], range(len(taps)))
  return _without_mean(result)


def rms(pattern: np.ndarray) -> np.ndarray:
  """[N] root mean squares of [N, *period, C] patterns."""
  return np.sqrt((pattern**2).mean(tuple(range(1, pattern.ndim))))


def _window(size: int, period: int) -> tuple[np.ndarray, np.ndarray]:
  """A [size] Hann window over whole periods in the middle, and sums by phase.

  A quarter of the axis at each end is left out, if enough periods remain.
  """
  periods = size // period
  inner = max(periods // 2, min(periods, 4)) * period
  start = (size - inner) // 2
  window = np.zeros(size)
  window[start:start + inner] = np.sin(
      np.pi * (np.arange(inner) + .5) / inner)**2
  return window, np.bincount(np.arange(size) % period, window, period)


def _contract(values: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
  """Applies a [P, size] matrix to each spatial axis of [N, *size, C]."""
  values = values.astype(np.float64)
  for axis, matrix in enumerate(weights, 1):
    values = np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)
  return values


def _without_mean(pattern: np.ndarray) -> np.ndarray:
  axes = tuple(range(1, pattern.ndim - 1))
  return pattern - pattern.mean(axes, keepdims=True)
