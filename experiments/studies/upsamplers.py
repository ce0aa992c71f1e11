"""What study 1 compares: one trunk, and layers that make a large image of it.

The upsampling layer comes last and writes luminance, so that what it paints is
seen in the picture.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import re

from flax import nnx
import jax
import jax.numpy as jnp
import ml_collections

import tconv

BASELINES = ('nearest', 'bilinear', 'bicubic')
NAMES = (f'{", ".join(BASELINES)}, transposed k3 (or of another size), '
         'sub-pixel, nearest+conv')
_LEARNED = r'transposed k[1-9]\d*|sub-pixel|nearest\+conv'


def is_known(name: str) -> bool:
  """Tells whether there is an upsampler of this name.

  Args:
    name: such as those in `NAMES`.

  Returns:
    Whether it is one of `BASELINES`, or can be learned.
  """
  return name in BASELINES or bool(re.fullmatch(_LEARNED, str(name)))


class Layer(nnx.Module):
  """A convolution-like operation with its kernel, and a bias per channel."""

  def __init__(self, operation: Callable[[jax.Array, jax.Array], jax.Array],
               kernel_shape: Sequence[int], *, channels: int, rngs: nnx.Rngs,
               in_axis: int = -2):
    """Draws the kernel.

    Args:
      operation: of inputs and kernel.
      kernel_shape: [*K, in, out], or [*K, out, in] with `in_axis` -1.
      channels: of the result.
      rngs: where the kernel is drawn from.
      in_axis: the kernel's axis of input channels.
    """
    self.operation = operation
    out_axis = -2 if in_axis == -1 else -1
    init = nnx.initializers.lecun_normal(in_axis, out_axis)
    self.kernel = nnx.Param(init(rngs.params(), kernel_shape))
    self.bias = nnx.Param(jnp.zeros((1, 1, 1, channels)))

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.operation(x, self.kernel[...]) + self.bias[...]


def upsampling_layer(name: str, channels: int, scale: int,
                     rngs: nnx.Rngs) -> Layer:
  """Makes the layer from features to a luminance image `scale` times as large.

  Args:
    name: 'transposed kK' with a K x K kernel, or 'sub-pixel' or 'nearest+conv'
      with a 3x3 kernel.
    channels: of the features.
    scale: factor.
    rngs: where the kernel is drawn from.

  Returns:
    Layer from [N, h, w, channels] to [N, scale * h, scale * w, 1].
  """
  layer = functools.partial(Layer, channels=1, rngs=rngs)
  if name == 'sub-pixel':
    return layer(functools.partial(tconv.sub_pixel_conv, scale=scale),
                 (3, 3, channels, scale**2))
  if name == 'nearest+conv':
    return layer(functools.partial(tconv.resize_conv, scale=scale),
                 (3, 3, channels, 1))
  size = int(name.removeprefix('transposed k'))
  return layer(functools.partial(tconv.conv_transpose, strides=scale),
               (size, size, 1, channels), in_axis=-1)


class Network(nnx.Module):
  """A trunk of convolutions with ReLU, then an upsampling layer."""

  def __init__(self, name: str, config: ml_collections.ConfigDict,
               rngs: nnx.Rngs):
    """Draws all kernels, those of the trunk first.

    Args:
      name: of the upsampling layer.
      config: of the study.
      rngs: where kernels are drawn from.
    """
    channels = config.trunk.channels
    inputs = 1
    self.trunk = nnx.List()
    for size in config.trunk.kernel_sizes:
      self.trunk.append(Layer(tconv.conv, (size, size, inputs, channels),
                              channels=channels, rngs=rngs))
      inputs = channels
    self.upsampling = upsampling_layer(name, inputs, config.scale, rngs)

  def __call__(self, low: jax.Array) -> jax.Array:
    """Enlarges [N, h, w, 1] luminance to [N, scale * h, scale * w, 1]."""
    for layer in self.trunk:
      low = nnx.relu(layer(low))
    return self.upsampling(low)
