"""The convolutions of cuDNN, asked for in a way that XLA recognizes.

cuDNN has three convolutions, which are the three operations of this library:
forward, backward-input and backward-filter. XLA's GPU compiler looks for them
in a program. It takes a convolution of an image with zeros inserted for
backward-input only if the kernel is a `reverse`, if the padding is equal at
both ends, and if nothing has cancelled the `reverse` before. Otherwise it
writes the zeros out, and multiplies with them.

This form is `vjp` with these conditions met. docs/accelerators.md has the
evidence, read from compiled programs.
"""

import jax
from jax import lax

from tconv.forms import layout
from tconv.forms import vjp
from tconv.geometry import Geometry
from tconv.geometry import Pads


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *,
         precision=None, preferred_element_type=None) -> jax.Array:
  """Convolves by cuDNN's forward convolution."""
  dtype = preferred_element_type or x.dtype
  pads, added = _equal_pads(geometry)
  x, kernel = layout.extend(x.astype(dtype), added), kernel.astype(dtype)
  return _convolve(x, _hidden(kernel), geometry, pads, precision)


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution by cuDNN's backward-input."""
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
  """Gives the kernel by cuDNN's backward-filter."""
  dtype = preferred_element_type or x.dtype
  pads, added = _equal_pads(geometry)
  x, y = layout.extend(x.astype(dtype), added), y.astype(dtype)
  if max(geometry.strides, default=1) == 1:
    # A `y` that is a `reverse` would be taken for the kernel of backward-input.
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
  """Returns the kernel itself, in a way that cancels no `reverse` around it.

  A kernel that arrives reversed, as that of a Flax layer does, would cancel the
  `reverse` by which XLA recognizes backward-input. XLA does not see that
  turning the kernel around axis by axis, and then once more as a flat array,
  changes nothing; both are fused into the copy by which cuDNN gets its layout.
  """
  turned = lax.rev(kernel, range(kernel.ndim - 1))
  flat = turned.reshape(-1, kernel.shape[-1])
  return lax.rev(flat, (0,)).reshape(kernel.shape)


def _equal_pads(geometry: Geometry) -> tuple[Pads, Pads]:
  """Makes the padding the same at both ends of an axis.

  A high padding from the exact one to stride - 1 more gives the same result.

  Args:
    geometry: sizes that relate the two grids.

  Returns:
    The (low, high) padding of the convolution, and the (low, high) zeros to
    extend the fine grid by before it.
  """
  pads, added = [], []
  for (lo, hi), s in zip(geometry.padding, geometry.strides):
    pad = min(lo, hi + s - 1)
    pads.append((pad, pad))
    added.append((lo - pad, max(hi - pad, 0)))
  return tuple(pads), tuple(added)
