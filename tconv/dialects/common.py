"""Helpers of the dialects: reading of arrays, biases and kernels."""

from collections.abc import Collection

import jax
import jax.numpy as jnp

from tconv import arguments


def checked(name: str, array, ranks: Collection[int],
            like: jax.Array | None = None) -> jax.Array:
  """Reads an argument as a JAX array, and checks its rank and dtype.

  Args:
    name: name of the argument in the dialect, for the error message.
    array: anything that converts to an array.
    ranks: valid numbers of axes.
    like: array whose dtype the argument must have, or None.

  Returns:
    The array.

  Raises:
    ValueError: `array` is not an array, or has an invalid rank or dtype.
  """
  array = arguments.checked(name, array, ranks=ranks)
  if like is not None and array.dtype != like.dtype:
    raise ValueError(
        f'{name} must be of dtype {like.dtype}, like the array that it is used '
        f'with; got {array.dtype}.')
  return array


def with_bias(result: jax.Array, name: str, bias, axis: int) -> jax.Array:
  """Adds a bias to each channel.

  Args:
    result: array with channels.
    name: name of the bias in the dialect, for the error message.
    bias: [C] array of the result's dtype, or None.
    axis: axis of the channels, counted from the front.

  Returns:
    Array like `result`.

  Raises:
    ValueError: the bias has a wrong shape or dtype.
  """
  if bias is None:
    return result
  bias = checked(name, bias, {1}, like=result)
  if bias.size != result.shape[axis]:
    raise ValueError(
        f'{name} must be [C] = [{result.shape[axis]}], one for each output '
        f'channel; got shape {bias.shape}.')
  shape = [1] * result.ndim
  shape[axis] = bias.size
  return result + bias.reshape(shape)


def channels_first_weight(kernel) -> jax.Array:
  """Converts tconv's kernel to the weight layout of PyTorch and ONNX.

  Args:
    kernel: [*K, C / groups, O] array.

  Returns:
    [O, C / groups, *K] array.

  Raises:
    ValueError: `kernel` is not an array, or has an invalid rank or dtype.
  """
  kernel = checked('kernel', kernel, {3, 4, 5})
  return jnp.moveaxis(kernel, (-1, -2), (0, 1))


def channels_first_kernel(weight) -> jax.Array:
  """Converts a weight of PyTorch or ONNX to tconv's kernel.

  Args:
    weight: [O, C / groups, *K] array of a transposed convolution from O to C
      channels.

  Returns:
    [*K, C / groups, O] array.

  Raises:
    ValueError: `weight` is not an array, or has an invalid rank or dtype.
  """
  weight = checked('weight', weight, {3, 4, 5})
  return jnp.moveaxis(weight, (0, 1), (-1, -2))
