"""Patches of the fine grid, one for each coarse position."""

import functools
import itertools
import math
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tconv.forms import calls
from tconv.geometry import Geometry


def extract(x: jax.Array, geometry: Geometry, first=0,
            rows: int | None = None, *, call: bool) -> jax.Array:
  """Copies the patch that each coarse position reads (im2col).

  Args:
    x: [N, *fine, groups * C] array.
    geometry: sizes that relate the two grids, without negative padding.
    first: first position on the first coarse axis, an int or a scalar array.
    rows: number of positions on that axis; by default, all.
    call: whether to copy in a call that XLA does not inline. XLA's CPU compiler
      would fuse the copy with the reshape into matrices, and find each element
      by divisions, which takes up to five times as long. In a loop, it would
      also write a padded copy of `x` first.

  Returns:
    [groups, N * coarse, K * C] array, zero outside of the fine grid.
  """
  coarse = geometry.coarse_size if rows is None else (
      rows, *geometry.coarse_size[1:])
  copy = functools.partial(_extract, geometry=geometry, coarse=coarse)
  if call:
    copy = calls.outlined(copy, 'tconv_patches')
  patches = copy(x, jnp.asarray(first, np.int32))
  return patches.reshape(
      patches.shape[0], x.shape[0] * math.prod(coarse), -1)


def _extract(x: jax.Array, first: jax.Array, geometry: Geometry,
             coarse: tuple[int, ...]) -> jax.Array:
  """[groups, N, *coarse, *K, C]; without its last axis if C is 1.

  One gather, in the order of the result: a transpose would copy it again.
  """
  n, groups = geometry.num_axes, geometry.feature_group_count
  if n == 0:
    return x.reshape(x.shape[0], groups, -1).swapaxes(0, 1)
  x = lax.pad(x, jnp.zeros((), x.dtype), (
      (0, 0, 0), *((lo, hi, 0) for lo, hi in geometry.padding), (0, 0, 0)))
  x = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
  # On the last axis, the taps of a patch are neighbors, and one slice.
  extent = geometry.effective_kernel_size[-1]
  shape = (groups, x.shape[0], *coarse, *geometry.kernel_size[:-1])
  position = functools.partial(lax.broadcasted_iota, np.int32, shape)
  starts = [position(2 + axis) * stride
            for axis, stride in enumerate(geometry.strides)]
  starts[0] += first * geometry.strides[0]
  for axis, dilation in enumerate(geometry.dilation[:-1]):
    starts[axis] += position(2 + n + axis) * dilation
  seen = lax.gather(
      x, jnp.stack(starts, -1),
      lax.GatherDimensionNumbers(
          offset_dims=(2 * n + 1, 2 * n + 2),
          collapsed_slice_dims=tuple(range(1, n)),
          start_index_map=tuple(range(1, n + 1)),
          operand_batching_dims=(0, n + 1),
          start_indices_batching_dims=(1, 0)),
      (*(1,) * n, extent, 1, x.shape[-1]),
      mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)
  seen = lax.slice_in_dim(seen, 0, extent, geometry.dilation[-1],
                          axis=2 * n + 1)
  # XLA may place an axis of size 1 elsewhere in memory, and then copy.
  return seen[..., 0] if x.shape[-1] == 1 else seen


def overlap(patches: jax.Array, geometry: Geometry) -> jax.Array:
  """Places patches on the fine grid and adds where they overlap (col2im).

  The fine grid consists of blocks of s positions, one for each coarse position.
  Up to s neighboring taps of a patch lie in the same block. So the result is a
  sum of a few layers, each shifted by whole blocks: ceil(k / s) on each axis,
  or k for a dilated kernel.

  Args:
    patches: [..., *coarse, *K, C] array.
    geometry: sizes that relate the two grids.

  Returns:
    [..., *fine, C] array.
  """
  n = geometry.num_axes
  leading = patches.shape[:-2 * n - 1]
  zero = jnp.zeros((), patches.dtype)
  axes = [_layers(*sizes) for sizes in zip(
      geometry.kernel_size, geometry.strides, geometry.dilation)]
  blocks = [max(c + parts[-1].block, -(-(lo + fine) // s))
            for c, parts, s, fine, (lo, _) in zip(
                geometry.coarse_size, axes, geometry.strides,
                geometry.fine_size, geometry.padding)]

  def layer(parts):
    """Places some neighboring taps of all patches: [..., *blocks, *s, C]."""
    taps = patches[..., *(
        slice(part.first, part.first + part.count) for part in parts), :]
    return lax.pad(taps, zero, (
        *((0, 0, 0),) * len(leading),
        *((part.block, b - c - part.block, 0)
          for part, b, c in zip(parts, blocks, geometry.coarse_size)),
        *((part.phase, s - part.count - part.phase, 0)
          for part, s in zip(parts, geometry.strides)),
        (0, 0, 0)))

  x = functools.reduce(jnp.add, map(layer, itertools.product(*axes)))
  first = len(leading)
  x = x.transpose(
      *range(first), *(axis for i in range(first, first + n)
                       for axis in (i, n + i)), first + 2 * n)
  x = x.reshape(
      *leading, *(b * s for b, s in zip(blocks, geometry.strides)),
      x.shape[-1])
  return x[..., *(slice(lo, lo + fine) for (lo, _), fine in zip(
      geometry.padding, geometry.fine_size)), :]


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
