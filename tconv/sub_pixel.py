"""Sub-pixel convolutions as transposed convolutions, and their equal phases.

A sub-pixel convolution computes prod(scale) channels for each channel of its
result, one for each pixel of a block. It equals a transposed convolution whose
kernel is `scale` times as large: channel (c, a) of its kernel, flipped, holds
the taps of phase a for channel c. Only the border differs, by the padding. So
all measures of `tconv.phases` apply to it.

Its bias has an element for each pixel of a block and is a pattern by itself.
"""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

from tconv import arrays
from tconv import calibrated
from tconv import geometry
from tconv import phases
from tconv import resample


def transposed_kernel(kernel: jax.Array, scale: int | Sequence[int], *,
                      mode: str = 'DCR',
                      feature_group_count: int = 1) -> jax.Array:
  """The kernel of the transposed convolution that a sub-pixel one equals.

  Args:
    kernel: [*K, I / groups, prod(scale) * C] array.
    scale: upsampling factor, one int or one for each axis.
    mode: order of the channels, 'DCR' or 'CRD', as in `tconv.depth_to_space`.
    feature_group_count: number of groups of channels. There must be one for
      'DCR': the pixels of a block would come from different groups.

  Returns:
    [*(K * scale), C / groups, I] array, for `strides` of `scale`.

  Raises:
    ValueError: an argument is invalid.
  """
  kernel, scale, groups = _checked(kernel, scale, mode, feature_group_count)
  n = len(scale)
  *size, depth, _ = kernel.shape
  taps = _split(kernel, scale, mode)  # [*K, I / groups, *scale, C]
  taps = jnp.flip(taps, range(n))
  taps = taps.reshape(*taps.shape[:-1], groups, -1)
  pairs = (axis for i in range(n) for axis in (i, n + 1 + i))
  taps = taps.transpose(*pairs, 2 * n + 2, 2 * n + 1, n)
  return taps.reshape(*(k * s for k, s in zip(size, scale)), -1, groups * depth)


def equalize_sub_pixel(kernel: jax.Array, scale: int | Sequence[int], *,
                       bias: jax.Array | None = None, mode: str = 'DCR',
                       inputs: jax.Array | Sequence[jax.Array] | None = None,
                       feature_group_count: int = 1
                       ) -> tuple[jax.Array, jax.Array | None]:
  """Changes a sub-pixel convolution as little as possible to paint no grid.

  It is `tconv.equalize_phases` for the kernel and bias of
  `tconv.sub_pixel_conv`. Without `inputs`, the kernel changes as little as
  possible, and elements of the bias are replaced by their mean over a block.
  With `inputs`, the outputs for these change as little as possible.

  Args:
    kernel: [*K, I / groups, prod(scale) * C] array.
    scale: upsampling factor, one int or one for each axis.
    bias: [prod(scale) * C] array that is added before the shuffle, or None.
    mode: order of the channels, 'DCR' or 'CRD', as in `tconv.depth_to_space`.
    inputs: [N, *size, I] inputs of the convolution, or several such arrays, or
      None.
    feature_group_count: number of groups of channels; one for 'DCR'.

  Returns:
    The kernel and the bias, arrays like the arguments; None for no bias.

  Raises:
    ValueError: an argument is invalid; with `inputs`, also in `jax.jit`.

  Example:
    >>> kernel = jnp.arange(6.).reshape(3, 1, 2)  # 3 taps for each phase.
    >>> bias = jnp.array([1., 2.])
    >>> y = jnp.ones((1, 4, 1))
    >>> tconv.sub_pixel_conv(y, kernel, 2)[0, 2:-2, 0]
    Array([6., 9., 6., 9.], dtype=float32)
    >>> clean, bias = tconv.equalize_sub_pixel(kernel, 2, bias=bias)
    >>> tconv.sub_pixel_conv(y, clean, 2)[0, 2:-2, 0]
    Array([7.5, 7.5, 7.5, 7.5], dtype=float32)
    >>> bias
    Array([1.5, 1.5], dtype=float32)
  """
  taps = transposed_kernel(
      kernel, scale, mode=mode, feature_group_count=feature_group_count)
  kernel, scale, groups = _checked(kernel, scale, mode, feature_group_count)
  *block, fine = _split(kernel, scale, mode).shape[-len(scale) - 1:]
  each = mean = None
  if bias is not None:
    bias = arrays.read('bias', bias, [1], '[prod(scale) * C]')
    if bias.shape != kernel.shape[-1:]:
      raise ValueError(
          f'bias must have {kernel.shape[-1]} elements, as many as the kernel '
          f'has output channels; got {bias.size}.')
    each = _split(bias, scale, mode)
    mean = each.mean(range(len(scale)))
  if inputs is not None:
    taps, mean = calibrated.equalize(
        taps, scale, inputs, feature_group_count=groups, bias=each)
  taps = phases.equalize_phases(taps, scale)

  n = len(scale)
  *size, depth, _ = kernel.shape
  taps = taps.reshape(*(v for pair in zip(size, scale) for v in pair),
                      fine // groups, groups, depth)
  taps = taps.transpose(*range(0, 2 * n, 2), 2 * n + 2, *range(1, 2 * n, 2),
                        2 * n + 1, 2 * n)
  taps = jnp.flip(taps, range(n)).reshape(*size, depth, *block, fine)
  if bias is not None:
    mean = jnp.broadcast_to(jnp.asarray(mean, bias.dtype), (*block, fine))
    bias = _join(mean, scale, mode)
  return _join(taps, scale, mode), bias


def _checked(kernel, scale, mode: str, groups
             ) -> tuple[jax.Array, geometry.Size, int]:
  resample.check_mode(mode)
  kernel = arrays.read(
      'kernel', kernel, (3, 4, 5), '[*K, I / groups, prod(scale) * C]')
  scale = geometry.per_axis('scale', scale, kernel.ndim - 2, 1)
  [groups] = geometry.per_axis('feature_group_count', groups, 1, 1)
  if groups > 1 and mode == 'DCR':
    raise ValueError(
        f"feature_group_count must be 1 for mode 'DCR'; got {groups}. The "
        'pixels of a block would come from different groups of inputs.')
  if kernel.shape[-1] % (math.prod(scale) * groups):
    raise ValueError(
        'kernel must have a number of output channels divisible by '
        f'{math.prod(scale) * groups} = prod(scale) * feature_group_count; got '
        f'shape {kernel.shape}.')
  return kernel, scale, groups


def _split(array: jax.Array, scale: geometry.Size, mode: str) -> jax.Array:
  """Splits the last axis, prod(scale) * C, into [*scale, C]."""
  *rest, last = array.shape
  channels = last // math.prod(scale)
  if mode == 'DCR':
    return array.reshape(*rest, *scale, channels)
  return jnp.moveaxis(array.reshape(*rest, channels, *scale), len(rest), -1)


def _join(array: jax.Array, scale: geometry.Size, mode: str) -> jax.Array:
  """Undoes `_split`."""
  rest = array.shape[:array.ndim - len(scale) - 1]
  if mode == 'CRD':
    array = jnp.moveaxis(array, -1, len(rest))
  return array.reshape(*rest, -1)
