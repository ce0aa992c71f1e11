"""The symptom: periodic patterns, measured in the image.

An upsampler of stride s can only paint patterns of period s: lines of the
spectrum at the multiples of 1 / s, the *grid bins*. Images are channels last,
[N, *size, C], of any range, in float32 or float64; results are given for each
image and channel.
"""

from collections.abc import Sequence
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from tconv import geometry

# Chebyshev distances, in bins, of the neighbours that make up the floor.
_NEAREST, _FARTHEST = 2, 5


def grid_level(x: jax.Array, period: int | Sequence[int], *,
               exclude: int | Sequence[int] = 1) -> jax.Array:
  """How far the lines of a periodic pattern stand out of the spectrum.

  The power at the grid bins over that of their neighbourhood, in dB:
  10 log10(sum_g P_g / sum_g floor_g). Noise without a pattern gives about 0 dB,
  whatever its strength. P is the power spectrum of the image less its
  window-weighted mean, under a periodic Hann window, whose samples of each
  phase have the same sum, so that a constant leaks into no grid bin. floor_g is
  the mean of P over the bins at Chebyshev distance 2 to 5 of g, without those
  within 1 of any grid bin. An image whose power is below the rounding of its
  own dtype (constant, zero) gives 0 dB, and a finite gradient.

  Args:
    x: [N, *size, C] images, with one to three spatial axes. Each axis is
      cropped at its end to a multiple of the period.
    period: of the pattern in pixels, one int or one for each axis; 1 for an
      axis without a pattern.
    exclude: a divisor of `period`, whose bins are left out: with period 4 and
      exclude 2, the lines that have period 4 and not 2. 1 leaves out the mean.

  Returns:
    [N, C] levels in dB.

  Raises:
    ValueError: a dtype that is not float32 or float64, a period below 2 on all
      axes, an `exclude` that does not divide it or excludes all of it, or an
      image smaller than 4 periods.
    AssertionError: the rank does not fit.
  """
  x, period, exclude = _check(x, period, exclude)
  n = x.ndim - 2
  size = tuple(s - s % p for s, p in zip(x.shape[1:-1], period))
  x = x[(slice(None), *(slice(s) for s in size))]
  window = jnp.asarray(_hann(size), x.dtype)[None, ..., None]
  axes = tuple(range(1, n + 1))
  mean = (x * window).sum(axes, keepdims=True) / window.sum()
  spectrum = jnp.fft.fftn((x - mean) * window, axes=axes)
  power = spectrum.real**2 + spectrum.imag**2  # Smooth at zero, unlike abs.
  power = power.reshape(x.shape[0], math.prod(size), x.shape[-1])
  grid, (neighbours, weights) = _bins(size, period, exclude)
  lines = power[:, grid].sum(1)
  weights = jnp.asarray(weights, x.dtype)[None, :, None]
  floor = (power[:, neighbours] * weights).sum(1)
  # The spectrum is rounded to about this much; a little more, where it is all
  # zero, keeps the gradients of both logarithms finite.
  limits = jnp.finfo(x.dtype)
  rounding = limits.eps**2 * ((x * window)**2).sum(axes)
  rounding += limits.tiny / limits.eps
  return 10 * (jnp.log10(lines + rounding) - jnp.log10(floor + rounding))


def _check(x, period, exclude):
  """Reads the arguments that all measures of the grid bins share."""
  x = jnp.asarray(x)
  chex.assert_rank(x, {3, 4, 5}, custom_message=(
      'x must be [N, *size, C] with one to three spatial axes.'))
  n = x.ndim - 2
  if x.dtype not in (jnp.float32, jnp.float64):
    raise ValueError(f'x must be float32 or float64; got {x.dtype}.')
  periods = geometry.per_axis('period', period, n, 1)
  if max(periods) < 2:
    raise ValueError(f'period must be at least 2; got {period!r}.')
  excluded = geometry.per_axis('exclude', exclude, n, 1)
  if any(p % e for p, e in zip(periods, excluded)) or periods == excluded:
    raise ValueError(
        'exclude must divide period and be smaller; got exclude '
        f'{exclude!r} with period {period!r}.')
  if any(s < 4 * p for s, p in zip(x.shape[1:-1], periods)):
    raise ValueError(
        f'x must measure at least 4 periods of {periods} on each axis; got '
        f'size {x.shape[1:-1]}.')
  return x, periods, excluded


def _hann(size: geometry.Size) -> np.ndarray:
  """[*size] periodic Hann window."""
  window = np.ones(())
  for s in size:
    window = np.multiply.outer(
        window, .5 - .5 * np.cos(2 * np.pi * np.arange(s) / s))
  return window


def _bins(size, period, exclude):
  """Indices into the flattened spectrum of [*size] images.

  Returns:
    The grid bins; and their neighbours, with the weights that make the weighted
    sum over them the sum of all floors.
  """
  spacing = np.array([s // p for s, p in zip(size, period)])
  multiples = [range(p) for p in period]
  skipped = np.array([p // e for p, e in zip(period, exclude)])
  grid = [np.array(m) * spacing for m in itertools.product(*multiples)
          if (np.array(m) % skipped).any()]
  steps = np.arange(-_FARTHEST, _FARTHEST + 1)
  offsets = np.stack(np.meshgrid(*[steps] * len(size)), -1).reshape(
      -1, len(size))
  neighbours, weights = [], []
  for g in grid:
    near = np.unique((g + offsets) % size, axis=0)
    # The grid is a lattice: the distance to it is taken axis by axis.
    distance = np.minimum(near % spacing, -near % spacing).max(-1)
    near = near[distance >= _NEAREST]
    neighbours.append(near)
    weights.append(np.full(len(near), 1 / len(near)))
  flat = lambda bins: np.ravel_multi_index(np.transpose(bins), size)
  return flat(grid), (flat(np.concatenate(neighbours)), np.concatenate(weights))
