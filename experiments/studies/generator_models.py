"""What study 2 trains: generators, discriminators, and a judge of digits.

Images are [N, size, size, colors] in [-1, 1]; classes are [N] ints, or None.

References:
  Radford, Metz and Chintala, `Unsupervised representation learning with deep
  convolutional generative adversarial networks
  <https://arxiv.org/abs/1511.06434>`_, 2016.
  Miyato and Koyama, `cGANs with projection discriminator
  <https://arxiv.org/abs/1802.05637>`_, 2018.
"""

from collections.abc import Callable
from collections.abc import Sequence
import itertools
import math
import re
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from experiments.studies import blocks
import tconv

SMALLEST = 4  # Pixels a side, where a generator begins.
POOLED = 'conv+pool'
DOWNSAMPLERS = f'strided kK with a K up to {blocks.LARGEST_KERNEL}, {POOLED}'
_STRIDED = re.compile(r'strided k([1-9]\d*)')


def num_stages(size: int) -> int:
  """Counts the stages that double or halve a side between 4 and `size`."""
  return round(math.log2(size / SMALLEST))


class Generator(nnx.Module):
  """From random values, and a class, to an image.

  A dense layer makes a small map with many channels. Each stage doubles its
  size and halves its channels, after batch norm and ReLU; the last one writes
  the colours, and tanh follows.
  """

  def __init__(self, stages: Sequence[str], *, latents: int, features: int,
               colors: int, classes: int, rngs: nnx.Rngs,
               conv_transpose: Callable[..., nnx.Module]
               = tconv.nnx.ConvTranspose):
    """Draws the kernels.

    Args:
      stages: names of the upsampling layers, as in `blocks`.
      latents: number of random values.
      features: channels before the last stage.
      colors: channels of the image.
      classes: their number; 0 for none.
      rngs: where kernels are drawn from.
      conv_transpose: the class of transposed convolutions.
    """
    self.classes = classes
    channels = [features * 2**i for i in reversed(range(len(stages)))]
    self.dense = nnx.Linear(latents + classes, SMALLEST**2 * channels[0],
                            use_bias=False, rngs=rngs)
    self.norms = nnx.List(nnx.BatchNorm(c, rngs=rngs) for c in channels)
    # Batch norm adds a bias of its own; nothing follows the last stage.
    self.stages = nnx.List(
        blocks.upsampler(name, *pair, 2, rngs=rngs, use_bias=i == len(stages),
                         conv_transpose=conv_transpose)
        for i, (name, pair) in enumerate(
            zip(stages, itertools.pairwise([*channels, colors])), start=1))

  def features(self, latents: jax.Array,
               classes: jax.Array | None) -> jax.Array:
    """Maps [N, latents] to what the last stage enlarges.

    Args:
      latents: random values.
      classes: of the images.

    Returns:
      [N, size / 2, size / 2, features] array.
    """
    if self.classes:
      latents = jnp.concatenate(
          [latents, jax.nn.one_hot(classes, self.classes)], -1)
    x = self.dense(latents).reshape(len(latents), SMALLEST, SMALLEST, -1)
    x = nnx.relu(self.norms[0](x))
    for stage, norm in zip(self.stages, self.norms[1:]):
      x = nnx.relu(norm(stage(x)))
    return x

  def paint(self, features: jax.Array) -> jax.Array:
    """Maps features to the image before tanh: linear but for the bias."""
    return self.stages[-1](features)

  def __call__(self, latents: jax.Array,
               classes: jax.Array | None) -> jax.Array:
    """Makes images of [N, latents] random values and their classes."""
    return jnp.tanh(self.paint(self.features(latents, classes)))


def is_downsampler(name: Any) -> bool:
  """Tells whether discriminators can be made of such layers.

  Args:
    name: such as those in `DOWNSAMPLERS`.

  Returns:
    Whether `Discriminator` takes it.
  """
  match = _STRIDED.fullmatch(str(name))
  return name == POOLED or (
      match is not None and int(match[1]) <= blocks.LARGEST_KERNEL)


class _Downsampler(nnx.Module):
  """A strided convolution, or a 3x3 one followed by the mean of 2x2 pixels."""

  def __init__(self, name: str, fan_in: int, fan_out: int, *, use_bias: bool,
               rngs: nnx.Rngs):
    match = _STRIDED.fullmatch(name)
    size, self.stride = (int(match[1]), 2) if match else (3, 1)
    self.conv = nnx.Conv(fan_in, fan_out, (size, size), self.stride,
                         use_bias=use_bias, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = self.conv(x)
    return x if self.stride == 2 else nnx.avg_pool(x, (2, 2), (2, 2))


class Discriminator(nnx.Module):
  """From an image, and its class, to the logit of its being real.

  Each stage halves the size and doubles the channels; leaky ReLU follows, and
  before it batch norm, but in the first stage. The class is compared with what
  comes out, by a projection.
  """

  def __init__(self, downsampler: str, *, size: int, features: int,
               colors: int, classes: int, rngs: nnx.Rngs):
    """Draws the kernels.

    Args:
      downsampler: one of `DOWNSAMPLERS`.
      size: of the image in pixels.
      features: channels after the first stage.
      colors: channels of the image.
      classes: their number; 0 for none.
      rngs: where kernels are drawn from.
    """
    channels = [features * 2**i for i in range(num_stages(size))]
    self.stages = nnx.List(
        _Downsampler(downsampler, *pair, use_bias=i == 0, rngs=rngs)
        for i, pair in enumerate(itertools.pairwise([colors, *channels])))
    self.norms = nnx.List(nnx.BatchNorm(c, rngs=rngs) for c in channels[1:])
    values = SMALLEST**2 * channels[-1]
    self.dense = nnx.Linear(values, 1, rngs=rngs)
    # From zero: at the start, all classes look alike.
    self.classes = nnx.data(None)
    if classes:
      self.classes = nnx.Embed(classes, values, rngs=rngs,
                               embedding_init=nnx.initializers.zeros)

  def __call__(self, images: jax.Array,
               classes: jax.Array | None) -> jax.Array:
    """Maps images and their classes to [N] logits."""
    x = nnx.leaky_relu(self.stages[0](images), .2)
    for stage, norm in zip(self.stages[1:], self.norms):
      x = nnx.leaky_relu(norm(stage(x)), .2)
    x = x.reshape(len(x), -1)
    logits = self.dense(x)[:, 0]
    if self.classes is not None:
      logits += (x * self.classes(jnp.asarray(classes))).sum(-1)
    return logits


class Classifier(nnx.Module):
  """From an image to logits of its class: the judge of what was generated."""

  def __init__(self, *, size: int, colors: int, classes: int, rngs: nnx.Rngs):
    """Draws the kernels.

    Args:
      size: of the image in pixels.
      colors: channels of the image.
      classes: their number.
      rngs: where kernels are drawn from.
    """
    channels = [16 * 2**i for i in range(num_stages(size))]
    self.stages = nnx.List(
        nnx.Conv(fan_in, fan_out, (3, 3), 2, rngs=rngs)
        for fan_in, fan_out in itertools.pairwise([colors, *channels]))
    self.dense = nnx.Linear(SMALLEST**2 * channels[-1], 64, rngs=rngs)
    self.scores = nnx.Linear(64, classes, rngs=rngs)

  def features(self, images: jax.Array) -> jax.Array:
    """Maps images to [N, 64] values, from which the class is told."""
    for stage in self.stages:
      images = nnx.relu(stage(images))
    return nnx.relu(self.dense(images.reshape(len(images), -1)))

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps images to [N, classes] logits."""
    return self.scores(self.features(images))
