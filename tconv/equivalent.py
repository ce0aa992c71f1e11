"""The kernel of any linear upsampler, from its impulse response."""

from collections.abc import Callable
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tconv import geometry


def equivalent_kernel(upsampler: Callable[[jax.Array], jax.Array],
                      strides: Sequence[int], channels: int, *,
                      reach: int = 4) -> jax.Array:
  """The kernel whose transposed convolution equals a given linear upsampler.

  It is the upsampler's impulse response. With it, the phases of any linear
  upsampler can be measured: of sub-pixel and resize convolutions, or of a
  transposed convolution followed by a fixed layer.

  Args:
    upsampler: function from [N, *coarse, O] to [N, *(coarse * strides), C]
      arrays of the default float dtype. It must be linear, except for a bias,
      and translation invariant away from the border.
    strides: upsampling factor of each axis.
    channels: number of input channels, O.
    reach: number of coarse positions on each side that the impulse reaches, and
      its distance from the border. The response beyond it is cut off. 4 is
      enough for kernels of 8 * strides taps.

  Returns:
    [*K, C, O] array with K = (2 * reach + 1) * strides.

  Raises:
    ValueError: an argument is invalid, or the upsampler's result has a wrong
      size.

  Example:
    >>> upsampler = lambda y: tconv.upsample(y, 2)
    >>> kernel = tconv.equivalent_kernel(upsampler, (2,), channels=1, reach=1)
    >>> kernel[:, 0, 0]
    Array([0.  , 0.25, 0.75, 0.75, 0.25, 0.  ], dtype=float32)
    >>> round(float(tconv.phase_nonuniformity(kernel, 2)), 2)
    0.0
  """
  if not isinstance(strides, Sequence):
    raise ValueError(f'strides must be a sequence of ints; got {strides!r}.')
  strides = geometry.per_axis('strides', strides, len(strides), 1)
  [channels] = geometry.per_axis('channels', channels, 1, 1)
  [reach] = geometry.per_axis('reach', reach, 1, 0)
  size = (2 * reach + 1,) * len(strides)
  each = np.arange(channels)
  dark = jnp.zeros((channels, *size, channels))
  response = upsampler(
      dark.at[(each, *(reach,) * len(size), each)].set(1)) - upsampler(dark)
  expected = tuple(n * s for n, s in zip(size, strides))
  if response.shape[1:-1] != expected:
    raise ValueError(
        f'upsampler must enlarge size {size} by {strides} to {expected}; got '
        f'{response.shape[1:-1]}.')
  return jnp.moveaxis(response, 0, -1)
