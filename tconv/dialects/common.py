"""What the dialects share: reading arrays, and adding the bias."""

from collections.abc import Collection

import jax
import jax.numpy as jnp

from tconv import arguments


def checked(name: str, array, ranks: Collection[int],
            like: jax.Array | None = None) -> jax.Array:
  """Reads an argument as a JAX array, and checks its rank and dtype.

  Args:
    name: what the dialect calls it, for the error.
    array: anything that converts to an array.
    ranks: the numbers of axes that are legal.
    like: an array whose dtype it must have.

  Returns:
    the array.

  Raises:
    ValueError: it is no array, or has an illegal rank or dtype.
  """
  array = arguments.checked(name, array, ranks=ranks)
  if like is not None and array.dtype != like.dtype:
    raise ValueError(
        f'{name} must be of dtype {like.dtype}, as what it goes with; got '
        f'{array.dtype}.')
  return array


def with_bias(result: jax.Array, name: str, bias, axis: int) -> jax.Array:
  """Adds a bias for each channel.

  Args:
    result: array with channels.
    name: what the dialect calls the bias, for the error.
    bias: [C] array of the result's dtype, or None.
    axis: where the channels stand, counted from the front.

  Returns:
    array like `result`.

  Raises:
    ValueError: the bias has another shape or dtype.
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
  """The weight of torch and ONNX from the library's kernel.

  Args:
    kernel: [*K, C / groups, O] array.

  Returns:
    [O, C / groups, *K] array.

  Raises:
    ValueError: it is no array, or has an illegal rank or dtype.
  """
  kernel = checked('kernel', kernel, {3, 4, 5})
  return jnp.moveaxis(kernel, (-1, -2), (0, 1))


def channels_first_kernel(weight) -> jax.Array:
  """The library's kernel from that of a transposed convolution in torch, ONNX.

  Args:
    weight: [O, C / groups, *K] array; O channels come in, C go out.

  Returns:
    [*K, C / groups, O] array.

  Raises:
    ValueError: it is no array, or has an illegal rank or dtype.
  """
  weight = checked('weight', weight, {3, 4, 5})
  return jnp.moveaxis(weight, (0, 1), (-1, -2))
