"""Lines of the spectrum: how far a pattern stands out, and by chance or not.

The power at the grid bins is compared with that of the bins around them. So a
photograph's own spectrum, which has power everywhere, counts as no pattern.
"""

from collections.abc import Sequence
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from tconv import sharding
from tconv.spectrum import images

# Chebyshev distances, in bins, of the neighbours that make up the floor.
_NEAREST, _FARTHEST = 2, 5
# How many of them a test at 1 % needs for each line.
_NEEDED = 100


@sharding.keeping_batch
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
  """
  x, period, exclude = images.read_grid(x, period, exclude)
  spectrum, rounding = _spectrum(x)
  power = spectrum.real**2 + spectrum.imag**2  # Smooth at zero, unlike abs.
  size = x.shape[1:-1]
  grid = _grid_bins(size, period, exclude)
  near = [_neighbours(g, size, period, _FARTHEST) for g in grid]
  weights = np.concatenate([np.full(len(b), 1 / len(b)) for b in near])
  weights = jnp.asarray(weights, x.dtype)[None, :, None]
  lines = power[:, _flat(grid, size)].sum(1)
  floor = (power[:, np.concatenate(near)] * weights).sum(1)
  return 10 * (jnp.log10(lines + rounding) - jnp.log10(floor + rounding))


@sharding.keeping_batch
def grid_test(x: jax.Array, period: int | Sequence[int], *,
              exclude: int | Sequence[int] = 1) -> jax.Array:
  """How likely chance alone is to make a line that stands out as far as these.

  Each line has the p-value of its rank among its neighbours, of which none is
  a line: (1 + #{neighbours with its power or more}) / (1 + #{neighbours}). The
  smallest, times the number of lines (Holm's first step), is the result. The
  spectrum is that of `grid_level`. The neighbours are those at Chebyshev
  distance 2 to R, with the smallest R from 5 on that gives a hundred for each
  line, so that a test at 1 % can reject. An image that has not so many (32
  pixels and period 4) has larger p-values.

  Images are real: the bins f and -f are one line, counted once. A bin with
  f = -f, as all of period 2, is a real number, whose power varies more than
  that of a complex one: it is compared with the squared real and imaginary
  parts of its neighbours, doubled, instead of their power.

  Measured (docs/calibration.md), false positives of a test at 5 % and at 1 %:
  4.4 to 5.8 % and 1.1 to 1.6 % of white noise (the window correlates bins, and
  that costs a little); 2.6 to 3.9 % and .5 to 1.3 % of 64-pixel crops of
  photographs at period 2; at most 1.1 % and .3 % of them at periods 3 and 4,
  where neighbours reach into lower, stronger frequencies. Of 185 crops of 128
  pixels, 6.5, 1.1 and 4.3 % at periods 2, 3 and 4, for a test at 5 %.

  Args:
    x: [N, *size, C] images, cropped as in `grid_level`.
    period: as in `grid_level`.
    exclude: as in `grid_level`.

  Returns:
    [N, C] p-values in (0, 1]; the smaller, the surer a pattern.

  Raises:
    ValueError: as `grid_level`.
  """
  x, period, exclude = images.read_grid(x, period, exclude)
  spectrum, rounding = _spectrum(x)
  squares = jnp.stack([spectrum.real**2, spectrum.imag**2], 1)
  size = x.shape[1:-1]
  # For each bin the one of opposite frequency, its conjugate: x is real.
  mirrored = _flat(-np.moveaxis(np.indices(size), 0, -1) % size, size).ravel()
  grid = _grid_bins(size, period, exclude)
  grid = grid[_flat(grid, size) <= mirrored[_flat(grid, size)]]
  # As the grid is a lattice, every line has as many neighbours.
  reach = next(
      (r for r in range(_FARTHEST, max(size) // 2)
       if len(_neighbours(grid[0], size, period, r)) + 1
       >= _NEEDED * len(grid)), max(*size, 2 * _FARTHEST) // 2)
  near = [_neighbours(g, size, period, reach) for g in grid]
  near = [np.unique(np.minimum(bins, mirrored[bins])) for bins in near]
  widest = max(map(len, near))
  lines = _flat(grid, size)

  def p_value(line):
    index, bins, count, real = line
    floor = squares[:, :, bins]  # [N, 2, neighbours, C]
    power = squares[:, :, index].sum(1)
    stronger = lambda floor: (
        (floor + rounding[:, None] >= power[:, None])
        & (jnp.arange(widest) < count)[None, :, None]).sum(1)
    above = jnp.where(
        real, stronger(2 * floor[:, 0]) + stronger(2 * floor[:, 1]),
        stronger(floor.sum(1)))
    p = (1 + above) / (1 + jnp.where(real, 2, 1) * count)
    return jnp.where(jnp.isnan(power), jnp.nan, p.astype(x.dtype))

  # One line at a time: with a long period there are many, and many neighbours.
  p_values = jax.lax.map(p_value, (
      lines, np.stack([np.resize(bins, widest) for bins in near]),
      np.array([len(bins) for bins in near]), lines == mirrored[lines]))
  return jnp.minimum(len(grid) * p_values.min(0), 1)


def _spectrum(x):
  """The spectrum of images without their mean, under a periodic Hann window.

  Returns:
    [N, prod(size), C] spectrum; [N, C] power that is within its rounding, or a
    little more than nothing, where all is zero: it keeps logarithms finite.
  """
  axes = tuple(range(1, x.ndim - 1))
  x, _ = images.squarable(x, *axes)  # All that counts are ratios.
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
  """[*, axes] grid bins of [*size] spectra, without the excluded ones."""
  multiples = np.array(list(itertools.product(*map(range, period))))
  skipped = np.array(period) // exclude
  kept = multiples[(multiples % skipped).any(1)]
  return kept * (np.array(size) // period)


def _neighbours(g, size, period, reach):
  """Flat indices of the bins up to `reach` from g, and 2 from all grid bins."""
  steps = [np.arange(-reach, reach + 1)] * len(size)
  near = (g + np.stack(np.meshgrid(*steps), -1).reshape(-1, len(size))) % size
  # The grid is a lattice: the distance to it is taken axis by axis.
  spacing = np.array(size) // period
  distance = np.minimum(near % spacing, -near % spacing).max(-1)
  return np.unique(_flat(near[distance >= _NEAREST], size))


def _flat(bins, size):
  """Indices of [*, axes] bins into a flattened [*size] spectrum."""
  return np.ravel_multi_index(np.moveaxis(bins, -1, 0), size)
