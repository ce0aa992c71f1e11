"""Groups of channels as the leading axis of a product of matrices.

The channels of an array are ordered by group. For one product of matrices per
group, the groups become the first axis. Groups of few channels are first
*bundled*: several groups become one, whose kernel is block-diagonal. This adds
multiplications by zero, but many products of tiny matrices take up to twice as
long as fewer ones of small matrices.
"""

import dataclasses

import jax
import numpy as np

from tconv.geometry import Geometry

# Groups with fewer channels on both sides are bundled.
_CHANNELS = 8


def bundled(geometry: Geometry, fine: int, coarse: int) -> Geometry:
  """The geometry whose groups are bundles of those of another.

  Args:
    geometry: sizes that relate the arrays.
    fine: number of channels of a group on the fine grid.
    coarse: number of channels of a group on the coarse grid.
  """
  groups = geometry.feature_group_count
  size = next(size for size in range(1, groups + 1) if groups % size == 0
              and (size == groups or size * max(fine, coarse) >= _CHANNELS))
  return dataclasses.replace(geometry, feature_group_count=groups // size)


def bundle(kernel: jax.Array, geometry: Geometry
           ) -> tuple[jax.Array, Geometry]:
  """Bundles the groups of a kernel.

  Args:
    kernel: [*K, C / groups, O] kernel.
    geometry: sizes that relate the arrays.

  Returns:
    The [*K, C / bundles, O] kernel, zero between different groups, and its
    geometry.
  """
  *taps, fine, features = kernel.shape
  groups = geometry.feature_group_count
  geometry = bundled(geometry, fine, features // groups)
  bundles = geometry.feature_group_count
  size = groups // bundles
  if size > 1:
    kernel = kernel.reshape(-1, 1, fine, bundles, size, features // groups)
    kernel = kernel * _diagonal(size, kernel.dtype)
    kernel = kernel.reshape(*taps, size * fine, features)
  return kernel, geometry


def unbundle(kernel: jax.Array, groups: int, bundles: int) -> jax.Array:
  """Undoes `bundle`, and drops what is between different groups.

  Args:
    kernel: [*K, C / bundles, O] kernel.
    groups: number of groups.
    bundles: number of bundles.

  Returns:
    [*K, C / groups, O] kernel.
  """
  size = groups // bundles
  if size == 1:
    return kernel
  *taps, fine, features = kernel.shape
  kernel = kernel.reshape(
      -1, size, fine // size, bundles, size, features // groups)
  kernel = (kernel * _diagonal(size, kernel.dtype)).sum(1)
  return kernel.reshape(*taps, fine // size, features)


def _diagonal(size: int, dtype) -> np.ndarray:
  """[1, size, 1, 1, size, 1] identity matrix."""
  return np.eye(size, dtype=dtype)[None, :, None, None, :, None]


def split(a: jax.Array, groups: int) -> jax.Array:
  """[M, groups * C] -> [groups, M, C]."""
  a = a.reshape(a.shape[0], groups, a.shape[1] // groups)
  return a.transpose(1, 0, 2)


def join(a: jax.Array) -> jax.Array:
  """[groups, M, C] -> [M, groups * C]."""
  a = a.transpose(1, 0, 2)
  return a.reshape(a.shape[0], a.shape[1] * a.shape[2])
