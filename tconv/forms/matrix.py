"""The convolution written out as a matrix C, and its transpose C^T.

Row i of C holds the taps of the kernel at the fine positions that output i
reads, and zeros elsewhere. For a 3x3 kernel on a 4x4 image, C is 4x16.
"""

import math

import jax
from jax.experimental import sparse as jsparse
import jax.numpy as jnp
import numpy as np

from tconv.geometry import Geometry


def _reach(geometry: Geometry, axis: int) -> np.ndarray:
  """[coarse, K] fine position that each output reads with each tap."""
  i = np.arange(geometry.coarse_size[axis])[:, None]
  k = np.arange(geometry.kernel_size[axis])
  return (i * geometry.strides[axis] + k * geometry.dilation[axis]
          - geometry.padding[axis][0])


def _ungrouped(kernel: jax.Array, groups: int) -> jax.Array:
  """Writes a grouped kernel [*K, C / groups, O] out as [*K, C, O]."""
  *taps, fine, coarse = kernel.shape
  # The transpose of this is a sum of products. XLA's CPU fusions crash on those
  # of 7 or more axes (jaxlib 0.10.2), so the spatial axes are merged.
  kernel = kernel.reshape(-1, 1, fine, groups, coarse // groups)
  same_group = jnp.eye(groups, dtype=kernel.dtype)[None, :, None, :, None]
  return (kernel * same_group).reshape(*taps, groups * fine, coarse)


def conv_matrix(kernel: jax.Array, geometry: Geometry) -> jax.Array:
  """Writes a convolution out as a dense matrix C.

  Args:
    kernel: [*K, C / groups, O] kernel.
    geometry: sizes that relate the two grids.

  Returns:
    [coarse * O, fine * C] matrix C. conv(x) is C @ x, where x and the result
    are flattened in row-major order, channels last.
  """
  n = geometry.num_axes
  matrix = _ungrouped(kernel, geometry.feature_group_count)
  for axis in range(n):
    # [coarse, fine, K]; one where the output reads that position with that tap.
    sees = _reach(geometry, axis)[:, None] == (
        np.arange(geometry.fine_size[axis])[:, None])
    # Replaces the axis at the front by a coarse and a fine one at the end.
    matrix = jnp.tensordot(matrix, sees.astype(kernel.dtype), (0, 2),
                           precision='highest')
  # [C, O, coarse_1, fine_1, coarse_2, ...] -> [*coarse, O, *fine, C]
  matrix = matrix.transpose(
      *range(2, 2 * n + 2, 2), 1, *range(3, 2 * n + 2, 2), 0)
  return matrix.reshape(math.prod(matrix.shape[:n + 1]), -1)


def sparse_conv_matrix(
    kernel: jax.Array, geometry: Geometry) -> jsparse.BCOO:
  """Writes a convolution out as a sparse matrix C.

  Args:
    kernel: [*K, C / groups, O] kernel.
    geometry: sizes that relate the two grids.

  Returns:
    [coarse * O, fine * C] BCOO matrix with one element for each product of the
    convolution.
  """
  n, groups = geometry.num_axes, geometry.feature_group_count
  *taps, channels, features = kernel.shape
  # Every (i, k, c, o) of the trilinear sum: [*coarse, *K, C / groups, O].
  grid = np.ogrid[tuple(
      slice(size) for size in
      (*geometry.coarse_size, *taps, channels, features))]
  coarse, tap, c, o = grid[:n], grid[n:2 * n], grid[-2], grid[-1]
  fine = [i * s + k * d - lo for i, k, s, d, (lo, _) in zip(
      coarse, tap, geometry.strides, geometry.dilation, geometry.padding)]
  inside = np.ones([g.size for g in grid], bool)
  for f, size in zip(fine, geometry.fine_size):
    inside = inside & (f >= 0) & (f < size)
  group = o // (features // groups)
  pick = lambda indices, shape: np.broadcast_to(np.ravel_multi_index(
      np.broadcast_arrays(*indices), shape, mode='wrap'), inside.shape)[inside]
  rows = pick((*coarse, o), (*geometry.coarse_size, features))
  columns = pick((*fine, group * channels + c),
                 (*geometry.fine_size, groups * channels))
  source = pick((*tap, c, o), kernel.shape)
  return jsparse.BCOO(
      (kernel.reshape(-1)[source], jnp.stack([rows, columns], -1)),
      shape=(math.prod(geometry.coarse_size) * features,
             math.prod(geometry.fine_size) * groups * channels),
      unique_indices=True)


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution by multiplying with C^T.

  This form is the reference for the others, at small sizes: C has a row for
  every coarse position and a column for every fine one. Its zeros take part in
  the products, so a single infinite value makes every result NaN.

  Raises:
    ValueError: a spatial size is symbolic.
  """
  sizes = (*geometry.fine_size, *geometry.coarse_size)
  if not all(isinstance(size, int) for size in sizes):
    raise ValueError(
        "method 'matrix' needs spatial sizes that are known when the program "
        f"is traced; got {sizes}. Use method 'auto'.")
  channels = kernel.shape[-2] * geometry.feature_group_count
  # Images are rows here, so x = C^T y becomes x^T = y^T C.
  x = jnp.matmul(
      y.reshape(y.shape[0], math.prod(y.shape[1:])),
      conv_matrix(kernel, geometry), precision=precision,
      preferred_element_type=preferred_element_type)
  return x.reshape(y.shape[0], *geometry.fine_size, channels)
