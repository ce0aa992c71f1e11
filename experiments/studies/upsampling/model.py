"""The networks of the upsampling study, and how they are trained.

All networks have the same trunk of convolutions. The upsampling layer is the
last one and writes luminance, so that its pattern is seen in the picture.
"""

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from experiments import upsamplers
from experiments.harness import loop
import tconv


class Network(nnx.Module):
  """A trunk of convolutions with ReLU, then an upsampling layer."""

  def __init__(self, upsampler: upsamplers.Upsampler,
               trunk: ml_collections.ConfigDict, scale: int, rngs: nnx.Rngs,
               **options: Any):
    """Draws all kernels, those of the trunk first.

    Args:
      upsampler: entry of the registry; an interpolation has no trunk.
      trunk: 'kernel_sizes' and number of 'channels'.
      scale: factor.
      rngs: random streams for the kernels.
      **options: options of `Upsampler.layer`.
    """
    features, self.trunk = 1, nnx.List()
    if upsampler.is_learned:
      for size in trunk.kernel_sizes:
        self.trunk.append(
            nnx.Conv(features, trunk.channels, (size, size), rngs=rngs))
        features = trunk.channels
    self.upsampling: Any = upsampler.layer(
        features, 1, scale, rngs=rngs, **options)
    self.hold = scale if upsampler.cure == 'hold' else None

  def features(self, low: jax.Array) -> jax.Array:
    """Maps [N, h, w, 1] luminance to the [N, h, w, O] that is upsampled."""
    for layer in self.trunk:
      low = nnx.relu(layer(low))
    return low

  def enlarge(self, features: jax.Array) -> jax.Array:
    """Maps [N, h, w, O] features to [N, scale * h, scale * w, 1] luminance."""
    high = self.upsampling(features)
    return tconv.zero_order_hold(high, self.hold) if self.hold else high

  def __call__(self, low: jax.Array) -> jax.Array:
    """Enlarges [N, h, w, 1] luminance to [N, scale * h, scale * w, 1]."""
    return self.enlarge(self.features(low))


def training_step(network: Network, upsampler: upsamplers.Upsampler,
                  scale: int, config: ml_collections.ConfigDict
                  ) -> tuple[Callable[[Any, Any], tuple[Any, loop.Metrics]],
                             Any]:
  """Makes the step that trains a network, and the state to start from.

  Args:
    network: network before training; not changed.
    upsampler: upsampler of the network.
    scale: factor.
    config: config of the study.

  Returns:
    The step, as `loop.train` takes it, and the state: the parameters and the
    optimizer's state.
  """
  graph, params = nnx.split(network)
  params = jax.tree.map(jnp.copy, params)  # Training donates its state.
  weight = config.penalty if upsampler.cure == 'penalty' else 0
  optimizer = optax.adam(
      optax.cosine_decay_schedule(config.learning_rate, config.num_steps))

  def loss(params, batch):
    network = nnx.merge(graph, params)
    mse = jnp.mean((network(batch['low']) - batch['high'])**2)
    if not weight:
      return mse, {'mse': mse}
    penalty = tconv.checkerboard_penalty(
        network.upsampling.kernel[...], scale)
    return mse + weight * penalty, {'mse': mse, 'penalty': penalty}

  def step(state, batch):
    params, moments = state
    gradient, losses = jax.grad(loss, has_aux=True)(params, batch)
    updates, moments = optimizer.update(gradient, moments)
    return (optax.apply_updates(params, updates), moments), losses

  return step, (params, optimizer.init(params))


def equalized(network: Network, images: Sequence[np.ndarray] | None = None
              ) -> Network:
  """Copies a network and writes equal phases into the kernel of the copy.

  The network has a transposed convolution. The kernel of the copy is no longer
  equalized at each call.

  Args:
    network: the network.
    images: [h, w, 1] luminance of images to calibrate with; None for the
      nearest kernel.

  Returns:
    The copy.
  """
  network = nnx.clone(network)
  layer = network.upsampling
  if images is None:
    layer.equal_phases = True
    layer.fold()
  else:
    size = np.min([image.shape for image in images], 0)
    crops = np.stack([image[:size[0], :size[1]] for image in images])
    layer.fold(network.features(jnp.asarray(crops)))
  return network


def multiply_adds(upsampler: upsamplers.Upsampler, network: Network,
                  scale: int) -> float:
  """Mean number of multiply-adds for a pixel away from the border."""
  trunk = sum(layer.kernel[...].size for layer in network.trunk) / scale**2
  kernel = (network.upsampling.kernel[...].shape if upsampler.is_learned
            else ())
  return trunk + upsampler.multiply_adds(kernel, scale)


def num_parameters(network: Network) -> int:
  """Number of elements of all kernels and biases."""
  return sum(math.prod(leaf.shape)
             for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
