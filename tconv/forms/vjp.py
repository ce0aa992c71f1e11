"""The definition: an ordinary convolution, and its two pullbacks.

`conv` is linear in the fine array and linear in the kernel. Pulling a coarse
array back through the first gives the transposed convolution, through the
second the kernel's gradient. The pullback knows every size from the shapes, so
there is no padding arithmetic to get wrong here.
"""

import jax
from jax import lax

from tconv.forms import patches
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
      dimension_numbers=patches.channels_last(geometry.num_axes),
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
  dtype = preferred_element_type or y.dtype
  channels = kernel.shape[-2] * geometry.feature_group_count
  x = jax.ShapeDtypeStruct(
      (y.shape[0], *geometry.fine_size, channels), y.dtype)
  convolve = lambda x: conv(x, kernel, geometry, precision=precision,
                            preferred_element_type=dtype)
  return jax.linear_transpose(convolve, x)(y.astype(dtype))[0].astype(dtype)


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
  dtype = preferred_element_type or x.dtype
  channels = x.shape[-1] // geometry.feature_group_count
  kernel = jax.ShapeDtypeStruct(
      (*geometry.kernel_size, channels, y.shape[-1]), dtype)
  x, y = x.astype(dtype), y.astype(dtype)
  convolve = lambda kernel: conv(x, kernel, geometry, precision=precision)
  return jax.linear_transpose(convolve, kernel)(y)[0]
