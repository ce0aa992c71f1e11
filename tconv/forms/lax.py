"""The platform's own transposed convolution, `jax.lax.conv_transpose`."""

import jax
from jax import lax

from tconv.forms import layout
from tconv.geometry import Geometry


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution by calling lax.

  `lax.conv_transpose` expects the padding of the *dilated* input, which is
  k_eff - 1 minus that of the forward convolution. It does not support groups;
  with groups, this function makes the underlying `lax.conv_general_dilated`
  call itself.
  """
  groups = geometry.feature_group_count
  padding = tuple(
      (e - 1 - lo, e - 1 - hi)
      for e, (lo, hi) in zip(geometry.effective_kernel_size, geometry.padding))
  options = dict(
      rhs_dilation=geometry.dilation,
      dimension_numbers=layout.channels_last(geometry.num_axes),
      precision=precision, preferred_element_type=preferred_element_type)
  if groups == 1:
    return lax.conv_transpose(y, kernel, geometry.strides, padding,
                              transpose_kernel=True, **options)
  return lax.conv_general_dilated(
      y, layout.flip(layout.swap_channels(kernel, groups)),
      (1,) * geometry.num_axes, padding, lhs_dilation=geometry.strides,
      feature_group_count=groups, **options)
