"""One small dense convolution for all phases of the fine grid, interleaved."""

import math

import jax
from jax import lax
import jax.numpy as jnp

from tconv.forms import layout
from tconv.geometry import Geometry


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution phase by phase, all phases at once.

  Fine positions that agree modulo the stride meet the same taps. Each such
  phase is a dense convolution of `y` with every s-th tap; their outputs stand
  side by side as channels and are then woven together. Also known as sub-pixel
  convolution or kernel segregation. A dilated kernel is written out first.

  Args:
    y: [N, *coarse, O] array.
    kernel: [*K, C / groups, O] kernel of the forward convolution.
    geometry: sizes that relate the two grids.
    precision: as in `jax.lax.conv_general_dilated`.
    preferred_element_type: dtype to accumulate in and to return.

  Returns:
    [N, *fine, C] array.

  References:
    Shi et al., `Is the deconvolution layer the same as a convolutional layer?
    <https://arxiv.org/abs/1609.07009>`_, 2016.
  """
  n, groups = geometry.num_axes, geometry.feature_group_count
  strides, effective = geometry.strides, geometry.effective_kernel_size
  channels = kernel.shape[-2]
  shifts = tuple(-(-e // s) for e, s in zip(effective, strides))

  # Tap m * s + a becomes tap m of phase a: [*shifts, *phases, C / groups, O].
  zero = jnp.zeros((), kernel.dtype)
  kernel = lax.pad(kernel, zero, [
      *((0, m * s - e, d - 1) for m, s, e, d in zip(
          shifts, strides, effective, geometry.dilation)),
      (0, 0, 0), (0, 0, 0)])
  kernel = kernel.reshape(
      *(size for pair in zip(shifts, strides) for size in pair),
      *kernel.shape[-2:])
  kernel = kernel.transpose(
      *range(0, 2 * n, 2), *range(1, 2 * n, 2), 2 * n, 2 * n + 1)
  kernel = kernel.reshape(*shifts, math.prod(strides) * channels, -1)

  # Output q of a phase is the fine position q * s + a - low, so only those from
  # `first` to `last` reach the fine grid.
  first = tuple(lo // s for (lo, _), s in zip(geometry.padding, strides))
  last = tuple(-(-(lo + f) // s) for (lo, _), f, s in zip(
      geometry.padding, geometry.fine_size, strides))
  phases = lax.conv_general_dilated(
      y, layout.flip(layout.swap_channels(kernel, groups)), (1,) * n,
      [(m - 1 - start, stop - c) for m, start, stop, c in zip(
          shifts, first, last, geometry.coarse_size)],
      dimension_numbers=layout.channels_last(n), feature_group_count=groups,
      precision=precision, preferred_element_type=preferred_element_type)

  # [N, *q, groups, *phases, C / groups] -> [N, *(q, phase), groups, C / groups]
  sizes = phases.shape[1:-1]
  phases = phases.reshape(phases.shape[0], *sizes, groups, *strides, channels)
  woven = phases.transpose(
      0, *(axis for i in range(n) for axis in (1 + i, n + 2 + i)),
      n + 1, 2 * n + 2)
  woven = woven.reshape(
      phases.shape[0], *(q * s for q, s in zip(sizes, strides)),
      groups * channels)
  starts = tuple(lo - q * s for (lo, _), q, s in zip(
      geometry.padding, first, strides))
  return lax.slice(
      woven, (0, *starts, 0),
      (woven.shape[0], *(start + f for start, f in zip(
          starts, geometry.fine_size)), woven.shape[-1]))
