"""Patches of the fine grid, one for each coarse position."""

import functools
import itertools
from typing import NamedTuple

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

  The fine grid consists of blocks of s positions, one for each coarse position.
  Up to s neighboring taps of a patch lie in the same block. So the result is a
  sum of a few layers, each shifted by whole blocks: ceil(k / s) on each axis,
  or k for a dilated kernel.

  Args:
    patches: [N, *coarse, *K, C] array.
    geometry: sizes that relate the two grids.

  Returns:
    [N, *fine, C] array.
  """
  n = geometry.num_axes
  zero = jnp.zeros((), patches.dtype)
  axes = [_layers(*sizes) for sizes in zip(
      geometry.kernel_size, geometry.strides, geometry.dilation)]
  blocks = [max(c + parts[-1].block, -(-(lo + fine) // s))
            for c, parts, s, fine, (lo, _) in zip(
                geometry.coarse_size, axes, geometry.strides,
                geometry.fine_size, geometry.padding)]

  def layer(parts):
    """Places some neighboring taps of all patches: [N, *blocks, *s, C]."""
    taps = patches[(slice(None),) * (n + 1) + tuple(
        slice(part.first, part.first + part.count) for part in parts)]
    return lax.pad(taps, zero, (
        (0, 0, 0),
        *((part.block, b - c - part.block, 0)
          for part, b, c in zip(parts, blocks, geometry.coarse_size)),
        *((part.phase, s - part.count - part.phase, 0)
          for part, s in zip(parts, geometry.strides)),
        (0, 0, 0)))

  x = functools.reduce(jnp.add, map(layer, itertools.product(*axes)))
  x = x.transpose(
      0, *(axis for i in range(n) for axis in (1 + i, n + 1 + i)), 2 * n + 1)
  x = x.reshape(
      x.shape[0], *(b * s for b, s in zip(blocks, geometry.strides)),
      x.shape[-1])
  starts = [lo for lo, _ in geometry.padding]
  return lax.slice(
      x, (0, *starts, 0),
      (x.shape[0], *(lo + fine for lo, fine in zip(
          starts, geometry.fine_size)), x.shape[-1]))


class _Layer(NamedTuple):
  """Some neighboring taps, which lie in one block of s fine positions.

  Attributes:
    first: first of the taps.
    count: number of taps.
    block: number of blocks between that of tap 0 and theirs.
    phase: position of the first tap in the block.
  """
  first: int
  count: int
  block: int
  phase: int


def _layers(size: int, stride: int, dilation: int) -> list[_Layer]:
  """The taps of one axis, as few layers as possible."""
  step = stride if dilation == 1 else 1
  return [_Layer(first, min(step, size - first), *divmod(
      first * dilation, stride)) for first in range(0, size, step)]
