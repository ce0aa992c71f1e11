"""The energy of a pattern: how different the pixels of its phases are.

Pixel i has phase i mod period, on each axis. The variance of the phases' means
is the energy of the periodic part of an image; by Parseval it is that of the
grid bins of its spectrum. There is no window and no neighbourhood here: a
photograph's own energy at these bins counts.
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
    period: in pixels, one int or one for each axis; 1 for an axis without a
      pattern.

  Returns:
    [N, *period, C] means; phase a is that of the pixels a, a + period, ...

  Raises:
    ValueError: a dtype that is not float32 or float64, a period below 2 on all
      axes, or an image smaller than 4 periods.
  """
  x, period, _ = images.read_grid(x, period)
  return _phase_means(x, period)


@sharding.keeping_batch
def grid_energy(
    x: jax.Array, period: int | Sequence[int], *,
    exclude: int | Sequence[int] = 1,
    parts: bool = False) -> jax.Array | dict[str, jax.Array]:
  """The energy of the periodic pattern, the variance of the phase means.

  By Parseval, prod(size)^-2 times the sum of |DFT|^2 over the grid bins without
  the mean.

  Args:
    x: [N, *size, C] images, cropped as in `phase_means`.
    period: as in `phase_means`.
    exclude: a divisor of `period`, whose bins are left out: with period 4 and
      exclude 2, the lines that have period 4 and not 2. 1 leaves out the mean.
    parts: whether to give the parts of the energy of two-dimensional images.

  Returns:
    [N, C] energies, in squared units of the image. With `parts`, a dict of
    them, which add up to the whole: 'rows' that differ (the bins (k, 0)),
    'columns' that differ (0, l), and 'diagonals' (k, l).

  Raises:
    ValueError: as `phase_means`; an `exclude` that does not divide the period
      or excludes all of it; `parts` of what has not two spatial axes.
  """
  pattern = _global_pattern(x, period, exclude)
  if not parts:
    return _mean_square(pattern)
  if pattern.ndim != 4:
    raise ValueError(
        f'parts are those of two spatial axes; got x of shape {jnp.shape(x)}.')
  rows = pattern.mean(2, keepdims=True)
  columns = pattern.mean(1, keepdims=True)
  return {'rows': _mean_square(rows), 'columns': _mean_square(columns),
          'diagonals': _mean_square(pattern - rows - columns)}


def grid_amplitude(x: jax.Array, period: int | Sequence[int], *,
                   exclude: int | Sequence[int] = 1) -> jax.Array:
  """The amplitude of the periodic pattern, the root of its `grid_energy`.

  Args:
    x: [N, *size, C] images, cropped as in `phase_means`.
    period: as in `phase_means`.
    exclude: as in `grid_energy`.

  Returns:
    [N, C] root mean squares, in units of the image. Where there is no pattern
    at all, the gradient is zero.

  Raises:
    ValueError: as `grid_energy`.
  """
  return images.root(_energy(x, period, exclude))


@sharding.keeping_batch
def local_grid_energy(
    x: jax.Array, period: int | Sequence[int], *,
    exclude: int | Sequence[int] = 1,
    patch: int | Sequence[int] = 16) -> jax.Array:
  """The energy of periodic patterns patch by patch, whether or not they cancel.

  A layer without a bias whose input has zero mean paints no line over the whole
  image, while each of its parts is striped: stripes on dark cancel stripes on
  bright. Patches overlap by half, or little more, and begin at phase 0. They
  are weighted by a periodic Hann window, whose samples of each phase have the
  same sum, so that a constant has no energy. Everything that repeats within a
  patch counts: staircases of replicated pixels do, and a share of any noise.

  Args:
    x: [N, *size, C] images. What is left over beyond the last whole patch of an
      axis does not count.
    period: as in `phase_means`.
    exclude: as in `grid_energy`.
    patch: size of a patch in pixels, one int or one for each axis. It is
      rounded down to a multiple of the period, and is at least 2 periods.

  Returns:
    [N, C] means over the patches of their energy, in squared units of the
    image.

  Raises:
    ValueError: as `grid_energy`, or an image smaller than a patch.
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
  """The part of an image's squared error that is a periodic pattern.

  Removing the pattern of x - y from x would raise its PSNR by exactly
  -10 log10(1 - share) dB.

  Args:
    x: [N, *size, C] images, cropped as in `phase_means`.
    y: [N, *size, C] what they should be.
    period: as in `phase_means`.
    exclude: as in `grid_energy`.

  Returns:
    [N, C] `grid_energy` of x - y over its mean square on the same crop, in
    [0, 1]; 0 where the two are equal.

  Raises:
    ValueError: as `grid_energy`, or x and y differ in shape or dtype.
  """
  x, y = images.read_pair(x, y)
  return _share(x - y, period, exclude)


def excess_grid_energy(x: jax.Array, y: jax.Array, period: int | Sequence[int],
                       *, exclude: int | Sequence[int] = 1) -> jax.Array:
  """How much more energy the pattern of an image has than its reference's.

  Args:
    x: [N, *size, C] images, cropped as in `phase_means`.
    y: [N, *size, C] the references.
    period: as in `phase_means`.
    exclude: as in `grid_energy`.

  Returns:
    [N, C] `grid_energy` of x less that of y, in squared units of the image.

  Raises:
    ValueError: as `grid_energy`, or x and y differ in shape or dtype.
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
  """[N, *period, C] the pattern of whole images."""
  x, period, exclude = images.read_grid(x, period, exclude)
  # Without its mean, an image keeps its float32 digits for the pattern.
  x -= x.mean(tuple(range(1, x.ndim - 1)), keepdims=True)
  return _pattern(_phase_means(x, period), period, exclude)


def _phase_means(x, period):
  for axis, p in enumerate(period, 1):
    means = _split(x, axis, x.shape[axis] // p, p).mean(1)
    x = means.reshape(*x.shape[:axis], p, *x.shape[axis + 1:])
  return x


def _pattern(means, period, exclude):
  """Subtracts from phase means the part of them that has period `exclude`.

  Each axis may hold the phases several times, once for each patch.
  """
  rest = means
  for axis, (p, e) in enumerate(zip(period, exclude), 1):
    blocks = _split(rest, axis, p // e, e)
    rest = jnp.broadcast_to(blocks.mean(1, keepdims=True), blocks.shape)
    rest = rest.reshape(means.shape)
  return means - rest


def _split(x, axis, *lengths):
  """[..., *lengths, ...] view of an axis, the axes on either side made one.

  Dimensions that stayed apart would be clearer, but XLA's fusions for CPUs
  crash on sums of products of 7 and more of them (jaxlib 0.10.2).
  """
  before = math.prod(x.shape[:axis + 1]) // math.prod(lengths)
  return x.reshape(before, *lengths, math.prod(x.shape[axis + 1:]))


def _mean_square(x):
  return (x**2).mean(tuple(range(1, x.ndim - 1)))
