"""The networks of the generator study.

Images are [N, size, size, colors] in [-1, 1]; classes are [N] ints, or None.

References:
  Radford, Metz and Chintala, `Unsupervised representation learning with deep
  convolutional generative adversarial networks
  <https://arxiv.org/abs/1511.06434>`_, 2016.
  Miyato and Koyama, `cGANs with projection discriminator
  <https://arxiv.org/abs/1802.05637>`_, 2018.
"""

from collections.abc import Sequence
import itertools
import math
import re
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from experiments import upsamplers

SMALLEST = 4  # Pixels on a side of the first map.
POOLED = 'conv+pool'
DOWNSAMPLERS = (
    f'strided kK with a K up to {upsamplers.LARGEST_KERNEL}, {POOLED}')
_STRIDED = re.compile(r'strided k([1-9]\d*)')


def stack_name(stages: Sequence[str]) -> str:
  """Names a stack of stages: '2 x transposed k4, nearest+conv'."""
  runs = [(name, len(list(run))) for name, run in itertools.groupby(stages)]
  return ', '.join(name if number == 1 else f'{number} x {name}'
                   for name, number in runs)


def num_stages(size: int) -> int:
  """Counts the stages that double or halve a side between 4 and `size`."""
  return round(math.log2(size / SMALLEST))


class Generator(nnx.Module):
  """Maps random values, and a class, to an image.

  A dense layer makes a small map with many channels. Batch norm, ReLU and a
  stage follow each other; a stage doubles the size and halves the number of
  channels. The last stage writes the colors, and tanh follows.
  """

  def __init__(self, stages: Sequence[str], *, latents: int, features: int,
               colors: int, classes: int, rngs: nnx.Rngs, **options: Any):
    """Draws the kernels.

    Args:
      stages: names of the upsampling layers, keys of `upsamplers.STAGES`.
      latents: number of latent values.
      features: number of channels before the last stage.
      colors: number of channels of the image.
      classes: number of classes; 0 for none.
      rngs: random streams for the kernels.
      **options: options of `Upsampler.layer`.
    """
    self.classes = classes
    channels = [features * 2**i for i in reversed(range(len(stages)))]
    self.dense = nnx.Linear(latents + classes, SMALLEST**2 * channels[0],
                            use_bias=False, rngs=rngs)
    self.norms = nnx.List(nnx.BatchNorm(c, rngs=rngs) for c in channels)
    # Batch norm adds a bias of its own; nothing follows the last stage.
    self.stages = nnx.List(
        upsamplers.REGISTRY[name].layer(
            *pair, 2, rngs=rngs, use_bias=i == len(stages), **options)
        for i, (name, pair) in enumerate(
            zip(stages, itertools.pairwise([*channels, colors])), start=1))

  def features(self, latents: jax.Array,
               classes: jax.Array | None) -> jax.Array:
    """Maps [N, latents] values to the input of the last stage.

    Args:
      latents: random values.
      classes: classes of the images.

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
  """Tells whether it is one of `DOWNSAMPLERS`."""
  match = _STRIDED.fullmatch(str(name))
  return name == POOLED or (
      match is not None and int(match[1]) <= upsamplers.LARGEST_KERNEL)


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
  """Maps an image, and its class, to the logit that it is real.

  Each stage halves the size and doubles the number of channels. Batch norm,
  except after the first stage, and leaky ReLU follow. The class is compared
  with the result by a projection.
  """

  def __init__(self, downsampler: str, *, size: int, features: int,
               colors: int, classes: int, rngs: nnx.Rngs):
    """Draws the kernels.

    Args:
      downsampler: name of the layers, one of `DOWNSAMPLERS`.
      size: size of the image in pixels.
      features: number of channels after the first stage.
      colors: number of channels of the image.
      classes: number of classes; 0 for none.
      rngs: random streams for the kernels.
    """
    channels = [features * 2**i for i in range(num_stages(size))]
    self.stages = nnx.List(
        _Downsampler(downsampler, *pair, use_bias=i == 0, rngs=rngs)
        for i, pair in enumerate(itertools.pairwise([colors, *channels])))
    self.norms = nnx.List(nnx.BatchNorm(c, rngs=rngs) for c in channels[1:])
    values = SMALLEST**2 * channels[-1]
    self.dense = nnx.Linear(values, 1, rngs=rngs)
    # Zeros: at the start, all classes look alike.
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
  """Maps an image to logits of its class, to score generated images."""

  def __init__(self, *, size: int, colors: int, classes: int, rngs: nnx.Rngs):
    """Draws the kernels.

    Args:
      size: size of the image in pixels.
      colors: number of channels of the image.
      classes: number of classes.
      rngs: random streams for the kernels.
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
