"""A model of transposed convolutions in a row, for the tests of audits."""

import functools

import jax
import numpy as np

import tconv
from tconv.audit import model as model_lib


@functools.partial(jax.jit, static_argnums=2)
def _run(x, weights, strides):
  before, after = [], []
  for (kernel, bias), s in zip(weights, strides):
    before.append(x)
    x = tconv.conv_transpose(x, kernel, s) + bias
    after.append(x)
    x = jax.nn.relu(x)
  return before, after


class Chain(model_lib.Model):
  """Layers with a ReLU between them, and what a reader of files would find."""

  name = 'chain'
  inputs = (model_lib.Input('x', (1, 24, 24, 3), np.dtype('float32'), 3),)
  unknown = ()
  versions = {}

  def __init__(self, weights, strides=2):
    """Takes a kernel [k, k, C, O] and a bias [C] for each layer."""
    self.strides = ((strides,) * 2,) * len(weights)
    self.weights = [(np.asarray(kernel), np.asarray(bias).reshape(1, 1, 1, -1))
                    for kernel, bias in weights]
    self.upsamplers = [
        model_lib.Upsampler(
            f'up{i}', 'ConvTranspose', s, kernel.shape[:2], (1, 1), 1,
            model_lib.Weights(kernel, np.broadcast_to(
                bias[0], (*s, bias.shape[-1]))),
            tuple((k - n) // 2 for k, n in zip(kernel.shape, s)))
        for i, ((kernel, bias), s) in enumerate(zip(
            self.weights, self.strides))]

  def run(self, feeds):
    """See the base class."""
    before, after = _run(feeds['x'], self.weights, self.strides)
    names = [layer.name for layer in self.upsamplers]
    named = [dict(zip(names, map(np.asarray, x))) for x in (before, after)]
    return model_lib.Activations(*named, {'y': np.asarray(after[-1])})

  def replaced(self, weights):
    """See the base class."""
    new = [(w.kernel, w.bias[0, 0]) if w else old for w, old in zip(
        (weights.get(layer.name) for layer in self.upsamplers), self.weights)]
    return Chain(new, self.strides[0][0])


def random_chain(seed: int, culprit: int | None, *, layers: int = 3,
                 size: int = 4) -> Chain:
  """Draws a chain in which one layer, or none, paints a grid."""
  generator = np.random.default_rng(seed)
  weights, channels = [], 3
  for i in range(layers):
    fine = 3 if i == layers - 1 else 4
    kernel = generator.normal(
        .1, .3, (size, size, fine, channels)).astype(np.float32) / channels
    equal = np.asarray(tconv.equalize_phases(kernel, 2))
    # All but one layer have a thousandth of the pattern of random ones.
    share = .3 if i == culprit else .0003
    weights.append((equal + share * (kernel - equal),
                    generator.uniform(.1, .3, fine).astype(np.float32)))
    channels = fine
  return Chain(weights)
