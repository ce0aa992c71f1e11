"""One matmul with every patch; overlapping patches are added up.

Each of the three operations is a matmul of a matrix of patches, which has a row
for every coarse position. They are added to the fine grid or copied from it
(together known as GEMM, col2im and im2col). No product is with an inserted
zero. Patches are many times larger than the grid that they come from, so large
arrays are worked on in blocks of rows, whose patches stay in the cache.

Letters of products: m positions, k taps, g groups, c fine and o coarse channels
of a group.
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

# Bytes of patches in a block, or one row. From 2 to 8 MiB times differ little;
# above, patches leave the cache, and the allocator asks for new pages.
BLOCK = 8 * 2**20


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None,
                   blocks: bool = True) -> jax.Array:
  """Transposes a convolution by stamping the kernel at every coarse position.

  Each coarse position scales the whole kernel by its value, which gives a patch
  of the fine grid; where patches overlap, they add. The scaling of all patches
  is one matmul of [N * coarse, O] by [O, K * C].

  Args:
    y: [N, *coarse, O] array.
    kernel: [*K, C / groups, O] kernel of the forward convolution.
    geometry: sizes that relate the two grids.
    precision: as in `jax.lax.dot_general`.
    preferred_element_type: dtype to accumulate in and to return.
    blocks: whether to work on large arrays block by block.

  Returns:
    [N, *fine, C] array.
  """
  batch, channels = y.shape[0], kernel.shape[-2] * geometry.feature_group_count
  dtype = preferred_element_type or y.dtype

  def stamp(y, block):
    sizes = _sizes(batch, channels, y.shape[-1], block)
    if sizes['o'] == 1:  # Fused into the sum: no patch is ever written.
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

  count = _block_rows(batch, channels, dtype, geometry, blocks)
  if count is None or _sizes(batch, channels, y.shape[-1], geometry)['o'] == 1:
    return stamp(y, geometry)
  x = layout.zeros((batch, *geometry.fine_size, channels), dtype, like=y)
  return rows.fold(add, x, geometry, count)


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *,
         precision=None, preferred_element_type=None,
         blocks: bool = True) -> jax.Array:
  """Convolves by one matmul of [N * coarse, K * C] patches by [K * C, O].

  Args:
    x: [N, *fine, C] array.
    kernel: [*K, C / groups, O] kernel.
    geometry: sizes that relate the two grids.
    precision: as in `conv_transpose`.
    preferred_element_type: as in `conv_transpose`.
    blocks: as in `conv_transpose`.

  Returns:
    [N, *coarse, O] array.
  """
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

  count = _block_rows(batch, channels, x.dtype, geometry, blocks)
  if count is None:
    return multiply(x, geometry)
  y = layout.zeros((batch, *geometry.coarse_size, features), dtype, like=x)
  return rows.fold(write, y, geometry, count)


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry, *,
                     precision=None, preferred_element_type=None,
                   blocks: bool = True) -> jax.Array:
  """Gives the kernel by one matmul of patches, [K * C, N * coarse], and y.

  Args:
    x: [N, *fine, C] array.
    y: [N, *coarse, O] array.
    geometry: sizes that relate the two grids.
    precision: as in `conv_transpose`.
    preferred_element_type: as in `conv_transpose`.
    blocks: as in `conv_transpose`.

  Returns:
    [*K, C / groups, O] array.
  """
  batch, channels, features = x.shape[0], x.shape[-1], y.shape[-1]
  dtype = preferred_element_type or x.dtype
  whole = _sizes(batch, channels, features, geometry)
  # Of two matrices that are summed over their rows, XLA transposes the first.
  # That should be y, the smaller one, though the result is transposed then: it
  # pays if there are more rows than the result has columns.
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

  count = _block_rows(batch, channels, x.dtype, geometry, blocks)
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
  """The block of [N, *size, C] that begins at row `first`."""
  return lax.dynamic_slice_in_dim(a, first, size[0], 1)


def _sizes(batch: int, channels: int, features: int, block: Geometry) -> dict:
  """What the letters of the products stand for."""
  groups = block.feature_group_count
  return {'m': batch * math.prod(block.coarse_size),
          'k': math.prod(block.kernel_size), 'g': groups,
          'c': channels // groups, 'o': features // groups}


def _product(letters: str, a: jax.Array, b: jax.Array, sizes: dict, precision,
             dtype) -> jax.Array:
  """An einsum of two arrays that are first given the shape of their letters."""
  shape = [sizes[letter] for letter in letters.split('->')[1]]
  if sizes['g'] == 1:  # Of more than two axes, XLA would make copies.
    letters = letters.replace('g', '').replace('kc', 'q')
    sizes = {**sizes, 'q': sizes['k'] * sizes['c']}
  lhs, rhs = ([sizes[letter] for letter in term]
              for term in letters.split('->')[0].split(','))
  product = jnp.einsum(letters, a.reshape(lhs), b.reshape(rhs),
                       precision=precision, preferred_element_type=dtype)
  return product.reshape(shape)


def _block_rows(batch: int, channels: int, dtype, geometry: Geometry,
                blocks: bool) -> int | None:
  """Coarse rows whose patches fill a block; None if there are few of them."""
  sizes = (batch, *geometry.coarse_size)
  if (not blocks or not geometry.num_axes
      or not all(isinstance(n, int) for n in sizes)):
    return None  # There are no rows, or it is not known how large they are.
  size, *others = geometry.coarse_size
  row = (batch * math.prod(others) * math.prod(geometry.kernel_size)
         * channels * np.dtype(dtype).itemsize)
  return None if size * row <= 2 * BLOCK else max(1, BLOCK // row)
