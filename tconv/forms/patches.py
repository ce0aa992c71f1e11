"""Patches of the fine grid, one for every coarse position."""

import functools
import math

import jax
from jax import lax
import jax.numpy as jnp

from tconv.geometry import Geometry


def overlap(patches: jax.Array, geometry: Geometry) -> jax.Array:
  """Lays patches over the fine grid and adds where they meet (col2im).

  Patch `i` covers the fine positions `i * s + k * d - low` for its taps `k`.
  Taps `s` apart fall on the same phase of the grid, so each axis is a sum of a
  few shifted copies, ceil(k_eff / s) of them, and one interleaving.

  Args:
    patches: [N, *coarse, *K, C] array.
    geometry: sizes that relate the two grids.

  Returns:
    [N, *fine, C] array.
  """
  for axis in reversed(range(geometry.num_axes)):
    patches = _overlap_axis(patches, geometry, axis)
  return patches


def _overlap_axis(patches: jax.Array, geometry: Geometry,
                  axis: int) -> jax.Array:
  """[N, *coarse[:a + 1], *K[:a + 1], *fine[a + 1:], C], one axis further."""
  stride = geometry.strides[axis]
  low, _ = geometry.padding[axis]
  fine, coarse = geometry.fine_size[axis], geometry.coarse_size[axis]
  taps = geometry.kernel_size[axis]
  effective = geometry.effective_kernel_size[axis]
  shifts = -(-effective // stride)
  # Bring the axis next to its taps: [before, coarse, taps, after].
  patches = jnp.moveaxis(patches, axis + 1, 2 * axis + 1)
  before, after = patches.shape[:2 * axis + 1], patches.shape[2 * axis + 3:]
  patches = patches.reshape(math.prod(before), coarse, taps, math.prod(after))
  zero = jnp.zeros((), patches.dtype)
  patches = lax.pad(patches, zero, (
      (0, 0, 0), (0, 0, 0),
      (0, shifts * stride - effective, geometry.dilation[axis] - 1),
      (0, 0, 0)))
  total = functools.reduce(jnp.add, (
      lax.pad(patches[:, :, m * stride:(m + 1) * stride], zero,
              ((0, 0, 0), (m, shifts - 1 - m, 0), (0, 0, 0), (0, 0, 0)))
      for m in range(shifts)))
  length = (coarse + shifts - 1) * stride
  total = total.reshape(math.prod(before), length, math.prod(after))
  total = lax.pad(total, zero, (
      (0, 0, 0), (-low, fine + low - length, 0), (0, 0, 0)))
  return total.reshape(*before, fine, *after)

