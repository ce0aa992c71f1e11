"""What study 1 compares: one trunk, and layers that make a large image of it.

The upsampling layer comes last and writes luminance, so that what it paints is
seen in the picture.
"""

import functools
import math
import re
from typing import Any

from flax import nnx
import jax
import ml_collections
import numpy as np

from experiments.studies import blocks
import tconv

BASELINES = ('nearest', 'bilinear', 'bicubic')
# 'equal phases' are a layer's own; the others are cures from outside.
CURES = ('equal phases', 'repaired', 'penalty', 'hold')
# Equal for equal arguments, so that equal networks are compiled once.
_bind = functools.cache(functools.partial)

NAMES = ', '.join((
    *BASELINES, blocks.NAMES, *(f'transposed kK {cure}' for cure in CURES[1:])))
_CURED = re.compile(rf'(transposed k(\d+))(?: (?:{"|".join(CURES)}))?')


def is_known(name: str) -> bool:
  """Tells whether there is an upsampler of this name.

  Args:
    name: such as those in `NAMES`.

  Returns:
    Whether it is one of `BASELINES`, or can be learned.
  """
  return name in BASELINES or blocks.is_known(_layer(str(name)))


def fits(name: str, scale: int) -> bool:
  """Tells whether an upsampler writes every pixel.

  Args:
    name: of the upsampler.
    scale: factor.

  Returns:
    Whether its kernel, if it is transposed, is at least as large as the scale.
    The pixels between smaller ones only get the bias.
  """
  match = _CURED.fullmatch(name)
  return match is None or int(match[2]) >= scale


def _layer(name: str) -> str:
  """The name of the layer that learns, without cures from outside."""
  match = _CURED.fullmatch(name)
  return match[1] if match and not name.endswith(CURES[0]) else name


class Network(nnx.Module):
  """A trunk of convolutions with ReLU, then an upsampling layer."""

  def __init__(self, name: str, trunk: ml_collections.ConfigDict, scale: int,
               rngs: nnx.Rngs, **options: Any):
    """Draws all kernels, those of the trunk first.

    Args:
      name: of the upsampler; an interpolation has no trunk.
      trunk: `kernel_sizes`, and the number of `channels`.
      scale: factor.
      rngs: where kernels are drawn from.
      **options: of `blocks.upsampler`.
    """
    self.trunk = nnx.List()
    self.upsampling: Any  # A layer, where it is learned.
    self.after = None
    if name in BASELINES:
      self.upsampling = _bind(tconv.upsample, scale=scale, method=name)
      return
    inputs = 1
    for size in trunk.kernel_sizes:
      self.trunk.append(
          nnx.Conv(inputs, trunk.channels, (size, size), rngs=rngs))
      inputs = trunk.channels
    self.upsampling = blocks.upsampler(
        _layer(name), inputs, 1, scale, rngs=rngs, **options)
    if name.endswith(' hold'):
      self.after = _bind(tconv.zero_order_hold, scale=scale)

  def features(self, low: jax.Array) -> jax.Array:
    """Maps [N, h, w, 1] luminance to the [N, h, w, O] that is upsampled."""
    for layer in self.trunk:
      low = nnx.relu(layer(low))
    return low

  def enlarge(self, features: jax.Array) -> jax.Array:
    """Maps [N, h, w, O] features to [N, scale * h, scale * w, 1] luminance."""
    high = self.upsampling(features)
    return self.after(high) if self.after else high

  def __call__(self, low: jax.Array) -> jax.Array:
    """Enlarges [N, h, w, 1] luminance to [N, scale * h, scale * w, 1]."""
    return self.enlarge(self.features(low))


def fold(network: Network, scale: int) -> None:
  """Keeps the kernel of equal phases, so that none is made from now on.

  Args:
    network: with a transposed convolution of any phases; it is changed.
    scale: factor.
  """
  layer = network.upsampling
  layer.kernel[...] = tconv.equalize_phases(layer.kernel[...], scale)
  layer.equal_phases = False


def repair(network: Network, scale: int) -> Network:
  """Equalizes the phases of a trained transposed convolution.

  Args:
    network: with a transposed convolution; not changed.
    scale: factor.

  Returns:
    The repaired network.
  """
  repaired = nnx.clone(network)
  fold(repaired, scale)
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
