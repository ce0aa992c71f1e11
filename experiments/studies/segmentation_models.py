"""What study 3 compares: fully convolutional networks with skips.

An encoder halves the image three times; 1x1 convolutions score the classes on
each of its grids. Head 8 takes the scores of the coarsest grid only; head 4
enlarges them by 2 and adds those of the next grid, and head 2 does so once
more. A decoder enlarges the sum to the size of the image.

References:
  Long, Shelhamer and Darrell, `Fully convolutional networks for semantic
  segmentation <https://arxiv.org/abs/1411.4038>`_, 2015.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any

from flax import nnx
import jax

import tconv
from tconv import initializers

HEADS = (8, 4, 2)  # Strides, in the order in which scores are added up.
# Transposed convolutions, and last what they start as.
DECODERS = ('learned', 'frozen', 'equal phases', 'bilinear resize')
# The parameters of all that enlarges.
ENLARGING = nnx.All(nnx.Param, nnx.Any(
    nnx.PathContains('decoder'), nnx.PathContains('enlargers')))

_MOMENTUM = .9  # Of the running averages of batch norm.


# Equal for equal scales, so that equal networks are compiled once.
_resize = functools.cache(
    lambda scale: functools.partial(tconv.upsample, scale=scale))


class Segmenter(nnx.Module):
  """From an image to logits of the class of every pixel."""

  def __init__(self, head: int, decoder: str, *, in_features: int, classes: int,
               channels: Sequence[int], convolutions: int, rngs: nnx.Rngs,
               conv_transpose: Callable[..., nnx.Module]
               = tconv.nnx.ConvTranspose):
    """Draws the same encoder and scores for all heads and decoders.

    Args:
      head: one of `HEADS`.
      decoder: one of `DECODERS`; all that enlarges is of its kind.
      in_features: channels of the image.
      classes: number of classes.
      channels: of the encoder at strides 2, 4 and 8.
      convolutions: their number at each stride.
      rngs: where kernels are drawn from.
      conv_transpose: the class of transposed convolutions, so that it can be
        compared with that of Flax.
    """
    self.encoder = nnx.List()
    for features in channels:
      self.encoder.append(_stage(
          in_features, features, convolutions, rngs))
      in_features = features
    scores = [nnx.Conv(features, classes, (1, 1), rngs=rngs)
              for features in reversed(channels)]
    enlarge = functools.partial(
        _enlarger, decoder, classes, conv_transpose, rngs=rngs)
    number = HEADS.index(head) + 1
    self.scores = nnx.List(scores[:number])
    self.enlargers = nnx.List([enlarge(2) for _ in range(number - 1)])
    self.decoder: Any = enlarge(head)

  def coarse(self, images: jax.Array) -> jax.Array:
    """Maps [N, H, W, C] images to [N, H / head, W / head, classes] scores."""
    grids = []
    for stage in self.encoder:
      images = stage(images)
      grids.insert(0, images)
    total = self.scores[0](grids[0])
    for enlarge, score, grid in zip(self.enlargers, self.scores[1:], grids[1:]):
      total = enlarge(total) + score(grid)
    return total

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps images to logits.

    Args:
      images: [N, H, W, C] array; H and W are multiples of 8.

    Returns:
      [N, H, W, classes] array.
    """
    return self.decoder(self.coarse(images))


def _stage(in_features: int, features: int, convolutions: int,
           rngs: nnx.Rngs) -> nnx.Sequential:
  """From [N, H, W, in_features] to [N, H / 2, W / 2, features]."""
  layers = []
  for i in range(convolutions):
    layers += [
        nnx.Conv(features if i else in_features, features, (3, 3),
                 1 if i else 2, use_bias=False, rngs=rngs,
                 kernel_init=nnx.initializers.he_normal()),
        nnx.BatchNorm(features, momentum=_MOMENTUM, rngs=rngs), nnx.relu]
  return nnx.Sequential(*layers)


def _enlarger(decoder: str, classes: int,
              conv_transpose: Callable[..., nnx.Module], scale: int, *,
              rngs: nnx.Rngs) -> Callable[[jax.Array], jax.Array]:
  """Makes what enlarges scores, and starts as bilinear interpolation."""
  if decoder == 'bilinear resize':
    return _resize(scale)
  options = {'equal_phases': True} if decoder == 'equal phases' else {}
  # Without a bias, as in the paper.
  return conv_transpose(
      classes, classes, (2 * scale, 2 * scale), scale, use_bias=False,
      transpose_kernel=True, kernel_init=initializers.bilinear_upsampling(),
      rngs=rngs, **options)
