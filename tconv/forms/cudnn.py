"""The convolutions of cuDNN, written so that XLA recognizes them.

cuDNN has three convolutions: forward, backward-input and backward-filter. They
are the three operations of this library. XLA's GPU compiler looks for them in a
program. It recognizes backward-input in a convolution of a zero-inserted image
only if three conditions hold: the kernel is the result of a `reverse`, no other
`reverse` has cancelled that one, and the padding is equal at both ends.
Otherwise XLA inserts the zeros and multiplies with them.

This form is `vjp` with these conditions met. docs/accelerators.md gives the
evidence, which comes from compiled programs.
"""

import jax
from jax import lax

from tconv.forms import layout
from tconv.forms import vjp
from tconv.geometry import Geometry
from tconv.geometry import Pads


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *,
         precision=None, preferred_element_type=None) -> jax.Array:
  """Convolves, by cuDNN's forward convolution."""
  dtype = preferred_element_type or x.dtype
  pads, added = _equal_pads(geometry)
  x, kernel = layout.extend(x.astype(dtype), added), kernel.astype(dtype)
  return _convolve(x, _hidden(kernel), geometry, pads, precision)


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution, by cuDNN's backward-input."""
  dtype = preferred_element_type or y.dtype
  pads, added = _equal_pads(geometry)
  y, kernel = y.astype(dtype), _hidden(kernel.astype(dtype))
  fine_size = (f + lo + hi for f, (lo, hi) in zip(geometry.fine_size, added))
  channels = kernel.shape[-2] * geometry.feature_group_count
  x = vjp.pull_back(
      lambda x: _convolve(x, kernel, geometry, pads, precision),
      (y.shape[0], *fine_size, channels), y)
  return layout.extend(x, tuple((-lo, -hi) for lo, hi in added))


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry, *,
                     precision=None, preferred_element_type=None) -> jax.Array:
  """Computes the kernel gradient, by cuDNN's backward-filter."""
  dtype = preferred_element_type or x.dtype
  pads, added = _equal_pads(geometry)
  x, y = layout.extend(x.astype(dtype), added), y.astype(dtype)
  if max(geometry.strides, default=1) == 1:
    # If `y` were a `reverse`, XLA would mistake it for backward-input's kernel.
    y = lax.optimization_barrier(y)
  channels = x.shape[-1] // geometry.feature_group_count
  return vjp.pull_back(
      lambda kernel: _convolve(x, kernel, geometry, pads, precision),
      (*geometry.kernel_size, channels, y.shape[-1]), y)


def _convolve(x, kernel, geometry, pads, precision):
  return lax.conv_general_dilated(
      x, kernel, geometry.strides, pads, rhs_dilation=geometry.dilation,
      dimension_numbers=layout.channels_last(geometry.num_axes),
      feature_group_count=geometry.feature_group_count, precision=precision)


def _hidden(kernel: jax.Array) -> jax.Array:
  """Returns the kernel itself, protected from a `reverse` around it.

  A kernel that is already reversed, such as that of a Flax layer, would cancel
  the `reverse` by which XLA recognizes backward-input. Here the kernel is
  reversed axis by axis, and then once more as a flat array. XLA does not see
  that the two cancel. Both are fused into the copy that gives cuDNN its layout.
  """
  turned = lax.rev(kernel, range(kernel.ndim - 1))
  flat = turned.reshape(-1, kernel.shape[-1])
  return lax.rev(flat, (0,)).reshape(kernel.shape)


def _equal_pads(geometry: Geometry) -> tuple[Pads, Pads]:
  """Makes the padding equal at both ends of each axis.

  A high padding that exceeds the exact one by less than the stride does not
  change the result.

  Args:
    geometry: sizes that relate the two grids.

  Returns:
    The (low, high) padding of the convolution, and the (low, high) numbers of
    zeros by which to extend the fine grid before it.
  """
  pads, added = [], []
  for (lo, hi), s in zip(geometry.padding, geometry.strides):
    pad = min(lo, hi + s - 1)
    pads.append((pad, pad))
    added.append((lo - pad, max(hi - pad, 0)))
  return tuple(pads), tuple(added)
