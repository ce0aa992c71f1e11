"""One matmul for all patches, and a sum where patches overlap.

Each of the three operations is a matmul with a matrix of patches, which has one
row for each coarse position. The patches are copied from the fine grid
(im2col), or added to it (col2im). No product multiplies an inserted zero.

All patches together are many times larger than the grid. So large arrays are
processed in blocks of rows, whose patches stay in the cache.

Letters in the einsums: m positions, k taps, g groups, c fine and o coarse
channels of a group.

Further option:
  blocks: whether to process large arrays block by block.
"""

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
                   blocks: bool = True) -> jax.Array:
  """Transposes a convolution by stamping the kernel at every coarse position.

  The value at each coarse position scales the whole kernel, which gives a patch
  of the fine grid. All patches are one matmul of [N * coarse, O] by
  [O, K * C]. Patches that overlap are added.
  """
  batch, channels = y.shape[0], kernel.shape[-2] * geometry.feature_group_count
  dtype = preferred_element_type or y.dtype

  def stamp(y, block):
    sizes = _sizes(batch, channels, y.shape[-1], block)
    if sizes['o'] == 1:  # Fused into the sum: no patch is written to memory.
      weights = kernel.reshape(1, sizes['k'], sizes['c'], sizes['g'])
      stamps = y.reshape(-1, 1, sizes['g'], 1).astype(dtype) * jnp.swapaxes(
          weights, -1, -2)
    else:
      stamps = _product('mgo,kcgo->mkgc', y, kernel, sizes, precision, dtype)
    return patches.overlap(stamps.reshape(
        batch, *block.coarse_size, *block.kernel_size, channels), block)

  def add(x, block, first, start):
    stamped = stamp(_cut(y, first, block.coarse_size), block)
    stamped += _cut(x, start, block.fine_size)
    return lax.dynamic_update_slice_in_dim(x, stamped, start, 1)

  count = _block_rows(batch, channels, dtype, geometry) if blocks else None
  if count is None or _sizes(batch, channels, y.shape[-1], geometry)['o'] == 1:
    return stamp(y, geometry)
  x = layout.zeros((batch, *geometry.fine_size, channels), dtype, like=y)
  return rows.fold(add, x, geometry, count)


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *,
         precision=None, preferred_element_type=None,
         blocks: bool = True) -> jax.Array:
  """Convolves by one matmul of [N * coarse, K * C] patches by [K * C, O]."""
  batch, channels, features = x.shape[0], x.shape[-1], kernel.shape[-1]
  dtype = preferred_element_type or x.dtype

  def multiply(x, block):
    y = _product(
        'mkgc,kcgo->mgo', patches.extract(x, block), kernel,
        _sizes(batch, channels, features, block), precision, dtype)
    return y.reshape(batch, *block.coarse_size, features)

  def write(y, block, first, start):
    return lax.dynamic_update_slice_in_dim(
        y, multiply(_cut(x, start, block.fine_size), block), first, 1)

  count = _block_rows(batch, channels, x.dtype, geometry) if blocks else None
  if count is None:
    return multiply(x, geometry)
  y = layout.zeros((batch, *geometry.coarse_size, features), dtype, like=x)
  return rows.fold(write, y, geometry, count)


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry, *,
                     precision=None, preferred_element_type=None,
                   blocks: bool = True) -> jax.Array:
  """Computes the kernel gradient by one matmul of patches and `y`.

  The matrix of patches is [K * C, N * coarse].
  """
  batch, channels, features = x.shape[0], x.shape[-1], y.shape[-1]
  dtype = preferred_element_type or x.dtype
  whole = _sizes(batch, channels, features, geometry)
  # XLA transposes the first of two matrices whose rows are summed. It should be
  # y, the smaller one, although the result is then transposed as well. This is
  # faster if there are more rows than columns in the result.
  swap = not isinstance(whole['m'], int) or whole['m'] > whole['o']

  def multiply(x, y, block):
    sizes = _sizes(batch, channels, features, block)
    seen = patches.extract(x, block)
    if swap:
      return _product('mgo,mkgc->gokc', y, seen, sizes, precision, dtype)
    return _product('mkgc,mgo->gkco', seen, y, sizes, precision, dtype)

  def add(total, block, first, start):
    return total + multiply(_cut(x, start, block.fine_size),
                            _cut(y, first, block.coarse_size), block)

  count = _block_rows(batch, channels, x.dtype, geometry) if blocks else None
  if count is None:
    kernel = multiply(x, y, geometry)
  else:
    shape = [whole[letter] for letter in ('gokc' if swap else 'gkco')]
    kernel = rows.fold(
        add, layout.zeros(shape, dtype, like=x), geometry, count)
  if swap:  # The barrier keeps XLA from swapping the two back.
    kernel = lax.optimization_barrier(kernel).transpose(2, 3, 0, 1)
  else:
    kernel = kernel.transpose(1, 2, 0, 3)
  return kernel.reshape(*geometry.kernel_size, whole['c'], features)


def _cut(a: jax.Array, first, size: tuple[int, ...]) -> jax.Array:
  """The block of an [N, *size, C] array that begins at row `first`."""
  return lax.dynamic_slice_in_dim(a, first, size[0], 1)


def _sizes(batch: int, channels: int, features: int, block: Geometry) -> dict:
  """The sizes that the letters of the einsums stand for."""
  groups = block.feature_group_count
  return {'m': batch * math.prod(block.coarse_size),
          'k': math.prod(block.kernel_size), 'g': groups,
          'c': channels // groups, 'o': features // groups}


def _product(letters: str, a: jax.Array, b: jax.Array, sizes: dict, precision,
             dtype) -> jax.Array:
  """An einsum of two arrays after a reshape to the sizes of their letters."""
  shape = [sizes[letter] for letter in letters.split('->')[1]]
  if sizes['g'] == 1:  # XLA would copy arrays of more than two axes.
    letters = letters.replace('g', '').replace('kc', 'q')
    sizes = {**sizes, 'q': sizes['k'] * sizes['c']}
  lhs, rhs = ([sizes[letter] for letter in term]
              for term in letters.split('->')[0].split(','))
  product = jnp.einsum(letters, a.reshape(lhs), b.reshape(rhs),
                       precision=precision, preferred_element_type=dtype)
  return product.reshape(shape)


def _block_rows(batch: int, channels: int, dtype, geometry: Geometry
                ) -> int | None:
  """Number of coarse rows in a block; None if all patches are small."""
  values = batch * channels * math.prod(geometry.kernel_size)
  return rows.count(values * np.dtype(dtype).itemsize, geometry, BLOCK,
                    smallest=2 * BLOCK)
