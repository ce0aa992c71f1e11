"""The ConvTranspose operator of ONNX, opset 11 to 22.

The padding follows the text and the equations of the specification. Other
implementations deviate from it, as of onnx 1.23 and onnxruntime 1.32:

*   onnxruntime treats a negative total padding as zero. With auto_pad SAME_*
    and a kernel shorter than the stride, its result is then smaller than the
    size * stride of the specification. Zeros that an `output_shape` requires
    all go to the high end, and more than stride - 1 of them are an error.
*   onnxruntime rejects stride <= output_padding < dilation.
*   The reference evaluator of the onnx package follows the equations for
    `output_shape` with auto_pad SAME_* only. It supports groups only with one
    channel of input and output each, and adds the first bias to all of them.
*   Shape inference of the onnx package adds `output_padding` to the size of
    SAME_*, and gives onnxruntime's size for a kernel shorter than the stride.

References:
  ONNX, `ConvTranspose
  <https://onnx.ai/onnx/operators/onnx__ConvTranspose.html>`_, opset 22, 2024.
"""

from collections.abc import Sequence

import jax
from jax import lax
import numpy as np

from tconv import arguments
from tconv import geometry as geometry_lib
from tconv import operations
from tconv.dialects import common
from tconv.geometry import Pads
from tconv.geometry import Size

Ints = int | Sequence[int]

AUTO_PADS = ('NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID')


def onnx_conv_transpose(
    X: jax.Array,
    W: jax.Array,
    B: jax.Array | None = None,
    *,
    auto_pad: str | bytes = 'NOTSET',
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    output_padding: Ints | None = None,
    output_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None) -> jax.Array:
  """The ConvTranspose operator of ONNX.

  The size of the result on each axis is `output_shape` if that is given. With
  auto_pad SAME_UPPER or SAME_LOWER it is size * stride. Otherwise it is::

    (size - 1) * stride + k_eff + output_padding - begin - end

  where k_eff = (k - 1) * dilation + 1. In the first two cases this equation
  determines begin + end. If that sum is odd, the larger half is the end with
  SAME_UPPER and the begin with any other `auto_pad`. A negative sum adds zeros,
  and its halves are rounded in the same way.

  Args:
    X: [N, C, *size] array of floats, with one to three spatial axes.
    W: [C, M / group, *K] array of the same dtype.
    B: [M] array of the same dtype, added to each channel; or None.
    auto_pad: 'NOTSET', 'VALID', 'SAME_UPPER' or 'SAME_LOWER', as a string or as
      the bytes that `onnx.helper.get_attribute_value` gives.
    dilations: distance between taps, one int or one for each axis; 1 by
      default.
    group: number of groups of channels.
    kernel_shape: spatial size of W; by default, that of W.
    output_padding: number of positions to add at the high end, one int or one
      for each axis, below max(stride, dilation); 0 by default. With an
      `output_shape` or SAME_*, it does not change the size: begin + end grows
      by the same number.
    output_shape: spatial size of the result, one int or one for each axis,
      without batch and channels.
    pads: [begin..., end...], numbers of positions to crop at the two ends of
      each axis; 0 by default. It needs auto_pad 'NOTSET', and is ignored if
      `output_shape` is given.
    strides: one int, or one for each axis; by default 1.

  Returns:
    [N, M, *fine] array.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> X, W = jnp.ones((1, 16, 8, 8)), jnp.ones((16, 3, 3, 3))
    >>> tconv.dialects.onnx_conv_transpose(X, W, strides=[2, 2]).shape
    (1, 3, 17, 17)
    >>> tconv.dialects.onnx_conv_transpose(
    ...     X, W, strides=[2, 2], auto_pad='SAME_UPPER').shape
    (1, 3, 16, 16)
    >>> tconv.dialects.onnx_conv_transpose(
    ...     X, W, strides=[2, 2], output_shape=[15, 15]).shape
    (1, 3, 15, 15)
  """
  X = common.checked('X', X, {3, 4, 5})
  W = common.checked('W', W, {3, 4, 5}, like=X)
  arguments.check_ranks('X', X, 'W', W)
  _check_channels(X.shape[1], W.shape, group)
  size, taps = X.shape[2:], W.shape[2:]
  num_axes = len(size)
  each = lambda name, value, default, minimum: geometry_lib.per_axis(
      name, default if value is None else value, num_axes, minimum)
  strides = each('strides', strides, 1, 1)
  dilations = each('dilations', dilations, 1, 1)
  if each('kernel_shape', kernel_shape, taps, 1) != taps:
    raise ValueError(
        f'kernel_shape must be that of W, {taps}; got {kernel_shape!r}.')
  extra = each('output_padding', output_padding, 0, 0)
  limits = tuple(map(max, strides, dilations))
  if any(e >= limit for e, limit in zip(extra, limits)):
    raise ValueError(
        f'output_padding must be smaller than max(strides, dilations) = '
        f'{limits}; got {output_padding!r}.')
  if isinstance(auto_pad, bytes):  # As `onnx.helper` reads attributes.
    auto_pad = auto_pad.decode(errors='replace')
  if auto_pad not in AUTO_PADS:
    raise ValueError(
        f'auto_pad must be one of {", ".join(AUTO_PADS)}; got {auto_pad!r}.')
  if auto_pad != 'NOTSET' and pads is not None:
    raise ValueError(
        'pads must not be given together with auto_pad, unless that is NOTSET; '
        f'got pads {pads!r} and auto_pad {auto_pad!r}.')
  ends = geometry_lib.per_axis(
      'pads', 0 if pads is None else pads, 2 * num_axes, 0)

  full = tuple(
      (n - 1) * s + e + a for n, s, e, a in zip(
          size, strides, geometry_lib.effective_size(taps, dilations), extra))
  if output_shape is not None:
    padding = _split(full, each('output_shape', output_shape, 1, 1), auto_pad)
  elif auto_pad.startswith('SAME'):
    padding = _split(
        full, tuple(n * s for n, s in zip(size, strides)), auto_pad)
  else:
    padding = tuple(zip(ends[:num_axes], ends[num_axes:]))
  fine_size = tuple(f - lo - hi for f, (lo, hi) in zip(full, padding))
  if any(f < 1 for f in fine_size):
    raise ValueError(
        'pads must leave at least one position on each axis; got (begin, end) '
        f'{padding}, which give size {fine_size} for X of size {size}.')

  order = tuple(range(X.ndim))  # Channels first, in lax's notation.
  result = operations.conv_transpose(
      X, W, strides, tuple((lo, hi - a) for (lo, hi), a in zip(padding, extra)),
      kernel_dilation=dilations, feature_group_count=group,
      dimension_numbers=lax.ConvDimensionNumbers(order, order, order))
  return common.with_bias(result, 'B', B, 1)


def kernel_from_onnx(weight: jax.Array) -> jax.Array:
  """Converts the W of an ONNX ConvTranspose to tconv's kernel.

  Args:
    weight: [C, M / group, *K] array, with one to three spatial axes.

  Returns:
    [*K, M / group, C] kernel, as `tconv.conv_transpose` takes it.

  Raises:
    ValueError: `weight` is not an array, or has an invalid rank or dtype.

  Example:
    >>> W = jnp.ones((16, 3, 4, 4))  # A node from 16 to 3 channels.
    >>> tconv.dialects.kernel_from_onnx(W).shape
    (4, 4, 3, 16)
  """
  return common.channels_first_kernel(weight)


def kernel_to_onnx(kernel: jax.Array) -> jax.Array:
  """Converts tconv's kernel to the W of an ONNX ConvTranspose.

  This function undoes `kernel_from_onnx`.

  Args:
    kernel: [*K, M / group, C] array, as `tconv.conv_transpose` takes it, with
      one to three spatial axes.

  Returns:
    [C, M / group, *K] weight.

  Raises:
    ValueError: `kernel` is not an array, or has an invalid rank or dtype.

  Example:
    >>> kernel = jnp.ones((4, 4, 3, 16))  # A layer from 16 to 3 channels.
    >>> tconv.dialects.kernel_to_onnx(kernel).shape
    (16, 3, 4, 4)
  """
  return common.channels_first_weight(kernel)


def _check_channels(channels: int, shape: Size, group: int) -> None:
  """Checks W's shape and the groups against the channels of X."""
  if shape[0] != channels:
    raise ValueError(
        f'W must be [C, M / group, *K] with the channels of X, C = {channels}; '
        f'got shape {shape}.')
  if not isinstance(group, (int, np.integer)) or group < 1 or channels % group:
    raise ValueError(
        'group must be an int >= 1 that divides the number of channels of X, '
        f'{channels}; got {group!r}.')


def _split(full: Size, output_shape: Size, auto_pad: str) -> Pads:
  """The pads that reduce `full`, the size without pads, to `output_shape`."""
  total = tuple(f - o for f, o in zip(full, output_shape))
  # Negative numbers are rounded down, too. So the onnx package's backend test
  # convtranspose_output_shape has its zeros at the high end.
  if auto_pad == 'SAME_UPPER':
    return tuple((t // 2, t - t // 2) for t in total)
  return tuple((t - t // 2, t // 2) for t in total)
