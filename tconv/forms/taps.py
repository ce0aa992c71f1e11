"""One tap at a time: a strided slice of the fine grid, times the tap.

Each tap of a kernel ties the coarse grid to a shifted, strided slice of the
fine one. So an operation is a sum over taps, or an array of taps, of small
products. Nothing is copied, and for depthwise convolutions, where the products
are elementwise, nothing else is as quick.
"""

from collections.abc import Iterator
import functools
import itertools

import jax
from jax import lax
import jax.numpy as jnp

from tconv.forms import vjp
from tconv.geometry import Geometry


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution: the pullback of `conv`.

  Args:
    y: [N, *coarse, O] array.
    kernel: [*K, C / groups, O] kernel of the forward convolution.
    geometry: sizes that relate the two grids.
    precision: as in `jax.lax.dot_general`.
    preferred_element_type: dtype to accumulate in and to return.

  Returns:
    [N, *fine, C] array.
  """
  dtype = preferred_element_type or y.dtype
  kernel = kernel.astype(dtype)
  channels = kernel.shape[-2] * geometry.feature_group_count
  return vjp.pull_back(
      lambda x: conv(x, kernel, geometry, precision=precision),
      (y.shape[0], *geometry.fine_size, channels), y.astype(dtype))


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *,
         precision=None, preferred_element_type=None) -> jax.Array:
  """Convolves: the sum of all slices, each times its tap.

  Args:
    x: [N, *fine, C] array.
    kernel: [*K, C / groups, O] kernel.
    geometry: sizes that relate the two grids.
    precision: as in `conv_transpose`.
    preferred_element_type: as in `conv_transpose`.

  Returns:
    [N, *coarse, O] array.
  """
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
  """Gives the kernel: for each tap, the products of its slice and `y`, summed.

  Args:
    x: [N, *fine, C] array.
    y: [N, *coarse, O] array.
    geometry: sizes that relate the two grids.
    precision: as in `conv_transpose`.
    preferred_element_type: as in `conv_transpose`.

  Returns:
    [*K, C / groups, O] array.
  """
  dtype = preferred_element_type or x.dtype
  groups = geometry.feature_group_count
  if (x.shape[-1], y.shape[-1]) == (groups, groups):
    y = y.astype(dtype)
    multiply = lambda seen: (seen * y).sum(range(y.ndim - 1))[None]
  else:
    multiply = lambda seen: _join(jnp.einsum(
        '...gc,...go->cgo', _split(seen, groups), _split(y, groups),
        precision=precision, preferred_element_type=dtype))
  kernel = jnp.stack([multiply(seen) for seen in _seen(x, geometry)])
  return kernel.reshape(*geometry.kernel_size, *kernel.shape[1:])


def _seen(x: jax.Array, geometry: Geometry) -> Iterator[jax.Array]:
  """[N, *coarse, C], what is seen through each tap."""
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
