"""`torch.nn.functional.conv_transpose1d`, `2d` and `3d`, as of torch 2.13.

References:
  PyTorch, `ConvTranspose2d
  <https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html>`_,
  2026.
"""

from collections.abc import Sequence

import jax
from jax import lax
import numpy as np

from tconv import geometry
from tconv import operations
from tconv.dialects import common

Ints = int | Sequence[int]


def torch_conv_transpose(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1) -> jax.Array:
  """The transposed convolutions of PyTorch, in one to three dimensions.

  The size of the result is, for each axis::

    (size - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1

  Arguments that PyTorch rejects are errors here too. So are some that it
  accepts for some dtypes and batches: arrays of integers, a bias of another
  dtype, a weight of another dtype with an empty batch, empty images and empty
  results. On the other hand, ints and sequences may have any type here, such as
  bool or those of NumPy.

  Args:
    input: [N, I, *size] or, unbatched, [I, *size] array of floats or complex
      numbers.
    weight: [I, O / groups, *K] array of the same dtype, with one to three
      spatial axes.
    bias: [O] array of the same dtype, added to each channel; or None.
    stride: one int, or one for each spatial axis. In this and the following
      arguments, a sequence of one int stands for all axes.
    padding: number of positions to crop at both ends of each axis, one int or
      one for each axis.
    output_padding: number of positions to add at the high end, one int or one
      for each axis, below max(stride, dilation).
    groups: number of groups of channels.
    dilation: distance between taps, one int or one for each axis.

  Returns:
    [N, O, *fine] array, or [O, *fine] for unbatched input.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> x, weight = jnp.ones((1, 16, 8, 8)), jnp.ones((16, 3, 4, 4))
    >>> y = tconv.dialects.torch_conv_transpose(x, weight, stride=2, padding=1)
    >>> y.shape
    (1, 3, 16, 16)
  """
  weight = common.checked('weight', weight, {3, 4, 5})
  input = common.checked('input', input, {weight.ndim - 1, weight.ndim},
                         like=weight)
  unbatched = input.ndim < weight.ndim
  if unbatched:
    input = input[None]
  if 0 in weight.shape:
    raise ValueError(f'weight must not be empty; got shape {weight.shape}.')
  if 0 in input.shape[2:] or input.shape[1] != weight.shape[0]:
    raise ValueError(
        f'input must be [N, {weight.shape[0]}, *size], or [{weight.shape[0]}, '
        f'*size], with the channels of weight and sizes >= 1; got '
        f'shape {input.shape[unbatched:]}.')
  if (not isinstance(groups, (int, np.integer)) or groups < 1
      or weight.shape[0] % groups):
    raise ValueError(
        'groups must be an int >= 1 that divides the number of channels of '
        f'input, {weight.shape[0]}; got {groups!r}.')

  num_axes = weight.ndim - 2
  order = tuple(range(weight.ndim))  # Channels first, in lax's notation.
  result = operations.conv_transpose(
      input, weight, _each('stride', stride, num_axes, 1),
      _each('padding', padding, num_axes, 0),
      output_padding=_each('output_padding', output_padding, num_axes, 0),
      kernel_dilation=_each('dilation', dilation, num_axes, 1),
      feature_group_count=int(groups),
      dimension_numbers=lax.ConvDimensionNumbers(order, order, order))
  result = common.with_bias(result, 'bias', bias, 1)
  return result[0] if unbatched else result


def kernel_from_torch(weight: jax.Array) -> jax.Array:
  """Converts the weight of a PyTorch layer to tconv's kernel.

  The result is also the `kernel` of
  `tconv.nnx.ConvTranspose(..., transpose_kernel=True)`. The same conversion
  takes the weight of a `torch.nn.Conv2d`, [O, C / groups, *K], to the kernel of
  `tconv.conv` and `flax.nnx.Conv`.

  Args:
    weight: [I, O / groups, *K] array of a transposed convolution from I to O
      channels, with one to three spatial axes.

  Returns:
    [*K, O / groups, I] kernel, as `tconv.conv_transpose` takes it.

  Raises:
    ValueError: `weight` is not an array, or has an invalid rank or dtype.

  Example:
    >>> x, weight = jnp.ones((1, 16, 8, 8)), jnp.ones((16, 3, 4, 4))
    >>> kernel = tconv.dialects.kernel_from_torch(weight)
    >>> kernel.shape
    (4, 4, 3, 16)
    >>> theirs = tconv.dialects.torch_conv_transpose(x, weight, None, 2, 1)
    >>> ours = tconv.conv_transpose(jnp.moveaxis(x, 1, -1), kernel, 2, 1)
    >>> bool((jnp.moveaxis(ours, -1, 1) == theirs).all())
    True
  """
  return common.channels_first_kernel(weight)


def kernel_to_torch(kernel: jax.Array) -> jax.Array:
  """Converts tconv's kernel to the weight of a PyTorch layer.

  This function undoes `kernel_from_torch`.

  Args:
    kernel: [*K, O / groups, I] array, as `tconv.conv_transpose` takes it from I
      to O channels, with one to three spatial axes.

  Returns:
    [I, O / groups, *K] weight. `torch.from_numpy(numpy.array(weight))` makes it
    a tensor.

  Raises:
    ValueError: `kernel` is not an array, or has an invalid rank or dtype.

  Example:
    >>> kernel = jnp.ones((4, 4, 3, 16))  # A layer from 16 to 3 channels.
    >>> tconv.dialects.kernel_to_torch(kernel).shape
    (16, 3, 4, 4)
  """
  return common.channels_first_weight(kernel)


def _each(name: str, value: Ints, num_axes: int,
          minimum: int) -> geometry.Size:
  """Reads ints for each axis; in PyTorch, a sequence of one stands for all."""
  if isinstance(value, Sequence) and len(value) == 1:
    value = tuple(value) * num_axes
  return geometry.per_axis(name, value, num_axes, minimum)
