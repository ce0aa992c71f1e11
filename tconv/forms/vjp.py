"""The definition: an ordinary convolution and its two pullbacks.

`conv` is linear in the fine array x and linear in the kernel. Its pullback with
respect to x is the transposed convolution; its pullback with respect to the
kernel is the kernel gradient. JAX derives both from the shapes, so this form
needs no padding arithmetic.
"""

from collections.abc import Callable

import jax
from jax import lax

from tconv.forms import layout
from tconv.geometry import Geometry


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *,
         precision=None, preferred_element_type=None) -> jax.Array:
  """Convolves, by `jax.lax.conv_general_dilated`."""
  return lax.conv_general_dilated(
      x, kernel, geometry.strides, geometry.padding,
      rhs_dilation=geometry.dilation,
      dimension_numbers=layout.channels_last(geometry.num_axes),
      feature_group_count=geometry.feature_group_count,
      precision=precision, preferred_element_type=preferred_element_type)


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution: pulls `y` back to the convolution's input."""
  channels = kernel.shape[-2] * geometry.feature_group_count
  convolve = lambda x: conv(x, kernel, geometry, precision=precision)
  dtype = preferred_element_type or y.dtype
  kernel = kernel.astype(dtype)
  return pull_back(convolve, (y.shape[0], *geometry.fine_size, channels),
                   y.astype(dtype))


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry, *,
                     precision=None, preferred_element_type=None) -> jax.Array:
  """Computes the kernel gradient: pulls `y` back to the kernel."""
  channels = x.shape[-1] // geometry.feature_group_count
  convolve = lambda kernel: conv(x, kernel, geometry, precision=precision)
  dtype = preferred_element_type or x.dtype
  x = x.astype(dtype)
  return pull_back(convolve, (*geometry.kernel_size, channels, y.shape[-1]),
                   y.astype(dtype))


def pull_back(function: Callable[[jax.Array], jax.Array],
              shape: tuple[int, ...], cotangent: jax.Array) -> jax.Array:
  """Applies the transpose of a linear function.

  Args:
    function: linear function of an array of shape `shape`.
    shape: shape of the function's argument, and of the result.
    cotangent: array to pull back, of the shape of the function's result.

  Returns:
    Array of shape `shape` with the dtype of `cotangent`.
  """
  # A linear function has the same pullback everywhere, so zero will do. Inside
  # `jax.shard_map` that zero must vary over the devices as the cotangent does.
  # Otherwise the pullback would be summed over the devices.
  origin = layout.zeros(shape, cotangent.dtype, like=cotangent)
  return jax.vjp(function, origin)[1](cotangent)[0]
