"""The platform's own: `jax.lax.conv_transpose`, or the call it stands for."""

import jax
from jax import lax

from tconv.forms import layout
from tconv.geometry import Geometry


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution by asking lax to.

  `lax.conv_transpose` takes the padding of the *dilated* input, which is what
  the forward convolution's leaves of a full one: k_eff - 1 - low. It knows no
  groups; with them, this is the `lax.conv_general_dilated` call underneath.

  Args:
    y: [N, *coarse, O] array.
    kernel: [*K, C / groups, O] kernel of the forward convolution.
    geometry: sizes that relate the two grids.
    precision: as in `jax.lax.conv_transpose`.
    preferred_element_type: dtype to accumulate in and to return.

  Returns:
    [N, *fine, C] array.
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
