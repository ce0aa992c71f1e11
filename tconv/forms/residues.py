"""A dilated kernel, as a plain kernel on several grids that do not meet.

Taps that are `dilation` apart tie coarse position i to the fine positions
i * stride + k * dilation - low. Coarse positions with one residue b modulo
dilation / gcd(stride, dilation) reach, of the fine grid, only positions with
one residue modulo the dilation:

    i = j * d' + b  reaches  (j * s' + k) * d + b * s - low,

with s' and d' the stride and the dilation over their greatest common divisor.
Each residue is thus an operation of stride s' with a kernel that is not
dilated. All of them become one operation when the residues are moved into the
batch. No zero is written between taps or between positions, which is what
devices do that know no dilation.
"""

import math

import jax
from jax import lax
import jax.numpy as jnp

from tconv.forms import vjp
from tconv.geometry import Geometry
from tconv.geometry import Size


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   inner, precision=None,
                   preferred_element_type=None) -> jax.Array:
  """Transposes a convolution: residue by residue, then woven together.

  Args:
    y: [N, *coarse, O] array.
    kernel: [*K, C / groups, O] kernel of the forward convolution.
    geometry: sizes that relate the two grids.
    inner: function from an operation's name to the function that computes it,
      for a kernel that is not dilated.
    precision: as in `jax.lax.conv_general_dilated`.
    preferred_element_type: dtype to accumulate in and to return.

  Returns:
    [N, *fine, C] array.
  """
  x = inner('conv_transpose')(
      _split(y, geometry), kernel, _plain(geometry), precision=precision,
      preferred_element_type=preferred_element_type)
  return _join(x, geometry, y.shape[0])


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *, inner,
         precision=None, preferred_element_type=None) -> jax.Array:
  """Convolves, residue by residue.

  Args:
    x: [N, *fine, C] array.
    kernel: [*K, C / groups, O] kernel.
    geometry: sizes that relate the two grids.
    inner: as in `conv_transpose`.
    precision: as in `conv_transpose`.
    preferred_element_type: as in `conv_transpose`.

  Returns:
    [N, *coarse, O] array.
  """
  y = inner('conv')(
      _unjoin(x, geometry), kernel, _plain(geometry), precision=precision,
      preferred_element_type=preferred_element_type)
  return vjp.pull_back(
      lambda y: _split(y, geometry),
      (x.shape[0], *geometry.coarse_size, y.shape[-1]), y)


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry, *, inner,
                     precision=None, preferred_element_type=None) -> jax.Array:
  """Gives the kernel; the sum over the batch is one over residues, too.

  Args:
    x: [N, *fine, C] array.
    y: [N, *coarse, O] array.
    geometry: sizes that relate the two grids.
    inner: as in `conv_transpose`.
    precision: as in `conv_transpose`.
    preferred_element_type: as in `conv_transpose`.

  Returns:
    [*K, C / groups, O] array.
  """
  return inner('conv_kernel_grad')(
      _unjoin(x, geometry), _split(y, geometry), _plain(geometry),
      precision=precision, preferred_element_type=preferred_element_type)


def _common(geometry: Geometry) -> Size:
  return tuple(map(math.gcd, geometry.strides, geometry.dilation))


def _residues(geometry: Geometry) -> Size:
  """Number of residues of the coarse positions on each axis."""
  return tuple(d // q for d, q in zip(geometry.dilation, _common(geometry)))


def _plain(geometry: Geometry) -> Geometry:
  """The operation on the positions of one residue, without padding."""
  ones, zeros = (1,) * geometry.num_axes, ((0, 0),) * geometry.num_axes
  strides = tuple(s // q for s, q in zip(geometry.strides, _common(geometry)))
  coarse_size = tuple(
      -(-c // d) for c, d in zip(geometry.coarse_size, _residues(geometry)))
  fine_size = tuple((c - 1) * s + k for c, s, k in zip(
      coarse_size, strides, geometry.kernel_size))
  return Geometry(fine_size, coarse_size, geometry.kernel_size, strides, ones,
                  zeros, geometry.feature_group_count)


def _split(y: jax.Array, geometry: Geometry) -> jax.Array:
  """[N, *coarse, O] -> [N * residues, *plain coarse, O].

  The batch stays outermost, as it may be shared by many devices.
  """
  n, residues = geometry.num_axes, _residues(geometry)
  size = _plain(geometry).coarse_size
  y = lax.pad(y, jnp.zeros((), y.dtype), [
      (0, 0, 0), *((0, c * d - own, 0) for c, d, own in zip(
          size, residues, geometry.coarse_size)), (0, 0, 0)])
  y = y.reshape(y.shape[0], *(m for pair in zip(size, residues) for m in pair),
                y.shape[-1])
  y = y.transpose(0, *range(2, 2 * n + 1, 2), *range(1, 2 * n, 2), 2 * n + 1)
  return y.reshape(y.shape[0] * math.prod(residues), *size, y.shape[-1])


def _join(x: jax.Array, geometry: Geometry, batch: int) -> jax.Array:
  """[N * residues, *plain fine, C] -> [N, *fine, C]."""
  residues = _residues(geometry)
  x = x.reshape(batch, *residues, *x.shape[1:])
  place = geometry.num_axes  # Of an axis, after those of the other residues.
  for axis in range(geometry.num_axes):  # Each takes away one of residues.
    x = _weave(x, place, geometry.strides[axis], geometry.dilation[axis])
    low, size = geometry.padding[axis][0], geometry.fine_size[axis]
    edges = [(0, 0, 0)] * x.ndim
    edges[place] = (-low, low + size - x.shape[place], 0)
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
  return x


def _weave(x: jax.Array, axis: int, stride: int, dilation: int) -> jax.Array:
  """Puts position u of residue b at u * dilation + b * stride.

  Args:
    x: [N, residues, ..., U, ...] array.
    axis: axis of U in the result, one less than in `x`.
    stride: steps between residues.
    dilation: steps between positions.

  Returns:
    [N, ..., V, ...] array, zero where there is no position.
  """
  residues = x.shape[1]
  zero = jnp.zeros((), x.dtype)
  farthest = (residues - 1) * stride // dilation
  parts = {}
  for b in range(residues):
    blocks, offset = divmod(b * stride, dilation)
    edges = [(0, 0, 0)] * (x.ndim - 1)
    edges[axis] = (blocks, farthest - blocks, 0)
    parts[offset] = lax.pad(
        lax.index_in_dim(x, b, 1, keepdims=False), zero, edges)
  # The offsets are the multiples of gcd(stride, dilation).
  woven = jnp.stack([parts[offset] for offset in sorted(parts)], axis + 1)
  woven = jnp.expand_dims(woven, axis + 2)
  edges = [(0, 0, 0)] * woven.ndim
  edges[axis + 2] = (0, dilation // residues - 1, 0)
  woven = lax.pad(woven, zero, edges)
  return woven.reshape(*woven.shape[:axis], woven.shape[axis] * dilation,
                       *woven.shape[axis + 3:])


def _unjoin(x: jax.Array, geometry: Geometry) -> jax.Array:
  """Undoes `_join`; zero where that crops."""
  batch = x.shape[0]
  shape = (batch * math.prod(_residues(geometry)), *_plain(geometry).fine_size,
           x.shape[-1])
  return vjp.pull_back(lambda grids: _join(grids, geometry, batch), shape, x)
