"""Helpers for the layout of arrays and kernels."""

from collections.abc import Sequence

import jax
from jax import lax
import jax.numpy as jnp


def channels_last(num_axes: int) -> lax.ConvDimensionNumbers:
  """Dimension numbers of lax for [N, *size, C], [*K, I, O], [N, *size, O]."""
  features = (0, num_axes + 1, *range(1, num_axes + 1))
  kernel = (num_axes + 1, num_axes, *range(num_axes))
  return lax.ConvDimensionNumbers(features, kernel, features)


def swap_channels(kernel: jax.Array, groups: int) -> jax.Array:
  """Swaps the two channel axes of a kernel, within each group.

  Args:
    kernel: [*K, C / groups, O] kernel of a convolution from C to O channels.
    groups: number of groups of channels.

  Returns:
    [*K, O / groups, C] kernel from O to C channels.
  """
  *taps, fine, coarse = kernel.shape
  kernel = kernel.reshape(*taps, fine, groups, coarse // groups)
  kernel = jnp.moveaxis(kernel, -1, -3)  # [*K, O / groups, C / groups, groups]
  kernel = jnp.swapaxes(kernel, -1, -2)
  return kernel.reshape(*taps, coarse // groups, groups * fine)


def flip(kernel: jax.Array) -> jax.Array:
  """Reverses the spatial axes of a [*K, I, O] kernel."""
  return lax.rev(kernel, tuple(range(kernel.ndim - 2)))


def extend(x: jax.Array, added: Sequence[tuple[int, int]]) -> jax.Array:
  """Adds zeros around the spatial axes of an array, or crops them.

  Args:
    x: [N, *size, C] array.
    added: (low, high) numbers of positions to add to each axis; negative
      numbers crop.

  Returns:
    [N, *(low + size + high), C] array.
  """
  if not any(map(any, added)):
    return x
  return lax.pad(x, jnp.zeros((), x.dtype),
                 ((0, 0, 0), *((lo, hi, 0) for lo, hi in added), (0, 0, 0)))


def zeros(shape: Sequence[int], dtype, *, like: jax.Array) -> jax.Array:
  """Zeros that vary over the devices of `jax.shard_map` like another array.

  Args:
    shape: shape of the result.
    dtype: dtype of the result.
    like: array that determines the mesh axes over which the result varies.

  Returns:
    Array of zeros.
  """
  return lax.pcast(jnp.zeros(shape, dtype),
                   tuple(jax.typeof(like).mat.varying), to='varying')


def split(a: jax.Array, groups: int) -> jax.Array:
  """[M, groups * C] -> [groups, M, C]."""
  return a.reshape(a.shape[0], groups, a.shape[1] // groups).swapaxes(0, 1)


def join(a: jax.Array) -> jax.Array:
  """[groups, M, C] -> [M, groups * C], which undoes `split`."""
  groups, count, channels = a.shape
  return a.swapaxes(0, 1).reshape(count, groups * channels)
