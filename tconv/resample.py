"""Interpolation, pixel shuffle and the upsamplers that are built on them.

Grids are aligned at their outer edges, as in `jax.image.resize`: the center of
fine position f is at (f + 1/2) / scale - 1/2 on the coarse grid. Arrays are
channels last, [N, *size, C], with one to three spatial axes.
"""

from collections.abc import Sequence
import functools
import math

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tconv import arguments
from tconv import arrays
from tconv import geometry
from tconv import operations
from tconv import sharding


def _triangle(t):
  return np.maximum(1 - np.abs(t), 0)


def _keys(t):
  """Keys' cubic with a = -1/2, which reproduces quadratics."""
  t = np.abs(t)
  near = (1.5 * t - 2.5) * t**2 + 1
  far = ((-.5 * t + 2.5) * t - 4) * t + 2
  return np.where(t < 1, near, np.where(t < 2, far, 0))


# The filter of each method, as a function of coarse positions, and its radius.
_FILTERS = {
    'nearest': (np.ones_like, .5),
    'bilinear': (_triangle, 1),
    'bicubic': (_keys, 2),
}


def interpolation_kernel(scale: Sequence[int], *,
                         method: str = 'bilinear') -> np.ndarray:
  """The kernel whose transposed convolution interpolates.

  `conv_transpose` with this kernel, `scale` as strides and 'SAME' padding
  equals `upsample` of each channel, except that positions outside of the image
  count as zero. Reshape the kernel to [*K, 1, 1] for one channel, or repeat it
  to [*K, 1, C] and use C feature groups.

  Args:
    scale: upsampling factor of each axis.
    method: 'nearest', 'bilinear' or 'bicubic'.

  Returns:
    [*K] float64 array with the sum prod(scale). K is scale for 'nearest',
    2 * scale for 'bilinear' and 4 * scale for 'bicubic'; the last two are
    smaller by one if scale is odd.

  Raises:
    ValueError: `scale` or `method` is invalid.

  Example:
    >>> taps = tconv.interpolation_kernel((2,))
    >>> taps
    array([0.25, 0.75, 0.75, 0.25])
    >>> kernel = jnp.asarray(taps, jnp.float32).reshape(4, 1, 1)
    >>> y = jnp.array([0., 4., 8.]).reshape(1, 3, 1)
    >>> tconv.conv_transpose(y, kernel, strides=2)[0, :, 0]
    Array([0., 1., 3., 5., 7., 6.], dtype=float32)
    >>> tconv.upsample(y, 2)[0, :, 0]
    Array([0., 1., 3., 5., 7., 8.], dtype=float32)
  """
  if method not in _FILTERS:
    raise ValueError(
        f'method must be one of {", ".join(_FILTERS)}; got {method!r}.')
  if not isinstance(scale, Sequence):
    raise ValueError(f'scale must be a sequence of ints; got {scale!r}.')
  response, reach = _FILTERS[method]
  kernel = np.ones(())
  for s in geometry.per_axis('scale', scale, len(scale), 1):
    size = s if method == 'nearest' else int(2 * reach) * s - s % 2
    taps = response((np.arange(size) + .5 - size / 2) / s)
    kernel = np.multiply.outer(kernel, taps)
  return kernel


@sharding.keeping_batch
def upsample(inputs: jax.Array, scale: int | Sequence[int], *,
             method: str = 'bilinear') -> jax.Array:
  """Interpolates an image to an integer multiple of its size.

  The result equals `jax.image.resize(..., antialias=False)`. At the border, the
  weights of positions outside of the image are set to zero and the others are
  scaled such that their sum is one. For 'bilinear' this is the same as
  repeating the edge.

  Args:
    inputs: [N, *size, C] array of floats.
    scale: upsampling factor, one int or one for each axis.
    method: 'nearest', 'bilinear' or 'bicubic' (Keys, a = -1/2).

  Returns:
    [N, *(size * scale), C] array.

  Raises:
    ValueError: `scale` or `method` is invalid.

  Example:
    >>> x = jnp.array([0., 4.]).reshape(1, 2, 1)
    >>> tconv.upsample(x, 2)[0, :, 0]
    Array([0., 1., 3., 4.], dtype=float32)
    >>> tconv.upsample(x, 2, method='nearest')[0, :, 0]
    Array([0., 0., 4., 4.], dtype=float32)

  References:
    Keys, `Cubic convolution interpolation for digital image processing
    <https://doi.org/10.1109/TASSP.1981.1163711>`_, 1981.
  """
  inputs, factors = _image(inputs, 'scale', scale)
  for axis, factor in enumerate(factors, start=1):
    inputs = _upsample_axis(inputs, axis, factor, method)
  return inputs


def _upsample_axis(x: jax.Array, axis: int, scale: int,
                   method: str) -> jax.Array:
  """Enlarges one axis; at the border, weights are scaled to a sum of one."""
  if method == 'nearest':  # A cheaper way to the same result.
    return jnp.repeat(x, scale, axis)
  taps = jnp.asarray(interpolation_kernel((scale,), method=method), x.dtype)
  spread = functools.partial(
      operations.conv_transpose, kernel=taps[:, None, None], strides=scale,
      precision='highest')
  lines = jnp.moveaxis(x, axis, -1)
  *others, size = lines.shape
  fine = spread(lines.reshape(math.prod(others), size, 1))
  fine = fine / spread(jnp.ones((1, size, 1), x.dtype))
  return jnp.moveaxis(fine.reshape(*others, size * scale), -1, axis)


@sharding.keeping_batch
def depth_to_space(inputs: jax.Array, block_size: int | Sequence[int], *,
                   mode: str = 'DCR') -> jax.Array:
  """Moves channels into blocks of the spatial grid (pixel shuffle).

  There are two orders of the channels; `mode` names them as ONNX does. Channel
  c at offset (a, b) of a block comes from this channel of the input::

    'DCR', as in TensorFlow: (a * block + b) * C + c
    'CRD', as in PyTorch's PixelShuffle: (c * block + a) * block + b

  The wrong order gives an image of the same shape with wrong colors and
  details. Only a comparison of values reveals the mistake.

  Args:
    inputs: [N, *size, prod(block_size) * C] array.
    block_size: one int, or one for each axis.
    mode: order of the channels, 'DCR' or 'CRD'.

  Returns:
    [N, *(size * block_size), C] array.

  Raises:
    ValueError: `mode` or `block_size` is invalid, or `block_size` does not fit
      the channels.

  Example:
    >>> x = jnp.arange(8).reshape(1, 1, 1, 8)  # One block of 2 channels.
    >>> tconv.depth_to_space(x, 2)[0, ..., 0]
    Array([[0, 2],
           [4, 6]], dtype=int32)
    >>> tconv.depth_to_space(x, 2, mode='CRD')[0, ..., 0]
    Array([[0, 1],
           [2, 3]], dtype=int32)

  References:
    ONNX, `DepthToSpace
    <https://onnx.ai/onnx/operators/onnx__DepthToSpace.html>`_, opset 13, 2020.
  """
  check_mode(mode)
  inputs, blocks = _image(inputs, 'block_size', block_size)
  batch, *size, depth = inputs.shape
  n = len(blocks)
  if depth % math.prod(blocks):
    raise ValueError(
        'inputs must have a number of channels divisible by '
        f'{math.prod(blocks)} = prod(block_size); got {depth}.')
  channels = depth // math.prod(blocks)
  if mode == 'DCR':
    x = inputs.reshape(batch, *size, *blocks, channels)
  else:
    x = inputs.reshape(batch, *size, channels, *blocks)
    x = jnp.moveaxis(x, n + 1, -1)
  pairs = (axis for i in range(1, n + 1) for axis in (i, n + i))
  x = x.transpose(0, *pairs, 2 * n + 1)
  return x.reshape(batch, *(s * b for s, b in zip(size, blocks)), x.shape[-1])


@sharding.keeping_batch
def space_to_depth(inputs: jax.Array, block_size: int | Sequence[int], *,
                   mode: str = 'DCR') -> jax.Array:
  """Moves blocks of the spatial grid into channels: undoes `depth_to_space`.

  Args:
    inputs: [N, *size, C] array.
    block_size: one int, or one for each axis.
    mode: order of the channels, as in `depth_to_space`: 'DCR', or 'CRD' for
      that of PyTorch's `PixelUnshuffle`.

  Returns:
    [N, *(size / block_size), prod(block_size) * C] array.

  Raises:
    ValueError: `mode` or `block_size` is invalid, or `block_size` does not
      divide the size.

  Example:
    >>> image = jnp.arange(16).reshape(1, 4, 4, 1)
    >>> blocks = tconv.space_to_depth(image, 2)
    >>> blocks.shape
    (1, 2, 2, 4)
    >>> blocks[0, 0, 0]
    Array([0, 1, 4, 5], dtype=int32)
    >>> bool((tconv.depth_to_space(blocks, 2) == image).all())
    True
  """
  check_mode(mode)
  inputs, blocks = _image(inputs, 'block_size', block_size)
  batch, *size, channels = inputs.shape
  n = len(blocks)
  if any(s % b for s, b in zip(size, blocks)):
    raise ValueError(
        f'inputs must have a size divisible by block_size {blocks}; got '
        f'{tuple(size)}.')
  coarse = [s // b for s, b in zip(size, blocks)]
  x = inputs.reshape(
      batch, *(v for pair in zip(coarse, blocks) for v in pair), channels)
  x = x.transpose(0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2), 2 * n + 1)
  if mode == 'CRD':
    x = jnp.moveaxis(x, -1, n + 1)
  return x.reshape(batch, *coarse, math.prod(blocks) * channels)


def resize_conv(inputs: jax.Array, kernel: jax.Array,
                scale: int | Sequence[int],
                padding: geometry.Padding = 'SAME', *,
                method: str = 'nearest',
                feature_group_count: int = 1,
                precision: lax.PrecisionLike = None) -> jax.Array:
  """Interpolates, then convolves: upsampling without checkerboards.

  Args:
    inputs: [N, *size, I] array of floats.
    kernel: [*K, I / feature_group_count, O] array of the same dtype.
    scale: upsampling factor, one int or one for each axis.
    padding: padding of the convolution on the fine grid, as in `tconv.conv`.
    method: 'nearest', 'bilinear' or 'bicubic'.
    feature_group_count: number of groups of channels.
    precision: precision of the products, a `jax.lax.PrecisionLike`; None for
      the default of the platform.

  Returns:
    [N, *(size * scale), O] array, for 'SAME' padding.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> y, kernel = jnp.ones((1, 8, 8, 4)), jnp.arange(72.).reshape(3, 3, 4, 2)
    >>> x = tconv.resize_conv(y, kernel, 2)
    >>> x.shape
    (1, 16, 16, 2)
    >>> inside = x[:, 1:-1, 1:-1]  # A constant stays one: no checkerboard.
    >>> bool((inside == inside[:, :1, :1]).all())
    True

  References:
    Odena, Dumoulin and Olah, `Deconvolution and checkerboard artifacts
    <https://doi.org/10.23915/distill.00003>`_, 2016.
  """
  inputs, kernel, _ = arguments.image_and_kernel(  # Checks them as passed.
      inputs, kernel, None, feature_group_count)
  scale = geometry.per_axis('scale', scale, inputs.ndim - 2, 1)
  return operations.conv(
      upsample(inputs, scale, method=method), kernel, 1, padding,
      feature_group_count=feature_group_count, precision=precision)


def sub_pixel_conv(inputs: jax.Array, kernel: jax.Array,
                   scale: int | Sequence[int],
                   padding: geometry.Padding = 'SAME', *,
                   mode: str = 'DCR',
                   feature_group_count: int = 1,
                   precision: lax.PrecisionLike = None) -> jax.Array:
  """Convolves to prod(scale) times the channels, then applies pixel shuffle.

  Args:
    inputs: [N, *size, I] array of floats.
    kernel: [*K, I / feature_group_count, prod(scale) * C] array of the same
      dtype; `mode` gives the order of the last axis.
    scale: upsampling factor, one int or one for each axis.
    padding: padding of the convolution on the coarse grid, as in `tconv.conv`.
    mode: order of the channels, 'DCR' or 'CRD' (that of PyTorch's
      `PixelShuffle`), as in `depth_to_space`.
    feature_group_count: number of groups of channels.
    precision: precision of the products, a `jax.lax.PrecisionLike`; None for
      the default of the platform.

  Returns:
    [N, *(size * scale), C] array, for 'SAME' padding.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> y = jnp.ones((1, 8, 8, 4))
    >>> kernel = jnp.ones((3, 3, 4, 12))  # 12 = 2 * 2 pixels of 3 channels.
    >>> tconv.sub_pixel_conv(y, kernel, 2).shape
    (1, 16, 16, 3)

  References:
    Shi et al., `Real-time single image and video super-resolution using an
    efficient sub-pixel convolutional neural network
    <https://arxiv.org/abs/1609.05158>`_, 2016.
  """
  result = operations.conv(
      inputs, kernel, 1, padding, feature_group_count=feature_group_count,
      precision=precision)
  scale = geometry.per_axis('scale', scale, result.ndim - 2, 1)
  return depth_to_space(result, scale, mode=mode)


@sharding.keeping_batch
def zero_order_hold(inputs: jax.Array,
                    scale: int | Sequence[int]) -> jax.Array:
  """Averages over windows of one period: a cure that needs no training.

  A moving average over one period cancels every pattern of that period. Applied
  after an upsampler, it removes the grid. The price is some blur, for which a
  layer that is trained with it can compensate. At the border, the average is
  over the positions inside the image.

  Args:
    inputs: [N, *size, C] array of floats.
    scale: size of the window: the factor of the upsampler before it, one int or
      one for each axis.

  Returns:
    [N, *size, C] array.

  Raises:
    ValueError: `scale` or the dtype of `inputs` is invalid.

  Example:
    >>> x = jnp.array([1., 3., 1., 3., 1., 3.]).reshape(1, 6, 1)
    >>> tconv.zero_order_hold(x, 2)[0, :, 0]
    Array([2., 2., 2., 2., 2., 3.], dtype=float32)

  References:
    Kinoshita and Kiya, `Fixed smooth convolutional layer for avoiding
    checkerboard artifacts in CNNs <https://arxiv.org/abs/2002.02117>`_, 2020.
  """
  inputs, window = _image(inputs, 'scale', scale)
  if not jnp.issubdtype(inputs.dtype, jnp.inexact):
    raise ValueError(f'inputs must be of a floating dtype; got {inputs.dtype}.')
  total = lax.reduce_window(
      inputs, inputs.dtype.type(0), lax.add, (1, *window, 1),
      (1,) * inputs.ndim, 'SAME')
  for axis, s in enumerate(window, start=1):
    size = inputs.shape[axis]
    position = jnp.arange(size)
    inside = (jnp.minimum(position + s // 2, size - 1)
              - jnp.maximum(position - (s - 1) // 2, 0) + 1)
    inside = inside.astype(inputs.dtype)
    total /= inside.reshape([-1 if a == axis else 1 for a in range(total.ndim)])
  return total


def check_mode(mode: str) -> None:
  """Raises a ValueError if `mode` is not an order of channels."""
  if mode not in ('DCR', 'CRD'):
    raise ValueError(f"mode must be 'DCR' or 'CRD'; got {mode!r}.")


def _image(inputs, name, factors) -> tuple[jax.Array, geometry.Size]:
  """Checks the rank of an image, and reads a factor for each axis."""
  inputs = arrays.read('inputs', inputs, (3, 4, 5), '[N, *size, C]')
  arrays.check_batch('inputs', inputs, name, factors)
  return inputs, geometry.per_axis(name, factors, inputs.ndim - 2, 1)
