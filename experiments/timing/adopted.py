"""Training steps of published models, built with layers of other libraries.

Each function returns a step and its arguments. The networks have the published
sizes. The losses are mean squared errors against random images, because only
the time of a step matters.
"""

from collections.abc import Callable
import importlib
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Step = tuple[Callable[..., Any], tuple[Any, ...]]


def _random(*shape: int) -> jax.Array:
  return jnp.asarray(
      np.random.default_rng(0).standard_normal(shape), jnp.float32)


def _descended(loss: Callable[..., jax.Array]) -> Callable[..., Any]:
  """Returns a step of gradient descent on the first argument of a loss.

  The step returns the gradients as well: in the new weights, their errors would
  be too small to see.
  """

  def step(weights, *batch):
    value, gradients = jax.value_and_grad(loss)(weights, *batch)
    weights = jax.tree.map(lambda w, g: w - 1e-3 * g, weights, gradients)
    return value, weights, gradients

  return step


def linen_dcgan() -> Step:
  """DCGAN's generator of 64x64 images, batch 32.

  Radford, Metz and Chintala, `Unsupervised representation learning with deep
  convolutional generative adversarial networks
  <https://arxiv.org/abs/1511.06434>`_, 2015, figure 1.
  """
  from flax import linen

  class Generator(linen.Module):

    @linen.compact
    def __call__(self, z):
      x = linen.Dense(4 * 4 * 1024)(z).reshape(-1, 4, 4, 1024)
      x = jax.nn.relu(linen.BatchNorm(use_running_average=False)(x))
      for features in (512, 256, 128):
        x = linen.ConvTranspose(features, (4, 4), (2, 2), use_bias=False)(x)
        x = jax.nn.relu(linen.BatchNorm(use_running_average=False)(x))
      return jnp.tanh(linen.ConvTranspose(3, (4, 4), (2, 2))(x))

  model, z = Generator(), _random(32, 100)
  variables = model.init(jax.random.key(0), z)

  def loss(weights, z, images):
    made, _ = model.apply(
        {'params': weights, 'batch_stats': variables['batch_stats']}, z,
        mutable=['batch_stats'])
    return ((made - images)**2).mean()

  return _descended(loss), (variables['params'], z, _random(32, 64, 64, 3))


def nnx_unet() -> Step:
  """U-Net with two levels on 64x64 images, batch 8, with 2x2 up-convolutions.

  Ronneberger, Fischer and Brox, `U-Net: Convolutional networks for biomedical
  image segmentation <https://arxiv.org/abs/1505.04597>`_, 2015, figure 1. Here
  borders are padded with zeros, and only the first three of five widths used.
  """
  from flax import nnx

  class Double(nnx.Module):

    def __init__(self, inputs, outputs, rngs):
      self.first = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
      self.second = nnx.Conv(outputs, outputs, (3, 3), rngs=rngs)

    def __call__(self, x):
      return jax.nn.relu(self.second(jax.nn.relu(self.first(x))))

  class UNet(nnx.Module):

    def __init__(self, rngs):
      self.down0, self.down1, self.down2 = (
          Double(a, b, rngs) for a, b in ((1, 64), (64, 128), (128, 256)))
      self.up1, self.up0 = (
          nnx.ConvTranspose(a, a // 2, (2, 2), (2, 2), rngs=rngs)
          for a in (256, 128))
      self.join1, self.join0 = Double(256, 128, rngs), Double(128, 64, rngs)
      self.out = nnx.Conv(64, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
      a = self.down0(x)
      b = self.down1(nnx.max_pool(a, (2, 2), (2, 2)))
      c = self.down2(nnx.max_pool(b, (2, 2), (2, 2)))
      b = self.join1(jnp.concatenate([b, self.up1(c)], -1))
      return self.out(self.join0(jnp.concatenate([a, self.up0(b)], -1)))

  graph, state = nnx.split(UNet(nnx.Rngs(0)))
  loss = lambda state, images, classes: (
      (nnx.merge(graph, state)(images) - classes)**2).mean()
  return _descended(loss), (state, _random(8, 64, 64, 1),
                            _random(8, 64, 64, 2))


def haiku_vqvae() -> Step:
  """Encoder and decoder of VQ-VAE on 32x32 images, batch 32.

  van den Oord, Vinyals and Kavukcuoglu, `Neural discrete representation
  learning <https://arxiv.org/abs/1711.00937>`_, 2017, section 4.1. The widths
  are those of Haiku's example, and the codebook is omitted.
  """
  hk = importlib.import_module('haiku')

  def residual(x):
    for _ in range(2):
      h = hk.Conv2D(32, 3)(jax.nn.relu(x))
      x += hk.Conv2D(128, 1)(jax.nn.relu(h))
    return jax.nn.relu(x)

  def network(x):
    x = jax.nn.relu(hk.Conv2D(64, 4, 2)(x))
    x = jax.nn.relu(hk.Conv2D(128, 4, 2)(x))
    x = hk.Conv2D(64, 1)(residual(hk.Conv2D(128, 3)(x)))
    x = residual(hk.Conv2D(128, 3)(x))
    x = jax.nn.relu(hk.Conv2DTranspose(64, 4, 2)(x))
    return hk.Conv2DTranspose(3, 4, 2)(x)

  model, images = hk.without_apply_rng(hk.transform(network)), _random(
      32, 32, 32, 3)
  loss = lambda weights, images: (
      (model.apply(weights, images) - images)**2).mean()
  return _descended(loss), (model.init(jax.random.key(0), images), images)


def equinox_dcgan() -> Step:
  """DCGAN's generator of 64x64 images in Equinox, batch 32.

  Widths and paddings are those of Equinox's example. Images have one channel,
  and batch norm is omitted.
  """
  eqx = importlib.import_module('equinox')
  keys = jax.random.split(jax.random.key(0), 5)
  sizes = ((100, 512, 1, 0), (512, 256, 2, 1), (256, 128, 2, 1),
           (128, 64, 2, 1), (64, 1, 2, 1))
  layers = [
      eqx.nn.ConvTranspose2d(a, b, 4, stride, padding=pad, use_bias=False,
                             key=key)
      for (a, b, stride, pad), key in zip(sizes, keys)]

  def generate(layers, z):
    for layer in layers[:-1]:
      z = jax.nn.relu(layer(z))
    return jnp.tanh(layers[-1](z))

  weights, rest = eqx.partition(layers, eqx.is_array)
  loss = lambda weights, z, images: ((jax.vmap(
      lambda z: generate(eqx.combine(weights, rest), z))(z) - images)**2).mean()
  return _descended(loss), (weights, _random(32, 100, 1, 1),
                            _random(32, 1, 64, 64))


def keras_vae() -> Step:
  """Decoder of the convolutional VAE of Keras' documentation, batch 128.

  Chollet, `Variational AutoEncoder
  <https://keras.io/examples/generative/vae>`_, 2020.
  """
  os.environ['KERAS_BACKEND'] = 'jax'
  keras = importlib.import_module('keras')
  layers = keras.layers
  model = keras.Sequential([
      keras.Input((2,)), layers.Dense(7 * 7 * 64, activation='relu'),
      layers.Reshape((7, 7, 64)),
      *(layers.Conv2DTranspose(n, 3, strides=2, padding='same',
                               activation='relu') for n in (64, 32)),
      layers.Conv2DTranspose(1, 3, padding='same', activation='sigmoid')])
  weights = [v.value for v in model.trainable_variables]
  loss = lambda weights, z, images: (
      (model.stateless_call(weights, [], z)[0] - images)**2).mean()
  return _descended(loss), (weights, _random(128, 2), _random(128, 28, 28, 1))


def keras_volumes() -> Step:
  """A decoder of volumes in Keras, 8^3 to 32^3, batch 2."""
  os.environ['KERAS_BACKEND'] = 'jax'
  keras = importlib.import_module('keras')
  model = keras.Sequential([
      keras.Input((8, 8, 8, 64)),
      *(keras.layers.Conv3DTranspose(n, 4, strides=2, padding='same',
                                     activation='relu') for n in (32, 16)),
      keras.layers.Conv3D(1, 3, padding='same')])
  weights = [v.value for v in model.trainable_variables]
  loss = lambda weights, x, volumes: (
      (model.stateless_call(weights, [], x)[0] - volumes)**2).mean()
  return _descended(loss), (weights, _random(2, 8, 8, 8, 64),
                            _random(2, 32, 32, 32, 1))


MODELS = {
    'Flax linen: DCGAN generator': linen_dcgan,
    'Flax nnx: U-Net': nnx_unet,
    'Haiku: VQ-VAE': haiku_vqvae,
    'Equinox: DCGAN generator': equinox_dcgan,
    'Keras: VAE decoder': keras_vae,
    'Keras: decoder of volumes': keras_volumes,
}
