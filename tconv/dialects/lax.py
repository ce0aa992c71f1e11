"""`jax.lax.conv_transpose`, and the kernels of Flax's layers."""

from collections.abc import Iterable
from collections.abc import Sequence
import operator
from typing import Any

import jax
from jax import lax
import numpy as np

from tconv import arguments
from tconv import geometry
from tconv import operations
from tconv.dialects import common
from tconv.forms import layout


def lax_conv_transpose(
    lhs: jax.Array,
    rhs: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: arguments.DimensionNumbers = None,
    transpose_kernel: bool = False,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    use_consistent_padding: bool = False,
    *,
    feature_group_count: int = 1) -> jax.Array:
  """`jax.lax.conv_transpose` with groups.

  Two arguments that lax accepts are errors here. One is padding in numbers that
  leaves an empty result. The other is 'same' or 'valid' in lower case. lax
  accepts these at strides of 1 only, and reads them as the padding of an
  ordinary convolution: 'valid' gives another size than 'VALID', and 'same'
  shifts the result by one position for kernels of even size.

  Args:
    lhs: [N, *size, I] array of floats or complex numbers, in the layout of
      `dimension_numbers`, with zero to three spatial axes.
    rhs: [*K, I / feature_group_count, O] kernel of the same dtype, or with
      `transpose_kernel` [*K, O / feature_group_count, I].
    strides: strides, one for each spatial axis.
    padding: 'SAME' or 'VALID', the padding of the forward convolution; or a
      (low, high) pair for each axis, which pads the dilated inputs.
    rhs_dilation: distance between taps, one for each axis; None for 1.
    dimension_numbers: layouts of lhs, rhs and result, as in
      `jax.lax.conv_general_dilated`; by default ('NHWC', 'HWIO', 'NHWC').
    transpose_kernel: whether `rhs` is the kernel of the forward convolution. In
      its layout, I then stands for the channels of the result and O for those
      of `lhs`.
    precision: precision of the products, a `jax.lax.PrecisionLike`; None for
      the default of the platform.
    preferred_element_type: dtype of the accumulation and of the result.
    use_consistent_padding: whether pairs, too, are the padding of the forward
      convolution.
    feature_group_count: number of groups of channels.

  Returns:
    [N, *fine, O] array, in the layout of `dimension_numbers`.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> x, kernel = jnp.ones((1, 8, 8, 4)), jnp.arange(72.).reshape(3, 3, 4, 2)
    >>> pads = [(1, 2), (1, 2)]
    >>> theirs = jax.lax.conv_transpose(x, kernel, (2, 2), pads)
    >>> ours = tconv.dialects.lax_conv_transpose(x, kernel, (2, 2), pads)
    >>> ours.shape, bool((ours == theirs).all())
    ((1, 16, 16, 2), True)
  """
  lhs = common.checked('lhs', lhs, arguments.RANKS)
  rhs = common.checked('rhs', rhs, arguments.RANKS, like=lhs)
  arguments.check_ranks('lhs', lhs, 'rhs', rhs)
  to_lhs, to_rhs, to_result = arguments.layouts(lhs, dimension_numbers)
  lhs, rhs = lhs.transpose(to_lhs), rhs.transpose(to_rhs)

  arguments.check_groups(feature_group_count, 'rhs', rhs.shape[-1])
  channels = (rhs.shape[-1] if transpose_kernel
              else rhs.shape[-2] * feature_group_count)
  if lhs.shape[-1] != channels:
    raise ValueError(
        f'lhs must have as many channels as rhs reads, {channels}; got '
        f'{lhs.shape[-1]}, with lhs of shape {lhs.shape} and rhs of shape '
        f'{rhs.shape}, both in channels-last layout.')

  kernel_size = rhs.shape[:-2]
  num_axes = len(kernel_size)
  strides = _each('strides', strides, num_axes)
  dilation = _each('rhs_dilation', (1,) * num_axes if rhs_dilation is None
                   else rhs_dilation, num_axes)
  if not isinstance(padding, str) or padding not in ('SAME', 'VALID'):
    padding = _pairs(padding, num_axes)
    if not use_consistent_padding:
      padding = forward_pads(padding, kernel_size, dilation)
  result = operations.conv_transpose(
      lhs,
      kernel_from_flax(rhs, transpose_kernel,
                       feature_group_count=feature_group_count),
      strides, padding, kernel_dilation=dilation,
      feature_group_count=feature_group_count, precision=precision,
      preferred_element_type=preferred_element_type)
  return result.transpose(np.argsort(to_result))


def kernel_from_flax(kernel: jax.Array, transpose_kernel: bool = False, *,
                     feature_group_count: int = 1) -> jax.Array:
  """Converts the kernel of a Flax or lax transposed convolution to tconv's.

  Args:
    kernel: [*K, I / feature_group_count, O] array of a layer from I to O
      features, or with `transpose_kernel` [*K, O / feature_group_count, I].
    transpose_kernel: `transpose_kernel` of the layer.
    feature_group_count: number of groups of channels.

  Returns:
    [*K, O / feature_group_count, I] kernel of the forward convolution, as
    `tconv.conv_transpose` takes it. With `transpose_kernel` it is the array
    itself; otherwise its taps are flipped and its channels swapped.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> layer = nnx.ConvTranspose(16, 3, (4, 4), 2, rngs=nnx.Rngs(0))
    >>> kernel = tconv.dialects.kernel_from_flax(layer.kernel[...])
    >>> layer.kernel.shape, kernel.shape
    ((4, 4, 16, 3), (4, 4, 3, 16))
    >>> y = jnp.ones((1, 8, 8, 16))
    >>> x = tconv.conv_transpose(y, kernel, strides=2)
    >>> bool(jnp.allclose(x, layer(y), atol=1e-5))
    True
  """
  kernel = common.checked('kernel', kernel, {2, 3, 4, 5})
  arguments.check_groups(feature_group_count, 'kernel', kernel.shape[-1])
  if transpose_kernel:
    return kernel
  return layout.flip(layout.swap_channels(kernel, feature_group_count))


def kernel_to_flax(kernel: jax.Array, transpose_kernel: bool = False, *,
                   feature_group_count: int = 1) -> jax.Array:
  """Converts tconv's kernel to that of a Flax or lax transposed convolution.

  This function undoes `kernel_from_flax`.

  Args:
    kernel: [*K, O / feature_group_count, I] array, as `tconv.conv_transpose`
      takes it from I to O channels.
    transpose_kernel: `transpose_kernel` of the layer.
    feature_group_count: number of groups of channels.

  Returns:
    [*K, I / feature_group_count, O] kernel with flipped taps; or the array
    itself with `transpose_kernel`.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> kernel = jnp.arange(24.).reshape(4, 2, 3)  # From 3 to 2 channels.
    >>> theirs = tconv.dialects.kernel_to_flax(kernel)
    >>> theirs.shape
    (4, 3, 2)
    >>> y = jnp.ones((1, 8, 3))
    >>> x = jax.lax.conv_transpose(y, theirs, (2,), 'SAME')
    >>> bool((x == tconv.conv_transpose(y, kernel, strides=2)).all())
    True
  """
  # Swapping the channels and flipping the taps twice changes nothing.
  return kernel_from_flax(kernel, transpose_kernel,
                          feature_group_count=feature_group_count)


def forward_pads(padding: geometry.Pads, kernel_size: geometry.Size,
                 dilation: geometry.Size) -> geometry.Pads:
  """Converts padding of the dilated inputs to that of the forward convolution.

  The sum of both is k_eff - 1, so the function is its own inverse.

  Args:
    padding: (low, high) pairs, one for each axis.
    kernel_size: number of taps on each axis.
    dilation: distance between taps on each axis.

  Returns:
    (low, high) pairs; negative where the padding exceeds k_eff - 1.
  """
  effective = geometry.effective_size(kernel_size, dilation)
  return tuple((e - 1 - lo, e - 1 - hi)
               for e, (lo, hi) in zip(effective, padding, strict=True))


def _each(name: str, values: Sequence[int], num_axes: int) -> geometry.Size:
  """Reads an int for each axis; unlike tconv, lax takes no single int."""
  if not isinstance(values, Iterable):
    raise ValueError(
        f'{name} must be a sequence of {num_axes} ints; got {values!r}.')
  return geometry.per_axis(name, values, num_axes, 1)


def _pairs(padding: Any, num_axes: int) -> geometry.Pads:
  """Reads a (low, high) pair for each axis."""
  try:
    pairs = tuple((operator.index(lo), operator.index(hi))
                  for lo, hi in padding)
  except (TypeError, ValueError):
    pairs = None
  if pairs is None or len(pairs) != num_axes:
    raise ValueError(
        f"padding must be 'SAME', 'VALID' or a sequence of {num_axes} (low, "
        f'high) pairs of ints, names in capitals; got {padding!r}.')
  return pairs
