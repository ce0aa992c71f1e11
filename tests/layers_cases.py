"""What the tests of the layers share: a layer as a function, whole numbers."""

from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp

from tconv import linen as tconv_linen
from tconv import nnx as tconv_nnx
from tests.references import integers

KINDS = ('nnx', 'linen')
OURS = {'nnx': tconv_nnx, 'linen': tconv_linen}
FLAX = {'nnx': nnx, 'linen': nn}
UPSAMPLERS = ('ResizeConv', 'SubPixelConv')
IMAGES = integers(0, (2, 5, 4, 4))


class Layer:
  """A layer of either kind, as a pure function of its parameters."""

  def __init__(self, module, name, images, features, kernel_size, *args,
               seed=0, **options):
    make = getattr(module, name)
    self.is_linen = module in (nn, tconv_linen)
    if self.is_linen:
      self.layer = make(features, kernel_size, *args, **options)
      self.state = self.layer.init(jax.random.key(seed), images)
      self.parameters = self.state['params']
    else:
      self.layer = make(images.shape[-1], features, kernel_size, *args,
                        rngs=nnx.Rngs(seed), **options)
      self.state = nnx.state(self.layer)
      self.parameters = nnx.to_pure_dict(nnx.state(self.layer, nnx.Param))

  def __call__(self, parameters, images, **options):
    if self.is_linen:
      return self.layer.apply({'params': parameters}, images, **options)
    graph, state, rest = nnx.split(self.layer, nnx.Param, ...)
    nnx.replace_by_pure_dict(state, parameters)
    return nnx.merge(graph, state, rest)(images, **options)


def whole(seed=0):
  """An initializer of small whole numbers, with which all sums are exact."""
  return lambda key, shape, dtype: jnp.asarray(integers(seed, shape), dtype)


WHOLE = dict(kernel_init=whole(1), bias_init=whole(2))
