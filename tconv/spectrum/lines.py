"""Lines of the spectrum: how far a pattern stands out, and its p-value.

The power at the grid bins is compared with that of neighboring bins. So the
spectrum of a photograph, which has power everywhere, does not count as a
pattern.
"""

from collections.abc import Sequence
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from tconv import sharding
from tconv.spectrum import images

# Chebyshev distances, in bins, of the neighbors that define the floor.
_NEAREST, _FARTHEST = 2, 5
# Number of neighbors for each line that a test at 1 % needs.
_NEEDED = 100


@sharding.keeping_batch
def grid_level(x: jax.Array, period: int | Sequence[int], *,
               exclude: int | Sequence[int] = 1) -> jax.Array:
  """How far the lines of a periodic pattern stand out from the spectrum, in dB.

  The level is the ratio of the power at the grid bins to that of neighboring
  bins: 10 log10(sum_g P_g / sum_g floor_g). Noise without a pattern gives about
  0 dB, whatever its strength.

  P is the power spectrum under a periodic Hann window, after subtraction of the
  window-weighted mean. The samples of each phase of this window have the same
  sum, so a constant does not leak into the grid bins. floor_g is the mean of P
  over the bins at Chebyshev distance 2 to 5 from g, without those within 1 of
  any grid bin. An image whose power is below the rounding of its dtype, such as
  a constant, gives 0 dB and a finite gradient.

  Args:
    x: [N, *size, C] images, with one to three spatial axes. Each axis is
      cropped at its end to a multiple of the period.
    period: period of the pattern in pixels, one int or one for each axis; 1 for
      an axis without a pattern.
    exclude: divisor of `period` whose bins are excluded. With period 4 and
      exclude 2, lines of period 4 count and those of period 2 do not. The
      default, 1, excludes the mean.

  Returns:
    [N, C] levels in dB.

  Raises:
    ValueError: dtype other than float32 or float64, period below 2 on all axes,
      `exclude` that does not divide the period or equals it, or image smaller
      than 4 periods.

  Example:
    >>> noise = jax.random.normal(jax.random.key(5), (1, 256, 1))
    >>> stripes = noise.at[:, ::2].add(.5)
    >>> round(float(tconv.grid_level(noise, 2)[0, 0]), 1)
    -0.6
    >>> round(float(tconv.grid_level(stripes, 2)[0, 0]), 1)
    16.1
  """
  x, period, exclude = images.read_grid(x, period, exclude)
  spectrum, rounding = _spectrum(x)
  power = spectrum.real**2 + spectrum.imag**2  # Smooth at zero, unlike abs.
  size = x.shape[1:-1]
  grid = _grid_bins(size, period, exclude)
  near = [_neighbors(g, size, period, _FARTHEST) for g in grid]
  weights = np.concatenate([np.full(len(b), 1 / len(b)) for b in near])
  weights = jnp.asarray(weights, x.dtype)[None, :, None]
  lines = power[:, _flat(grid, size)].sum(1)
  floor = (power[:, np.concatenate(near)] * weights).sum(1)
  return 10 * (jnp.log10(lines + rounding) - jnp.log10(floor + rounding))


@sharding.keeping_batch
def grid_test(x: jax.Array, period: int | Sequence[int], *,
              exclude: int | Sequence[int] = 1) -> jax.Array:
  """Tests whether the lines of a periodic pattern are due to chance.

  Each line is ranked among its neighbors in the spectrum of `grid_level`; no
  neighbor is a grid bin. Its p-value is (1 + #{neighbors with its power or
  more}) / (1 + #{neighbors}). The result is the smallest p-value times the
  number of lines (the first step of Holm's method).

  The neighbors are the bins at Chebyshev distance 2 to R. R is the smallest
  number from 5 on that gives a hundred neighbors for each line, so that a test
  at 1 % can reject. Images that are too small for that, such as 32 pixels at
  period 4, have larger p-values.

  Images are real, so the bins f and -f are one line and count once. A bin with
  f = -f, such as all bins of period 2, holds a real number, whose power varies
  more than that of a complex number. It is compared with twice the squared real
  and imaginary parts of its neighbors instead of their power.

  Measured rates of false positives, for a test at 5 % and at 1 %
  (docs/calibration.md): 4.4 to 5.8 % and 1.1 to 1.6 % for white noise, because
  the window correlates bins; 2.6 to 3.9 % and .5 to 1.3 % for 64-pixel crops of
  photographs at period 2; at most 1.1 % and .3 % for these at periods 3 and 4,
  where neighbors include lower, stronger frequencies. For 185 crops of 128
  pixels, the rates of a test at 5 % are 6.5, 1.1 and 4.3 % at periods 2, 3 and
  4.

  Args:
    x: [N, *size, C] images, with one to three spatial axes. Each axis is
      cropped at its end to a multiple of the period.
    period: period of the pattern in pixels, one int or one for each axis; 1 for
      an axis without a pattern.
    exclude: divisor of `period` whose bins are excluded. With period 4 and
      exclude 2, lines of period 4 count and those of period 2 do not. The
      default, 1, excludes the mean.

  Returns:
    [N, C] p-values in (0, 1]. Small values are evidence of a pattern.

  Raises:
    ValueError: as in `grid_level`.

  Example:
    >>> noise = jax.random.normal(jax.random.key(5), (1, 256, 1))
    >>> stripes = noise.at[:, ::2].add(.5)
    >>> round(float(tconv.grid_test(noise, 2)[0, 0]), 2)
    0.54
    >>> round(float(tconv.grid_test(stripes, 2)[0, 0]), 2)
    0.01
  """
  x, period, exclude = images.read_grid(x, period, exclude)
  spectrum, rounding = _spectrum(x)
  squares = jnp.stack([spectrum.real**2, spectrum.imag**2], 1)
  size = x.shape[1:-1]
  # The bin of opposite frequency for each bin: its conjugate, as x is real.
  mirrored = _flat(-np.moveaxis(np.indices(size), 0, -1) % size, size).ravel()
  grid = _grid_bins(size, period, exclude)
  grid = grid[_flat(grid, size) <= mirrored[_flat(grid, size)]]
  # The grid is a lattice, so every line has the same number of neighbors.
  reach = next(
      (r for r in range(_FARTHEST, max(size) // 2)
       if len(_neighbors(grid[0], size, period, r)) + 1
       >= _NEEDED * len(grid)), max(*size, 2 * _FARTHEST) // 2)
  near = [_neighbors(g, size, period, reach) for g in grid]
  near = [np.unique(np.minimum(bins, mirrored[bins])) for bins in near]
  widest = max(map(len, near))
  lines = _flat(grid, size)

  def p_value(line):
    index, bins, count, real = line
    floor = squares[:, :, bins]  # [N, 2, neighbors, C]
    power = squares[:, :, index].sum(1)
    stronger = lambda floor: (
        (floor + rounding[:, None] >= power[:, None])
        & (jnp.arange(widest) < count)[None, :, None]).sum(1)
    above = jnp.where(
        real, stronger(2 * floor[:, 0]) + stronger(2 * floor[:, 1]),
        stronger(floor.sum(1)))
    p = (1 + above) / (1 + jnp.where(real, 2, 1) * count)
    return jnp.where(jnp.isnan(power), jnp.nan, p.astype(x.dtype))

  # One line at a time: long periods have many lines with many neighbors each.
  p_values = jax.lax.map(p_value, (
      lines, np.stack([np.resize(bins, widest) for bins in near]),
      np.array([len(bins) for bins in near]), lines == mirrored[lines]))
  return jnp.minimum(len(grid) * p_values.min(0), 1)


def _spectrum(x):
  """The spectrum of images without their mean, under a periodic Hann window.

  Returns:
    [N, prod(size), C] spectrum, and [N, C] power of its rounding error. The
    latter is slightly above zero for a zero image, so logarithms stay finite.
  """
  axes = tuple(range(1, x.ndim - 1))
  x, _ = images.squarable(x, *axes)  # Results are ratios: the scale cancels.
  window = np.ones(())
  for s in x.shape[1:-1]:
    window = np.multiply.outer(window, images.hann(s))
  window = jnp.asarray(window, x.dtype)[None, ..., None]
  mean = (x * window).sum(axes, keepdims=True) / window.sum()
  spectrum = jnp.fft.fftn((x - mean) * window, axes=axes)
  limits = jnp.finfo(x.dtype)
  rounding = limits.eps**2 * ((x * window)**2).sum(axes)
  rounding += limits.tiny / limits.eps
  spectrum = spectrum.reshape(x.shape[0], window.size, x.shape[-1])
  return spectrum, rounding


def _grid_bins(size, period, exclude):
  """[*, axes] grid bins of [*size] spectra, without excluded bins."""
  multiples = np.array(list(itertools.product(*map(range, period))))
  skipped = np.array(period) // exclude
  kept = multiples[(multiples % skipped).any(1)]
  return kept * (np.array(size) // period)


def _neighbors(g, size, period, reach):
  """Flat indices of bins up to `reach` from g and at least 2 from grid bins."""
  steps = [np.arange(-reach, reach + 1)] * len(size)
  near = (g + np.stack(np.meshgrid(*steps), -1).reshape(-1, len(size))) % size
  # The grid is a lattice, so its distance can be computed axis by axis.
  spacing = np.array(size) // period
  distance = np.minimum(near % spacing, -near % spacing).max(-1)
  return np.unique(_flat(near[distance >= _NEAREST], size))


def _flat(bins, size):
  """Indices of [*, axes] bins in a flattened [*size] spectrum."""
  return np.ravel_multi_index(np.moveaxis(bins, -1, 0), size)
