"""Initial kernels for upsampling layers, in the style of jax.nn.initializers.

Each function returns an initializer `init(key, shape, dtype)`.
"""

from collections.abc import Callable
from collections.abc import Sequence
import math

import jax
from jax.nn import initializers
import jax.numpy as jnp
import numpy as np

from tconv import geometry

Initializer = Callable[..., jax.Array]

_default_initializer = initializers.lecun_normal()


def icnr(scale: int | Sequence[int],
         initializer: Initializer = _default_initializer, *,
         mode: str = 'DCR') -> Initializer:
  """Starts a sub-pixel convolution as a nearest-neighbor resize convolution.

  The prod(scale) kernels that write the pixels of a block start equal. So the
  first images have no checkerboard, but training may bring one back.

  Args:
    scale: upsampling factor, one int or one for each spatial axis.
    initializer: initializer of the common kernel, [*K, I, C].
    mode: order of the channels, 'DCR' or 'CRD', as in `tconv.depth_to_space`.

  Returns:
    An initializer for kernels [*K, I, prod(scale) * C] of
    `tconv.sub_pixel_conv` with the same `mode`. It raises a ValueError if a
    shape does not fit.

  Raises:
    ValueError: `mode` is unknown.

  Example:
    >>> kernel = tconv.initializers.icnr(2)(jax.random.key(0), (3, 3, 4, 4))
    >>> x = tconv.sub_pixel_conv(jnp.ones((1, 8, 8, 4)), kernel, 2)
    >>> blocks = tconv.space_to_depth(x, 2)  # All pixels of a block are equal.
    >>> bool((blocks == blocks[..., :1]).all())
    True

  References:
    Aitken et al., `Checkerboard artifact free sub-pixel convolution
    <https://arxiv.org/abs/1707.02937>`_, 2017.
  """
  if mode not in ('DCR', 'CRD'):
    raise ValueError(f"mode must be 'DCR' or 'CRD'; got {mode!r}.")

  def init(key: jax.Array, shape: Sequence[int],
           dtype: jax.typing.DTypeLike | None = None) -> jax.Array:
    _check_shape(shape)
    copies = math.prod(geometry.per_axis('scale', scale, len(shape) - 2, 1))
    if shape[-1] % copies:
      raise ValueError(
          f'shape must end in a multiple of prod(scale) = {copies} channels; '
          f'got {tuple(shape)}.')
    kernel = initializer(key, (*shape[:-1], shape[-1] // copies), dtype)
    if mode == 'CRD':  # The offset within the block varies fastest.
      return jnp.repeat(kernel, copies, -1)
    return jnp.tile(kernel, copies)

  return init


def bilinear_upsampling() -> Initializer:
  """Starts a transposed convolution as bilinear interpolation.

  Each channel is upsampled by itself: within each group, the kernel is zero
  where input and output channel differ. The factor is ceil(k / 2). So a kernel
  size of 2 * stride (minus one for an odd stride) with 'SAME' padding gives
  exactly `tconv.upsample`, away from the border.

  Returns:
    An initializer for kernels [*K, C / groups, O] with C = O. It ignores the
    random key, and raises a ValueError if a shape does not fit.

  Example:
    >>> init = tconv.initializers.bilinear_upsampling()
    >>> kernel = init(jax.random.key(0), (4, 1, 1))
    >>> kernel[:, 0, 0]
    Array([0.25, 0.75, 0.75, 0.25], dtype=float32)
    >>> y = jnp.array([0., 4., 8.]).reshape(1, 3, 1)
    >>> tconv.conv_transpose(y, kernel, strides=2)[0, :-1, 0]
    Array([0., 1., 3., 5., 7.], dtype=float32)

  References:
    Long, Shelhamer and Darrell, `Fully convolutional networks for semantic
    segmentation <https://arxiv.org/abs/1411.4038>`_, 2015.
  """

  def init(key: jax.Array, shape: Sequence[int],
           dtype: jax.typing.DTypeLike | None = None) -> jax.Array:
    del key
    _check_shape(shape)
    *kernel_size, fine, coarse = shape
    if coarse % fine:
      raise ValueError(
          'shape must end in [C / groups, O] channels with C = O, so that the '
          f'first divides the second; got {tuple(shape)}.')
    taps = np.ones(())
    for size in kernel_size:
      factor = -(-size // 2)
      distance = np.abs(np.arange(size) - (size - 1) / 2)
      taps = np.multiply.outer(taps, 1 - distance / factor)
    own = np.arange(fine)[:, None] == np.arange(coarse) % fine
    return jnp.asarray(np.multiply.outer(taps, own), dtype)

  return init


def _check_shape(shape: Sequence[int]) -> None:
  if len(shape) < 3 or min(shape) < 1:
    raise ValueError(
        'shape must be that of a kernel [*K, C / groups, O] with at least one '
        f'spatial axis and no size below 1; got {tuple(shape)}.')
