"""`keras.ops.conv_transpose`, as of Keras 3.15.

This module follows Keras' backends for JAX, NumPy and PyTorch, which agree with
each other. The backends for TensorFlow and OpenVINO leave the padding to their
frameworks. OpenVINO uses SAME_LOWER, which puts an odd position at the other
end.

References:
  Keras, `conv_transpose
  <https://keras.io/api/ops/nn/#convtranspose-function>`_, 2026.
"""

from collections.abc import Sequence

import jax

from tconv import arguments
from tconv import geometry
from tconv import operations
from tconv.dialects import common
from tconv.geometry import Pads
from tconv.geometry import Size

Ints = int | Sequence[int]


def keras_conv_transpose(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Ints = 1,
    padding: str = 'valid',
    output_padding: Ints | None = None,
    data_format: str = 'channels_last',
    dilation_rate: Ints = 1) -> jax.Array:
  """The transposed convolution of Keras, without the bias of its layers.

  The size of the result on each axis is (size - 1) * stride + last. This table
  gives `last`, where k_eff = (k - 1) * dilation + 1::

    padding    last by default         last with output_padding
    'valid'    max(k_eff, stride)      k_eff + output_padding
    'same'     stride                  k_eff % 2 + output_padding

  There are no groups. Like the op and unlike the layers, this function accepts
  strides together with dilation, and an output padding of the stride or more.
  Unlike the op, it rejects arrays of integers, an output padding that is
  negative, None for some axes or too long, and an empty result.

  Args:
    inputs: [N, *size, I] array of floats or complex numbers, with one to three
      spatial axes; [N, I, *size] with channels first.
    kernel: [*K, O, I] array of the same dtype.
    strides: one int, or one for each spatial axis.
    padding: 'valid' or 'same', the padding of the forward convolution.
    output_padding: number that determines the size by the table above, one int
      or one for each axis; or None.
    data_format: layout of inputs and result, 'channels_last' or
      'channels_first'. Keras' None, which stands for its own setting, is
      invalid.
    dilation_rate: distance between taps, one int or one for each axis.

  Returns:
    [N, *fine, O] array, or [N, O, *fine] with channels first.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> x, kernel = jnp.ones((1, 8, 8, 16)), jnp.ones((3, 3, 4, 16))
    >>> tconv.dialects.keras_conv_transpose(x, kernel, 2, 'same').shape
    (1, 16, 16, 4)
    >>> tconv.dialects.keras_conv_transpose(x, kernel, 2, 'valid').shape
    (1, 17, 17, 4)
    >>> tconv.dialects.keras_conv_transpose(
    ...     x, kernel, 2, 'same', output_padding=0).shape
    (1, 15, 15, 4)
  """
  inputs = common.checked('inputs', inputs, {3, 4, 5})
  kernel = common.checked('kernel', kernel, {3, 4, 5}, like=inputs)
  arguments.check_ranks('inputs', inputs, 'kernel', kernel)
  num_axes = inputs.ndim - 2
  dilation = geometry.per_axis('dilation_rate', dilation_rate, num_axes, 1)
  _check_name('padding', padding, ('valid', 'same'))
  _check_name('data_format', data_format, ('channels_last', 'channels_first'))
  last = data_format.lower() == 'channels_last'
  channels = inputs.shape[-1 if last else 1]
  if kernel.shape[-1] != channels:
    raise ValueError(
        f'kernel must be [*K, O, I] with the channels of inputs, I = '
        f'{channels}; got shape {kernel.shape}.')
  pads = padding.upper()  # Without output_padding, these are tconv's own.
  if output_padding is not None:
    extra = geometry.per_axis('output_padding', output_padding, num_axes, 0)
    pads = _pads(pads, kernel.shape[:-2], dilation, extra)
  axes = 'DHW'[-num_axes:]
  features = f'N{axes}C' if last else f'NC{axes}'
  return operations.conv_transpose(
      inputs, kernel, strides, pads, kernel_dilation=dilation,
      dimension_numbers=(features, f'{axes}IO', features))


def kernel_from_keras(kernel: jax.Array) -> jax.Array:
  """Converts the kernel of a Keras layer to tconv's: they are the same.

  The `kernel` of `tconv.nnx.ConvTranspose(..., transpose_kernel=True)` is the
  same, too.

  Args:
    kernel: [*K, O, I] array of a transposed convolution from I to O channels,
      with one to three spatial axes.

  Returns:
    [*K, O, I] kernel, as `tconv.conv_transpose` takes it.

  Raises:
    ValueError: `kernel` is not an array, or has an invalid rank or dtype.

  Example:
    >>> kernel = jnp.ones((4, 4, 3, 16))  # A layer from 16 to 3 channels.
    >>> tconv.dialects.kernel_from_keras(kernel).shape
    (4, 4, 3, 16)
  """
  return common.checked('kernel', kernel, {3, 4, 5})


def kernel_to_keras(kernel: jax.Array) -> jax.Array:
  """Converts tconv's kernel to that of a Keras layer: they are the same.

  Args:
    kernel: [*K, O, I] array, as `tconv.conv_transpose` takes it from I to O
      channels, without groups and with one to three spatial axes.

  Returns:
    [*K, O, I] kernel of a transposed convolution from I to O channels.

  Raises:
    ValueError: `kernel` is not an array, or has an invalid rank or dtype.

  Example:
    >>> kernel = jnp.ones((4, 4, 3, 16))  # A layer from 16 to 3 channels.
    >>> tconv.dialects.kernel_to_keras(kernel).shape
    (4, 4, 3, 16)
  """
  return common.checked('kernel', kernel, {3, 4, 5})


def _check_name(argument: str, name: str, names: tuple[str, ...]) -> None:
  """Checks a name, in upper or lower case."""
  if not isinstance(name, str) or name.lower() not in names:
    raise ValueError(
        f'{argument} must be one of {", ".join(names)}; got {name!r}.')


def _pads(padding: str, kernel_size: Size, dilation: Size, extra: Size) -> Pads:
  """The padding of the forward convolution for a given output padding."""
  effective = geometry.effective_size(kernel_size, dilation)
  if padding == 'VALID':
    return tuple((0, -a) for a in extra)
  # An odd position goes to the high end, and so does all negative padding.
  totals = tuple(e - e % 2 - a for e, a in zip(effective, extra))
  lows = tuple(max(t // 2, 0) for t in totals)
  return tuple((lo, t - lo) for lo, t in zip(lows, totals))
