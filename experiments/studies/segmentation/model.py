"""The networks of the segmentation study, and how they are trained.

They are fully convolutional networks with skip connections. An encoder halves
the image three times; 1x1 convolutions score the classes on each of its grids.
Head 8 takes the scores of the coarsest grid only; head 4 enlarges them by 2 and
adds those of the next grid, and head 2 does so once more. A decoder enlarges
the sum to the size of the image.

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
import jax.numpy as jnp
import ml_collections
import optax

import tconv
from tconv import initializers

HEADS = (8, 4, 2)  # Strides, in the order in which scores are added.
# Three transposed convolutions, and the interpolation that they start as.
DECODERS = ('learned', 'frozen', 'equal phases', 'bilinear resize')
# The parameters of the layers that enlarge.
ENLARGING = nnx.All(nnx.Param, nnx.Any(
    nnx.PathContains('decoder'), nnx.PathContains('enlargers')))

_MOMENTUM = .9  # Of the running averages of batch norm.


# Equal for equal scales, so that equal networks are compiled once.
_resize = functools.cache(
    lambda scale: functools.partial(tconv.upsample, scale=scale))


class Segmenter(nnx.Module):
  """Maps an image to logits of the class of every pixel."""

  def __init__(self, head: int, decoder: str, *, in_features: int, classes: int,
               channels: Sequence[int], convolutions: int, rngs: nnx.Rngs,
               conv_transpose: Callable[..., nnx.Module]
               = tconv.nnx.ConvTranspose):
    """Draws the same encoder and scores for all heads and decoders.

    Args:
      head: one of `HEADS`.
      decoder: one of `DECODERS`, for every layer that enlarges.
      in_features: number of channels of the image.
      classes: number of classes.
      channels: numbers of channels of the encoder at strides 2, 4 and 8.
      convolutions: number of convolutions at each stride.
      rngs: random streams for the kernels.
      conv_transpose: class of transposed convolutions, so that tconv's can be
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
  """Makes a layer that enlarges scores; bilinear interpolation at first."""
  if decoder == 'bilinear resize':
    return _resize(scale)
  options = {'equal_phases': True} if decoder == 'equal phases' else {}
  # Without a bias, as in the paper.
  return conv_transpose(
      classes, classes, (2 * scale, 2 * scale), scale, use_bias=False,
      transpose_kernel=True, kernel_init=initializers.bilinear_upsampling(),
      rngs=rngs, **options)


def training_step(network: Segmenter, decoder: str,
                  config: ml_collections.ConfigDict
                  ) -> tuple[Callable, Callable[[Segmenter], Any]]:
  """Makes the step that trains networks of a kind.

  Args:
    network: one of them.
    decoder: decoder of the network.
    config: config of the study.

  Returns:
    The step, as `loop.train` takes it, and a function from a network to the
    state to start from: the parameters that enlarge and the others, batch
    statistics, and the optimizer's state.
  """
  graph, *_ = _split(network)
  adam = lambda rate: optax.adam(
      optax.cosine_decay_schedule(rate, config.num_steps))
  optimizer = optax.multi_transform({
      'enlarging': (optax.set_to_zero() if decoder == 'frozen'
                    else adam(config.decoder_learning_rate)),
      'others': adam(config.learning_rate)}, ('enlarging', 'others'))

  def begin(network):
    _, *variables = _split(network)
    # Training donates its state.
    enlarging, others, stats = jax.tree.map(jnp.copy, variables)
    return (enlarging, others), stats, optimizer.init((enlarging, others))

  def loss(params, stats, batch):
    network = nnx.merge(graph, *params, stats, copy=True)
    error = optax.softmax_cross_entropy_with_integer_labels(
        network(batch['image']), batch['mask']).mean()
    return error, _split(network)[-1]

  def step(state, batch):
    params, stats, moments = state
    (error, stats), gradient = jax.value_and_grad(loss, has_aux=True)(
        params, stats, batch)
    updates, moments = optimizer.update(gradient, moments)
    params = optax.apply_updates(params, updates)
    return (params, stats, moments), {'cross_entropy': error}

  return step, begin


def restored(network: Segmenter, state: Any) -> Segmenter:
  """Copies a network and gives the copy the state after training."""
  params, stats, _ = state
  return nnx.merge(_split(network)[0], *params, stats)


def _split(network: Segmenter):
  """The graph, the parameters that enlarge, the others, and the rest."""
  return nnx.split(network, ENLARGING, nnx.Param, ...)
