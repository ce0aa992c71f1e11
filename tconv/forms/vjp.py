"""The definition: an ordinary convolution, and its two pullbacks.

`conv` is linear in the fine array and linear in the kernel. Pulling a coarse
array back through the first gives the transposed convolution, through the
second the kernel's gradient. The pullback knows every size from the shapes, so
there is no padding arithmetic to get wrong here.
"""

from collections.abc import Callable

import jax
from jax import lax

from tconv.forms import layout
from tconv.geometry import Geometry


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *,
         precision=None, preferred_element_type=None) -> jax.Array:
  """The ordinary strided convolution.

  Args:
    x: [N, *fine, C] array.
    kernel: [*K, C / groups, O] kernel.
    geometry: sizes that relate the two grids.
    precision: as in `jax.lax.conv_general_dilated`.
    preferred_element_type: dtype to accumulate in and to return.

  Returns:
    [N, *coarse, O] array.
  """
  return lax.conv_general_dilated(
      x, kernel, geometry.strides, geometry.padding,
      rhs_dilation=geometry.dilation,
      dimension_numbers=layout.channels_last(geometry.num_axes),
      feature_group_count=geometry.feature_group_count,
      precision=precision, preferred_element_type=preferred_element_type)


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Pulls `y` back through the convolution, to where its input was.

  Args:
    y: [N, *coarse, O] array.
    kernel: [*K, C / groups, O] kernel of the convolution.
    geometry: sizes that relate the two grids.
    precision: as in `conv`.
    preferred_element_type: as in `conv`.

  Returns:
    [N, *fine, C] array.
  """
  channels = kernel.shape[-2] * geometry.feature_group_count
  convolve = lambda x: conv(x, kernel, geometry, precision=precision)
  dtype = preferred_element_type or y.dtype
  kernel = kernel.astype(dtype)
  return pull_back(convolve, (y.shape[0], *geometry.fine_size, channels),
                   y.astype(dtype))


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry, *,
                     precision=None, preferred_element_type=None) -> jax.Array:
  """Pulls `y` back through the convolution of `x`, to where the kernel was.

  Args:
    x: [N, *fine, C] array.
    y: [N, *coarse, O] array.
    geometry: sizes that relate the two grids.
    precision: as in `conv`.
    preferred_element_type: as in `conv`.

  Returns:
    [*K, C / groups, O] array.
  """
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
    function: a linear function from `shape` to the shape of `cotangent`.
    shape: shape of its argument, and of the result.
    cotangent: array to pull back.

  Returns:
    array of `shape` and of the dtype of `cotangent`.
  """
  # A linear function has the same pullback everywhere, so also at zero. Inside
  # `jax.shard_map` that zero must vary as the cotangent does, or its pullback
  # would be summed over the devices.
  origin = layout.zeros(shape, cotangent.dtype, like=cotangent)
  return jax.vjp(function, origin)[1](cotangent)[0]
