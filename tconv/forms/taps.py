"""One tap at a time: a strided slice of the fine grid times the tap.

Each tap of a kernel connects the coarse grid with a shifted, strided slice of
the fine grid. So a convolution is a sum of products over the taps, and a kernel
gradient is one product for each tap. No patches are copied. For depthwise
convolutions, whose products are elementwise, this is the fastest form on CPUs.
"""

from collections.abc import Iterator
import functools
import itertools
import math

import jax
from jax import lax
import jax.numpy as jnp

from tconv.forms import layout
from tconv.forms import rows
from tconv.forms import vjp
from tconv.geometry import Geometry

# Bytes of all products of a block, in depthwise kernel gradients.
BLOCK = 4 * 2**20


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution, as the pullback of `conv`."""
  dtype = preferred_element_type or y.dtype
  kernel = kernel.astype(dtype)
  channels = kernel.shape[-2] * geometry.feature_group_count
  return vjp.pull_back(
      lambda x: conv(x, kernel, geometry, precision=precision),
      (y.shape[0], *geometry.fine_size, channels), y.astype(dtype))


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *,
         precision=None, preferred_element_type=None) -> jax.Array:
  """Convolves: sums all slices, each times its tap."""
  dtype = preferred_element_type or x.dtype
  n, groups = geometry.num_axes, geometry.feature_group_count
  if (x.shape[-1], kernel.shape[-1]) == (groups, groups):
    taps = kernel.reshape(-1, *(1,) * (n + 1), groups)
    multiply = lambda seen, tap: seen.astype(dtype) * tap
  else:
    taps = _split(kernel, groups)
    taps = taps.reshape(-1, *taps.shape[n:])
    multiply = lambda seen, tap: _join(jnp.einsum(
        '...gc,cgo->...go', _split(seen, groups), tap, precision=precision,
        preferred_element_type=dtype))
  return functools.reduce(jnp.add, map(multiply, _seen(x, geometry), taps))


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry, *,
                     precision=None, preferred_element_type=None) -> jax.Array:
  """Computes the kernel gradient: for each tap, its slice times `y`, summed."""
  dtype = preferred_element_type or x.dtype
  groups = geometry.feature_group_count
  if (x.shape[-1], y.shape[-1]) == (groups, groups):
    return _depthwise_kernel_grad(x, y.astype(dtype), geometry)
  multiply = lambda seen: _join(jnp.einsum(
      '...gc,...go->cgo', _split(seen, groups), _split(y, groups),
      precision=precision, preferred_element_type=dtype))
  kernel = jnp.stack([multiply(seen) for seen in _seen(x, geometry)])
  return kernel.reshape(*geometry.kernel_size, *kernel.shape[1:])


def _depthwise_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry
                           ) -> jax.Array:
  """Sums products of channels by themselves, block by block of rows.

  Every tap reads all of `y`. In blocks, the arrays stay in the cache meanwhile.
  """
  taps, channels = math.prod(geometry.kernel_size), y.shape[-1]

  def multiply(x, y, block):
    return jnp.stack([(seen * y).sum(range(y.ndim - 1))
                      for seen in _seen(x, block)])

  def add(kernel, block, first, start):
    part = lax.dynamic_slice_in_dim(x, start, block.fine_size[0], 1)
    return kernel + multiply(part, lax.dynamic_slice_in_dim(
        y, first, block.coarse_size[0], 1), block)

  count = rows.count(y.shape[0] * channels * taps * y.dtype.itemsize, geometry,
                     BLOCK, smallest=8 * BLOCK)
  if count is None:
    kernel = multiply(x, y, geometry)
  else:
    kernel = rows.fold(
        add, layout.zeros((taps, channels), y.dtype, like=y), geometry, count)
  return kernel.reshape(*geometry.kernel_size, 1, channels)


def _seen(x: jax.Array, geometry: Geometry) -> Iterator[jax.Array]:
  """Yields the [N, *coarse, C] slice of the fine grid that each tap reads."""
  x = lax.pad(x, jnp.zeros((), x.dtype), (
      (0, 0, 0), *((lo, hi, 0) for lo, hi in geometry.padding), (0, 0, 0)))
  for tap in itertools.product(*map(range, geometry.kernel_size)):
    starts = [k * d for k, d in zip(tap, geometry.dilation)]
    stops = [start + (c - 1) * s + 1 for start, c, s in zip(
        starts, geometry.coarse_size, geometry.strides)]
    yield lax.slice(x, (0, *starts, 0), (x.shape[0], *stops, x.shape[-1]),
                    (1, *geometry.strides, 1))


def _split(a: jax.Array, groups: int) -> jax.Array:
  """[..., C] -> [..., groups, C / groups]."""
  return a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)


def _join(a: jax.Array) -> jax.Array:
  """[..., groups, C / groups] -> [..., C]."""
  return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])
