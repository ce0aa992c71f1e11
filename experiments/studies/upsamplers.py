"""What study 1 compares: one trunk, and layers that make a large image of it.

The upsampling layer comes last and writes luminance, so that what it paints is
seen in the picture.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import math
import re
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

import tconv
from tconv import initializers

BASELINES = ('nearest', 'bilinear', 'bicubic')
CURES = ('equal phases', 'repaired', 'penalty', 'hold')
_OTHERS = ('sub-pixel', 'sub-pixel ICNR', 'nearest+conv', 'bilinear+conv')
_LARGEST = 16  # Taps: as far as `tconv.equivalent_kernel` sees at x2.
NAMES = ', '.join((
    *BASELINES, f'transposed kK with a K up to {_LARGEST}',
    *(f'transposed kK {cure}' for cure in CURES), *_OTHERS))
_TRANSPOSED = re.compile(rf'transposed k([1-9]\d*)(?: ({"|".join(CURES)}))?')

# Equal for equal arguments, so that equal networks are compiled once.
_bind = functools.cache(functools.partial)


def is_known(name: str) -> bool:
  """Tells whether there is an upsampler of this name.

  Args:
    name: such as those in `NAMES`.

  Returns:
    Whether it is one of `BASELINES`, or can be learned.
  """
  match = _TRANSPOSED.fullmatch(str(name))
  return (name in BASELINES or name in _OTHERS
          or match is not None and int(match[1]) <= _LARGEST)


def fits(name: str, scale: int) -> bool:
  """Tells whether an upsampler writes every pixel.

  Args:
    name: of the upsampler.
    scale: factor.

  Returns:
    Whether its kernel, if it is transposed, is at least as large as the scale.
    The pixels between smaller ones only get the bias.
  """
  match = _TRANSPOSED.fullmatch(name)
  return match is None or int(match[1]) >= scale


class Layer(nnx.Module):
  """A convolution-like operation with its kernel, and a bias per channel."""

  def __init__(self, operation: Callable[[jax.Array, jax.Array], jax.Array],
               kernel_shape: Sequence[int], *, rngs: nnx.Rngs,
               in_axis: int = -2, initializer: Callable | None = None,
               constraint: Callable[[jax.Array], jax.Array] | None = None,
               after: Callable[[jax.Array], jax.Array] | None = None):
    """Draws the kernel.

    Args:
      operation: of inputs and kernel.
      kernel_shape: [*K, in, out], or [*K, out, in] with `in_axis` -1.
      rngs: where the kernel is drawn from.
      in_axis: the kernel's axis of input channels.
      initializer: of the kernel; LeCun's normal one if left out.
      constraint: what the kernel goes through before it is used.
      after: what the result goes through, bias included.
    """
    out_axis = -2 if in_axis == -1 else -1
    init = initializer or nnx.initializers.lecun_normal(in_axis, out_axis)
    self.operation, self.constraint, self.after = operation, constraint, after
    self.kernel = nnx.Param(init(rngs.params(), kernel_shape))
    self.bias = nnx.Param(jnp.zeros((1, 1, 1, kernel_shape[out_axis])))

  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.kernel[...]
    if self.constraint:
      kernel = self.constraint(kernel)
    y = self.operation(x, kernel) + self.bias[...]
    return self.after(y) if self.after else y

  def fold(self) -> None:
    """Keeps the constrained kernel, so that none is needed from now on."""
    if self.constraint:
      self.kernel[...] = self.constraint(self.kernel[...])
      self.constraint = None


def upsampling_layer(name: str, channels: int, scale: int,
                     rngs: nnx.Rngs) -> Layer:
  """Makes the layer from features to a luminance image `scale` times as large.

  Args:
    name: of a learned upsampler. Other kernels than those of 'transposed kK'
      are 3x3. 'penalty' and 'repaired' start as the plain layer does.
    channels: of the features.
    scale: factor.
    rngs: where the kernel is drawn from.

  Returns:
    Layer from [N, h, w, channels] to [N, scale * h, scale * w, 1].
  """
  if name.startswith('sub-pixel'):
    initializer = initializers.icnr(scale) if name.endswith('ICNR') else None
    # A bias for each of the scale**2 channels, as sub-pixel layers have it.
    return Layer(tconv.conv, (3, 3, channels, scale**2), rngs=rngs,
                 initializer=initializer,
                 after=_bind(tconv.depth_to_space, block_size=scale))
  if name.endswith('+conv'):
    method = name.removesuffix('+conv')
    return Layer(_bind(tconv.resize_conv, scale=scale, method=method),
                 (3, 3, channels, 1), rngs=rngs)
  match = _TRANSPOSED.fullmatch(name)
  assert match, name
  size, cure = int(match[1]), match[2]
  equalize = _bind(tconv.equalize_phases, strides=scale)
  hold = _bind(tconv.zero_order_hold, scale=scale)
  return Layer(
      _bind(tconv.conv_transpose, strides=scale),
      (size, size, 1, channels), rngs=rngs, in_axis=-1,
      constraint=equalize if cure == 'equal phases' else None,
      after=hold if cure == 'hold' else None)


class Network(nnx.Module):
  """A trunk of convolutions with ReLU, then an upsampling layer."""

  def __init__(self, name: str, trunk: ml_collections.ConfigDict, scale: int,
               rngs: nnx.Rngs):
    """Draws all kernels, those of the trunk first.

    Args:
      name: of the upsampler; an interpolation has no trunk.
      trunk: `kernel_sizes`, and the number of `channels`.
      scale: factor.
      rngs: where kernels are drawn from.
    """
    self.trunk = nnx.List()
    self.upsampling: Any  # A Layer, where it is learned.
    if name in BASELINES:
      self.upsampling = _bind(tconv.upsample, scale=scale, method=name)
      return
    inputs = 1
    for size in trunk.kernel_sizes:
      self.trunk.append(
          Layer(tconv.conv, (size, size, inputs, trunk.channels), rngs=rngs))
      inputs = trunk.channels
    self.upsampling = upsampling_layer(name, inputs, scale, rngs)

  def features(self, low: jax.Array) -> jax.Array:
    """Maps [N, h, w, 1] luminance to the [N, h, w, O] that is upsampled."""
    for layer in self.trunk:
      low = nnx.relu(layer(low))
    return low

  def __call__(self, low: jax.Array) -> jax.Array:
    """Enlarges [N, h, w, 1] luminance to [N, scale * h, scale * w, 1]."""
    return self.upsampling(self.features(low))


def repair(network: Network, scale: int) -> Network:
  """Equalizes the phases of a trained transposed convolution.

  Args:
    network: with a transposed convolution; not changed.
    scale: factor.

  Returns:
    The repaired network.
  """
  repaired = nnx.clone(network)
  repaired.upsampling.constraint = _bind(tconv.equalize_phases, strides=scale)
  repaired.upsampling.fold()
  return repaired


def multiply_adds(name: str, network: Network, scale: int) -> float:
  """Counts the multiplications, each with an addition, for an output pixel.

  Args:
    name: of the upsampler.
    network: of that name.
    scale: factor.

  Returns:
    Their number away from the border. An interpolation counts one for each
    coarse position that makes a fine one (copies none), a moving average one
    for each pixel that is averaged.
  """
  method, interpolation = name.removesuffix('+conv'), 0.
  if method in BASELINES and method != 'nearest':
    taps = tconv.interpolation_kernel((scale, scale), method=method)
    interpolation = np.count_nonzero(np.abs(taps) > 1e-12) / scale**2
  if name in BASELINES:
    return interpolation
  trunk = sum(layer.kernel[...].size for layer in network.trunk) / scale**2
  kernel = network.upsampling.kernel[...]
  if name.endswith('+conv'):
    return trunk + kernel.size + interpolation * kernel.shape[-2]
  hold = scale**2 if name.endswith(' hold') else 0
  return trunk + kernel.size / scale**2 + hold


def num_parameters(network: Network) -> int:
  """Counts what is learned.

  Args:
    network: of any name.

  Returns:
    Number of kernel and bias elements.
  """
  return sum(math.prod(leaf.shape)
             for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
