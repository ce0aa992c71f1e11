"""A dilated kernel as an undilated kernel on several disjoint grids.

A dilated kernel connects coarse position i with the fine positions
i * stride + k * dilation - low. Let s' and d' be the stride s and the dilation
d, each divided by their greatest common divisor. Then

    i = j * d' + b  is connected with  (j * s' + k) * d + b * s - low.

So coarse positions that have the same residue b modulo d' use fine positions
that have the same residue modulo d. For each residue, the operation is one of
stride s' with an undilated kernel. Moving the residues into the batch makes all
of them one operation. It suits devices that do not support dilation and would
otherwise insert zeros between the taps or the positions.

Further option:
  inner: function from the name of an operation to the function that computes
    it for undilated kernels.
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
  """Transposes a convolution for each residue, then interleaves the results."""
  x = inner('conv_transpose')(
      _split(y, geometry), kernel, _plain(geometry), precision=precision,
      preferred_element_type=preferred_element_type)
  return _join(x, geometry, y.shape[0])


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *, inner,
         precision=None, preferred_element_type=None) -> jax.Array:
  """Convolves, with the residues as part of the batch."""
  y = inner('conv')(
      _unjoin(x, geometry), kernel, _plain(geometry), precision=precision,
      preferred_element_type=preferred_element_type)
  return vjp.pull_back(
      lambda y: _split(y, geometry),
      (x.shape[0], *geometry.coarse_size, y.shape[-1]), y)


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry, *, inner,
                     precision=None, preferred_element_type=None) -> jax.Array:
  """Computes the kernel gradient; summing the batch sums the residues, too."""
  return inner('conv_kernel_grad')(
      _unjoin(x, geometry), _split(y, geometry), _plain(geometry),
      precision=precision, preferred_element_type=preferred_element_type)


def _common(geometry: Geometry) -> Size:
  return tuple(map(math.gcd, geometry.strides, geometry.dilation))


def _residues(geometry: Geometry) -> Size:
  """Number of residues of coarse positions on each axis."""
  return tuple(d // q for d, q in zip(geometry.dilation, _common(geometry)))


def _plain(geometry: Geometry) -> Geometry:
  """The geometry of the operation for one residue, without padding."""
  ones, zeros = (1,) * geometry.num_axes, ((0, 0),) * geometry.num_axes
  strides = tuple(s // q for s, q in zip(geometry.strides, _common(geometry)))
  coarse_size = tuple(
      -(-c // d) for c, d in zip(geometry.coarse_size, _residues(geometry)))
  fine_size = tuple((c - 1) * s + k for c, s, k in zip(
      coarse_size, strides, geometry.kernel_size))
  return Geometry(fine_size, coarse_size, geometry.kernel_size, strides, ones,
                  zeros, geometry.feature_group_count)


def _split(y: jax.Array, geometry: Geometry) -> jax.Array:
  """Rearranges [N, *coarse, O] to [N * residues, *plain coarse, O].

  The batch stays outermost, because it may be sharded over devices.
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
  """Rearranges [N * residues, *plain fine, C] to [N, *fine, C]."""
  residues = _residues(geometry)
  x = x.reshape(batch, *residues, *x.shape[1:])
  place = geometry.num_axes  # The fine axis comes after the other residues.
  for axis in range(geometry.num_axes):  # Each step removes one residue axis.
    x = _weave(x, place, geometry.strides[axis], geometry.dilation[axis])
    low, size = geometry.padding[axis][0], geometry.fine_size[axis]
    edges = [(0, 0, 0)] * x.ndim
    edges[place] = (-low, low + size - x.shape[place], 0)
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
  return x


def _weave(x: jax.Array, axis: int, stride: int, dilation: int) -> jax.Array:
  """Moves position u of residue b to u * dilation + b * stride.

  Args:
    x: [N, residues, ..., U, ...] array.
    axis: axis of U in the result, one less than in `x`.
    stride: distance between residues.
    dilation: distance between positions.

  Returns:
    [N, ..., V, ...] array, zero where no position is moved to.
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
  """Undoes `_join`; gives zeros where `_join` crops."""
  batch = x.shape[0]
  shape = (batch * math.prod(_residues(geometry)), *_plain(geometry).fine_size,
           x.shape[-1])
  return vjp.pull_back(lambda grids: _join(grids, geometry, batch), shape, x)
