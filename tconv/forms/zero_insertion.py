"""The textbook picture: insert zeros between the inputs, then convolve."""

import jax
from jax import lax
import jax.numpy as jnp

from tconv.forms import layout
from tconv.geometry import Geometry


def insert_zeros(y: jax.Array, strides: tuple[int, ...]) -> jax.Array:
  """Spreads [N, *size, C] out to [N, *((size - 1) * strides + 1), C]."""
  gaps = [(0, 0, s - 1) for s in strides]
  return lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution by spreading `y` out with zeros and convolving.

  This is the textbook picture of a fractionally strided convolution. The kernel
  is rotated by 180 degrees. All but one in prod(strides) of the products
  multiply an inserted zero, so the form serves reading and checking, not speed.

  References:
    Dumoulin and Visin, `A guide to convolution arithmetic for deep learning
    <https://arxiv.org/abs/1603.07285>`_, 2016, section 4.
  """
  groups = geometry.feature_group_count
  padding = tuple(
      (e - 1 - lo, e - 1 - hi)
      for e, (lo, hi) in zip(geometry.effective_kernel_size, geometry.padding))
  return lax.conv_general_dilated(
      insert_zeros(y, geometry.strides),
      layout.flip(layout.swap_channels(kernel, groups)),
      (1,) * geometry.num_axes, padding, rhs_dilation=geometry.dilation,
      dimension_numbers=layout.channels_last(geometry.num_axes),
      feature_group_count=groups, precision=precision,
      preferred_element_type=preferred_element_type)
