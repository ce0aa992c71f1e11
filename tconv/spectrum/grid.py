"""The energy of a periodic pattern, from the means of its phases.

Pixel i has the phase i mod period, on each axis. The variance of the phase
means is the energy of the periodic part of an image. By Parseval's theorem, it
equals the energy of the spectrum at the grid bins. There is no window and no
comparison with neighboring bins: the energy that a photograph itself has at the
grid bins counts as well.
"""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

from tconv import geometry
from tconv import sharding
from tconv.spectrum import images


@sharding.keeping_batch
def phase_means(x: jax.Array, period: int | Sequence[int]) -> jax.Array:
  """The mean over the pixels of each phase.

  Args:
    x: [N, *size, C] images, with one to three spatial axes. Each axis is
      cropped at its end to a multiple of the period.
    period: period of the pattern in pixels, one int or one for each axis; 1 for
      an axis without a pattern.

  Returns:
    [N, *period, C] means. Phase a has the pixels a, a + period, ...

  Raises:
    ValueError: dtype other than float32 or float64, period below 2 on all axes,
      or image smaller than 4 periods.

  Example:
    >>> x = jnp.array([1., 5., 1., 5., 1., 5., 1., 5.]).reshape(1, 8, 1)
    >>> tconv.phase_means(x, 2)[0, :, 0]
    Array([1., 5.], dtype=float32)
  """
  x, period, _ = images.read_grid(x, period)
  return _phase_means(x, period)


@sharding.keeping_batch
def grid_energy(
    x: jax.Array, period: int | Sequence[int], *,
    exclude: int | Sequence[int] = 1,
    parts: bool = False) -> jax.Array | dict[str, jax.Array]:
  """The energy of the periodic pattern: the variance of the phase means.

  By Parseval's theorem, it is prod(size)^-2 times the sum of `|DFT|^2` over
  the grid bins, without that of the mean.

  Args:
    x: [N, *size, C] images, cropped as in `phase_means`.
    period: period of the pattern in pixels, one int or one for each axis; 1 for
      an axis without a pattern.
    exclude: divisor of `period` whose bins are excluded. With period 4 and
      exclude 2, lines of period 4 count and those of period 2 do not. The
      default, 1, excludes the mean.
    parts: whether to split the energy of two-dimensional images into parts.

  Returns:
    [N, C] energies, in squared units of the image. With `parts`, a dict of
    three energies with that sum: 'rows', for differences between rows (the bins
    (k, 0)), 'columns', for differences between columns (0, l), and 'diagonals'
    (k, l).

  Raises:
    ValueError: as in `phase_means`; `exclude` that does not divide the period
      or equals it; `parts` of images without two spatial axes.

  Example:
    >>> x = jnp.zeros((1, 8, 8, 1)).at[:, ::2].add(2.)  # Every other row.
    >>> float(tconv.grid_energy(x, 2)[0, 0])
    1.0
    >>> parts = tconv.grid_energy(x, 2, parts=True)
    >>> {name: float(energy[0, 0]) for name, energy in parts.items()}
    {'rows': 1.0, 'columns': 0.0, 'diagonals': 0.0}
  """
  pattern = _global_pattern(x, period, exclude)
  if not parts:
    return _mean_square(pattern)
  if pattern.ndim != 4:
    raise ValueError(
        'parts=True needs images with two spatial axes; got x of shape '
        f'{jnp.shape(x)}.')
  rows = pattern.mean(2, keepdims=True)
  columns = pattern.mean(1, keepdims=True)
  return {'rows': _mean_square(rows), 'columns': _mean_square(columns),
          'diagonals': _mean_square(pattern - rows - columns)}


def grid_amplitude(x: jax.Array, period: int | Sequence[int], *,
                   exclude: int | Sequence[int] = 1) -> jax.Array:
  """The amplitude of the periodic pattern: the root of its `grid_energy`.

  Args:
    x: [N, *size, C] images, cropped as in `phase_means`.
    period: period of the pattern in pixels, one int or one for each axis; 1 for
      an axis without a pattern.
    exclude: divisor of `period` whose bins are excluded; the default, 1,
      excludes the mean. `grid_energy` has an example.

  Returns:
    [N, C] root mean squares, in units of the image. The gradient is zero where
    there is no pattern at all.

  Raises:
    ValueError: as in `grid_energy`.

  Example:
    >>> x = jnp.array([1., 5., 1., 5., 1., 5., 1., 5.]).reshape(1, 8, 1)
    >>> float(tconv.grid_amplitude(x, 2)[0, 0])  # 3 - 2, 3 + 2, ...
    2.0
  """
  return images.root(_energy(x, period, exclude))


@sharding.keeping_batch
def local_grid_energy(
    x: jax.Array, period: int | Sequence[int], *,
    exclude: int | Sequence[int] = 1,
    patch: int | Sequence[int] = 16) -> jax.Array:
  """The mean energy of periodic patterns in patches of an image.

  Patterns of opposite sign in different parts of an image cancel in
  `grid_energy`, but not here. For example, a layer without bias whose input has
  zero mean has no line in the spectrum of the whole image, although every part
  of the image may be striped.

  Patches overlap by half or slightly more, and begin at phase 0. They are
  weighted by a periodic Hann window. Its samples of each phase have the same
  sum, so a constant has no energy. Everything that repeats within a patch
  counts, including staircases of replicated pixels and some part of any noise.

  Args:
    x: [N, *size, C] images. Pixels after the last whole patch of an axis are
      ignored.
    period: period of the pattern in pixels, one int or one for each axis; 1 for
      an axis without a pattern.
    exclude: divisor of `period` whose bins are excluded; the default, 1,
      excludes the mean. `grid_energy` has an example.
    patch: size of a patch in pixels, one int or one for each axis. It is
      rounded down to a multiple of the period and is at least 2 periods.

  Returns:
    [N, C] mean energies of the patches, in squared units of the image.

  Raises:
    ValueError: as in `grid_energy`, or image smaller than a patch.

  Example:
    >>> stripes = jnp.tile(jnp.array([1., -1.]), 32)
    >>> x = stripes.at[32:].multiply(-1).reshape(1, 64, 1)  # The halves cancel.
    >>> round(float(tconv.grid_energy(x, 2)[0, 0]), 2)
    0.0
    >>> round(float(tconv.local_grid_energy(x, 2)[0, 0]), 2)
    0.86
  """
  x, period, exclude = images.read_grid(x, period, exclude)
  size = x.shape[1:-1]
  patch = geometry.per_axis('patch', patch, len(size), 1)
  repeats = [max(t // p, 2) for t, p in zip(patch, period)]
  if any(r * p > s for r, p, s in zip(repeats, period, size)):
    raise ValueError(
        f'patch must fit into x; got patch {patch} with period {period} and '
        f'size {size}.')
  x -= x.mean(tuple(range(1, x.ndim - 1)), keepdims=True)
  for axis, (p, r) in enumerate(zip(period, repeats), 1):
    blocks = _split(x, axis, x.shape[axis] // p, p)
    starts = range(0, blocks.shape[1] - r + 1, r // 2)
    # The samples of each phase then add up to 1.
    window = jnp.asarray(images.hann(r * p) * 2 / r, x.dtype)
    window = window.reshape(r, 1, 1, p, 1)
    x = jnp.reshape(
        sum(window[k] * blocks[:, k:starts.stop + k:starts.step]
            for k in range(r)),
        (*x.shape[:axis], len(starts) * p, *x.shape[axis + 1:]))
  return _mean_square(_pattern(x, period, exclude))


def grid_share(x: jax.Array, y: jax.Array, period: int | Sequence[int], *,
               exclude: int | Sequence[int] = 1) -> jax.Array:
  """The share of an image's squared error that is a periodic pattern.

  Removing the pattern of x - y from x would raise the PSNR by exactly
  -10 log10(1 - share) dB.

  Args:
    x: [N, *size, C] images, cropped as in `phase_means`.
    y: [N, *size, C] reference images.
    period: period of the pattern in pixels, one int or one for each axis; 1 for
      an axis without a pattern.
    exclude: divisor of `period` whose bins are excluded; the default, 1,
      excludes the mean. `grid_energy` has an example.

  Returns:
    [N, C] ratios, in [0, 1], of the `grid_energy` of x - y to its mean square
    on the same crop; 0 where x equals y.

  Raises:
    ValueError: as in `grid_energy`, or x and y differ in shape or dtype.

  Example:
    >>> reference = jnp.arange(8.).reshape(1, 8, 1)
    >>> stripes = jnp.tile(jnp.array([1., -1.]), 4).reshape(1, 8, 1)
    >>> x = reference + stripes + 1  # The other half of the error is an offset.
    >>> float(tconv.grid_share(x, reference, 2)[0, 0])
    0.5
  """
  x, y = images.read_pair(x, y)
  return _share(x - y, period, exclude)


def excess_grid_energy(x: jax.Array, y: jax.Array, period: int | Sequence[int],
                       *, exclude: int | Sequence[int] = 1) -> jax.Array:
  """The difference in grid energy between an image and its reference.

  Args:
    x: [N, *size, C] images, cropped as in `phase_means`.
    y: [N, *size, C] reference images.
    period: period of the pattern in pixels, one int or one for each axis; 1 for
      an axis without a pattern.
    exclude: divisor of `period` whose bins are excluded; the default, 1,
      excludes the mean. `grid_energy` has an example.

  Returns:
    [N, C] `grid_energy` of x minus that of y, in squared units of the image.

  Raises:
    ValueError: as in `grid_energy`, or x and y differ in shape or dtype.

  Example:
    >>> reference = jnp.array([1., 3., 1., 3., 1., 3., 1., 3.]).reshape(1, 8, 1)
    >>> x = 2 * reference  # Its stripes have 4 times the energy.
    >>> float(tconv.grid_energy(reference, 2)[0, 0])
    1.0
    >>> float(tconv.excess_grid_energy(x, reference, 2)[0, 0])
    3.0
  """
  x, y = images.read_pair(x, y)
  return _energy(x, period, exclude) - _energy(y, period, exclude)


@sharding.keeping_batch
def _share(error, period, exclude):
  error, *_ = images.read_grid(error, period, exclude)
  error, _ = images.squarable(error, *range(1, error.ndim - 1))
  energy = _energy(error, period, exclude)
  square = _mean_square(error)
  equal = square == 0
  return jnp.where(equal, 0, energy / jnp.where(equal, 1, square))


@sharding.keeping_batch
def _energy(x, period, exclude):
  return _mean_square(_global_pattern(x, period, exclude))


def _global_pattern(x, period, exclude):
  """[N, *period, C] patterns of whole images."""
  x, period, exclude = images.read_grid(x, period, exclude)
  # Subtracting the mean first leaves more float32 digits for the pattern.
  x -= x.mean(tuple(range(1, x.ndim - 1)), keepdims=True)
  return _pattern(_phase_means(x, period), period, exclude)


def _phase_means(x, period):
  for axis, p in enumerate(period, 1):
    means = _split(x, axis, x.shape[axis] // p, p).mean(1)
    x = means.reshape(*x.shape[:axis], p, *x.shape[axis + 1:])
  return x


def _pattern(means, period, exclude):
  """Subtracts from phase means their part of period `exclude`.

  Each axis may hold the phases several times, once for each patch.
  """
  rest = means
  for axis, (p, e) in enumerate(zip(period, exclude), 1):
    blocks = _split(rest, axis, p // e, e)
    rest = jnp.broadcast_to(blocks.mean(1, keepdims=True), blocks.shape)
    rest = rest.reshape(means.shape)
  return means - rest


def _split(x, axis, *lengths):
  """Reshapes an axis to `lengths`, and merges the axes on either side.

  Separate axes would be clearer, but XLA's CPU fusions crash on sums of
  products of 7 or more axes (jaxlib 0.10.2).
  """
  before = math.prod(x.shape[:axis + 1]) // math.prod(lengths)
  return x.reshape(before, *lengths, math.prod(x.shape[axis + 1:]))


def _mean_square(x):
  return (x**2).mean(tuple(range(1, x.ndim - 1)))
