"""Patches of the fine grid, one for each coarse position."""

import functools
import itertools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tconv.geometry import Geometry


def extract(x: jax.Array, geometry: Geometry) -> jax.Array:
  """Copies the patch that each coarse position reads (im2col).

  Args:
    x: [N, *fine, C] array.
    geometry: sizes that relate the two grids, without negative padding.

  Returns:
    [N, *coarse, *K, C] array, zero outside of the fine grid.
  """
  n = geometry.num_axes
  x = lax.pad(x, jnp.zeros((), x.dtype), (
      (0, 0, 0), *((lo, hi, 0) for lo, hi in geometry.padding), (0, 0, 0)))
  for axis in range(n):  # A fine axis becomes a coarse one and one of taps.
    coarse = geometry.coarse_size[axis]
    arange = np.arange if isinstance(coarse, int) else jnp.arange
    taps = np.arange(geometry.kernel_size[axis]) * geometry.dilation[axis]
    reach = arange(coarse)[:, None] * geometry.strides[axis] + taps[None]
    x = jnp.take(x, reach, axis=1 + 2 * axis, mode='clip')
  x = x.transpose(0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2), 2 * n + 1)
  # The barrier keeps XLA from merging this with a reshape into a matrix, where
  # it would compute the place of each element by divisions.
  return lax.optimization_barrier(x)


def overlap(patches: jax.Array, geometry: Geometry) -> jax.Array:
  """Places patches on the fine grid and adds where they overlap (col2im).

  Up to s neighboring taps of all patches cover the grid without overlapping. So
  the result is a sum of a few shifted layers: ceil(k / s) on each axis, or k
  for a dilated kernel. Each layer is written once.

  Args:
    patches: [N, *coarse, *K, C] array.
    geometry: sizes that relate the two grids.

  Returns:
    [N, *fine, C] array.
  """
  n = geometry.num_axes
  zero = jnp.zeros((), patches.dtype)
  sizes = tuple(
      c * s for c, s in zip(geometry.coarse_size, geometry.strides))

  def layer(firsts):
    """Places the taps from `firsts` on of all patches side by side."""
    taps = patches[(slice(None),) * (n + 1) + tuple(
        slice(first, first + step) for first, step in zip(firsts, steps))]
    taps = lax.pad(taps, zero, (
        *((0, 0, 0),) * (n + 1),
        *((0, s - t, 0) for s, t in zip(
            geometry.strides, taps.shape[n + 1:-1])),
        (0, 0, 0)))
    taps = taps.transpose(
        0, *(axis for i in range(n) for axis in (1 + i, n + 1 + i)), 2 * n + 1)
    taps = taps.reshape(taps.shape[0], *sizes, taps.shape[-1])
    starts = (first * d - lo for first, d, (lo, _) in zip(
        firsts, geometry.dilation, geometry.padding))
    return lax.pad(taps, zero, (
        (0, 0, 0),
        *((start, fine - size - start, 0) for start, fine, size in zip(
            starts, geometry.fine_size, sizes)),
        (0, 0, 0)))

  steps = tuple(s if d == 1 else 1 for s, d in zip(
      geometry.strides, geometry.dilation))
  return functools.reduce(jnp.add, map(layer, itertools.product(*(
      range(0, k, step) for k, step in zip(geometry.kernel_size, steps)))))
