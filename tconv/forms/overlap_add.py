"""One matmul for all patches, and a sum where patches overlap.

Each of the three operations is a matmul with a matrix of patches, which has one
row for each coarse position. The patches are copied from the fine grid
(im2col), or added to it (col2im). No product multiplies an inserted zero.

All patches together are many times larger than the grid. So large arrays are
processed in blocks of rows, whose patches stay in the cache.

Letters in the einsums: m coarse positions of all images, q taps and fine
channels, o coarse channels. Groups are a leading axis.

Further option:
  for_cpu: whether to suit a CPU: patches in blocks that stay in its cache, and
    copied in calls of their own. Accelerators use neither.
"""

import functools
import math

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tconv.forms import layout
from tconv.forms import patches
from tconv.forms import rows
from tconv.geometry import Geometry

# Bytes of patches in a block. Times differ little from 2 to 8 MiB. A larger
# block leaves the cache and needs new pages.
BLOCK = 8 * 2**20


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None,
                   for_cpu: bool = True) -> jax.Array:
  """Transposes a convolution by stamping the kernel at every coarse position.

  The value at each coarse position scales the whole kernel, which gives a patch
  of the fine grid. All patches are one matmul of [N * coarse, O] by
  [O, K * C]. Patches that overlap are added.
  """
  batch, channels = y.shape[0], kernel.shape[-2] * geometry.feature_group_count
  dtype = preferred_element_type or y.dtype
  if y.shape[-1] == geometry.feature_group_count:
    return _scale_kernels(y.astype(dtype), kernel, geometry)
  weights = _matrices(kernel, geometry)

  def stamp(y, block):
    stamps = _product('mo,qo->mq', _matrices(y, geometry), weights, precision,
                      dtype)
    x = patches.overlap(stamps.reshape(
        -1, batch, *block.coarse_size, *block.kernel_size,
        kernel.shape[-2]), block)
    return jnp.moveaxis(x, 0, -2).reshape(batch, *block.fine_size, channels)

  def add(x, block, first, start):
    stamped = stamp(_cut(y, first, block.coarse_size[0]), block)
    stamped += _cut(x, start, block.fine_size[0])
    return lax.dynamic_update_slice_in_dim(x, stamped, start, 1)

  size = _block_rows(batch, channels, dtype, geometry) if for_cpu else None
  if size is None:
    return stamp(y, geometry)
  x = layout.zeros((batch, *geometry.fine_size, channels), dtype, like=y)
  return rows.fold(add, x, geometry, size)


def _scale_kernels(y: jax.Array, kernel: jax.Array, geometry: Geometry
                   ) -> jax.Array:
  """Transposes a convolution to groups of one coarse channel.

  Products are fused into the sum: no patch is written to memory.
  """
  *taps, fine, coarse = kernel.shape
  kernel = jnp.swapaxes(kernel, -1, -2).reshape(
      *(1,) * (y.ndim - 1), *taps, coarse, fine)
  stamps = kernel * y.reshape(*y.shape[:-1], *(1,) * len(taps), coarse, 1)
  return patches.overlap(
      stamps.reshape(*y.shape[:-1], *taps, coarse * fine), geometry)


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *,
         precision=None, preferred_element_type=None,
         for_cpu: bool = True) -> jax.Array:
  """Convolves by one matmul of [N * coarse, K * C] patches by [K * C, O]."""
  batch, channels, features = x.shape[0], x.shape[-1], kernel.shape[-1]
  dtype = preferred_element_type or x.dtype
  weights = _matrices(kernel, geometry)

  def multiply(*block):
    seen = patches.extract(x, geometry, *block, call=for_cpu)
    y = layout.join(_product('mq,qo->mo', seen, weights, precision, dtype))
    return y.reshape(batch, -1, *geometry.coarse_size[1:], features)

  size = _block_rows(batch, channels, x.dtype, geometry) if for_cpu else None
  if size is None:
    return multiply().reshape(batch, *geometry.coarse_size, features)
  return rows.loop(
      lambda y, first, _: lax.dynamic_update_slice_in_dim(
          y, multiply(first, size), first, 1),
      layout.zeros((batch, *geometry.coarse_size, features), dtype, like=x),
      geometry.coarse_size[0], size)


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry, *,
                     precision=None, preferred_element_type=None,
                     for_cpu: bool = True) -> jax.Array:
  """Computes the kernel gradient by one matmul of patches and `y`.

  It is a product of [O, N * coarse] by [N * coarse, K * C], or the transpose of
  that.
  """
  batch, channels, features = x.shape[0], x.shape[-1], y.shape[-1]
  dtype = preferred_element_type or x.dtype
  groups = geometry.feature_group_count
  # Columns of the matrices of a group: those of patches, and those of y.
  columns = (math.prod(geometry.kernel_size) * channels // groups,
             features // groups)
  # One of two matrices whose rows are summed must be transposed. It should be
  # y, the smaller one, although the result is then transposed as well. This is
  # faster if there are more rows than columns of y.
  positions = batch * math.prod(geometry.coarse_size)
  swap = not isinstance(positions, int) or positions > columns[1]

  def multiply(y, *block):
    seen = patches.extract(x, geometry, *block, call=for_cpu)
    y = _matrices(y, geometry)
    if swap:  # The barrier makes XLA transpose y at once, not in the product.
      y = lax.optimization_barrier(jnp.swapaxes(y, 1, 2))
      return _product('om,mq->oq', y, seen, precision, dtype)
    return _product('mq,mo->qo', seen, y, precision, dtype)

  def add(size, total, first, again):
    part = _cut(y, first, size)
    row = lax.broadcasted_iota(np.int32, part.shape, 1)
    part = jnp.where(row < again, jnp.zeros((), part.dtype), part)
    return total + multiply(part, first, size)

  size = _block_rows(batch, channels, x.dtype, geometry) if for_cpu else None
  if size is None:
    kernel = multiply(y)
  else:
    shape = columns[::-1] if swap else columns
    kernel = rows.loop(
        functools.partial(add, size),
        layout.zeros((groups, *shape), dtype, like=x),
        geometry.coarse_size[0], size)
  if swap:  # The barrier keeps XLA from swapping the two back.
    kernel = jnp.swapaxes(lax.optimization_barrier(kernel), 1, 2)
  return layout.join(kernel).reshape(
      *geometry.kernel_size, channels // groups, features)


def _cut(a: jax.Array, first, count: int) -> jax.Array:
  """Rows of an [N, *size, C] array, from row `first` on."""
  return lax.dynamic_slice_in_dim(a, first, count, 1)


def _matrices(a: jax.Array, geometry: Geometry) -> jax.Array:
  """[..., groups * C] -> [groups, M, C], a matrix for each group."""
  return layout.split(a.reshape(-1, a.shape[-1]), geometry.feature_group_count)


def _product(letters: str, a: jax.Array, b: jax.Array, precision, dtype
             ) -> jax.Array:
  """An einsum of matrices for each group, the first axis of all arrays."""
  product = functools.partial(jnp.einsum, letters, precision=precision,
                              preferred_element_type=dtype)
  if a.shape[0] == 1:  # XLA would copy arrays of more than two axes.
    return product(a[0], b[0])[None]
  return jax.vmap(product)(a, b)


def _block_rows(batch: int, channels: int, dtype, geometry: Geometry
                ) -> int | None:
  """Number of coarse rows in a block; None if one block is enough.

  Up to three times the size of a block, one product is faster than a loop.
  """
  values = batch * channels * math.prod(geometry.kernel_size)
  return rows.count(values * np.dtype(dtype).itemsize, geometry, BLOCK,
                    smallest=3 * BLOCK)
