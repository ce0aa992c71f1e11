"""What XLA makes of tconv for an H100, compiled here and not run.

    .venv-codegen/bin/python -m pytest -o addopts= tests/compiled/on_h100.py

`make test` runs this file where `make codegen` has installed the compilers; in
the environment of the other tests it is not collected. The limits are those of
`experiments.compiled.limits`.
"""

import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from experiments.compiled import facts
from experiments.compiled import hlo
from experiments.compiled import limits
from experiments.compiled import programs
from experiments.compiled import targets
from experiments.timing import layers
from experiments.timing import through_jax
import tconv

TARGET = 'h100'
DTYPES = tuple(limits.DTYPES)
KINDS = 'forward', 'training'
# Batch, coarse size, channels in and out; taps, stride, padding, output
# padding, dilation and groups. Channels are multiples of 8: cuDNN pads others
# for half types.
LAYERS = {name: layers.Layer(name, 'tests', *numbers) for name, numbers in {
    'k4s2': (8, (16, 16), 64, 32, 4, 2, 1),
    'k3s2': (8, (16, 16), 64, 32, 3, 2, 1, 1),
    'k5s2': (8, (16, 16), 64, 32, 5, 2, 2, 1),
    'k3s1': (8, (16, 16), 64, 32, 3, 1, 1),
    '1-D k16s8': (8, (64,), 64, 32, 16, 8, 4),
    '3-D k2s2': (2, (8, 8, 8), 64, 32, 2, 2, 0),
    '3-D k3s2': (2, (8, 8, 8), 64, 32, 3, 2, 1, 1),
    'k64s32': (1, (16, 16), 24, 24, 64, 32, 16),
    'grouped': (8, (16, 16), 64, 32, 4, 2, 1, 0, 1, 4),
    'grouped k3': (8, (16, 16), 64, 64, 3, 2, 1, 1, 1, 16),
    'depthwise': (8, (16, 16), 32, 32, 4, 2, 1, 0, 1, 32),
    'dilated d2': (8, (16, 16), 64, 32, 3, 2, 2, 1, 2),
    # Sizes that are no multiple of 3 are filled up to one: 1.27 times the work
    # at 16.
    'dilated d3': (8, (15, 15), 64, 32, 3, 2, 3, 1, 3),
}.items()}
PLAIN = 'k4s2', '3-D k3s2'
WITHOUT_CALL = 'grouped', 'depthwise', 'dilated d2', 'dilated d3'
# Bars that are not met. XLA swaps image and kernel where the kernel is larger:
# no call of cuDNN's backward-input remains, however it is asked for. A kernel
# that the stride does not divide is cut into four, whose results are added up:
# a quarter of the multiply-adds of lax, in twice its memory, going forward.
ALLOWED = {'k64s32': {'calls'}, 'grouped k3': {'memory'}}

of_layer = functools.cache(functools.partial(programs.of_layer, TARGET))


def peer(layer, kind, dtype):
  """What bounds the memory: Flax, or lax where that has no groups."""
  return of_layer('lax' if layer.groups > 1 else 'flax', layer, kind, dtype)


def operands(layer, dtype):
  """Inputs, kernel and cotangents of tconv's function, on one device."""
  return [targets.placed(TARGET, shape, dtype) for shape in (
      layer.inputs_shape, layer.kernel_shape, layer.outputs_shape)]


def function(layer):
  return through_jax.program('tconv', layer, 'forward')[0]


def training(apply):
  """The output and both gradients."""

  def train(inputs, kernel, cotangents):
    outputs, pull_back = jax.vjp(apply, inputs, kernel)
    return outputs, *pull_back(cotangents)

  return train


def with_batch(shape, *sizes):
  return jax.ShapeDtypeStruct((*sizes, *shape.shape), shape.dtype,
                              sharding=shape.sharding)


# Transformed trainings: a function, its arguments, and how many contractions it
# needs at least.
def mapped(layer, dtype):
  inputs, kernel, outputs = operands(layer, dtype)
  return (training(jax.vmap(function(layer), in_axes=(0, None))),
          (with_batch(inputs, 3), kernel, with_batch(outputs, 3)), 3 * 3)


def scanned(layer, dtype, scale=1.):
  inputs, kernel, outputs = operands(layer, dtype)
  apply, steps = function(layer), 3

  def loss(images, kernel, wanted):
    # A kernel that is computed, as by equalized learning rates, is where XLA
    # finds ways to rewrite it.
    kernel = kernel * jnp.asarray(scale, dtype) if scale != 1 else kernel

    @jax.checkpoint
    def step(total, pair):
      difference = apply(pair[0], kernel) - pair[1]
      return total + (difference**2).sum(), None

    return lax.scan(step, jnp.zeros((), dtype), (images, wanted))[0]

  # Each output is computed twice, and squared.
  return (jax.value_and_grad(loss, (0, 1)),
          (with_batch(inputs, steps), kernel, with_batch(outputs, steps)),
          4 * steps)


def scaled(layer, dtype):
  return scanned(layer, dtype, .5)


def tangents(layer, dtype):
  """Forward over reverse."""
  inputs, kernel, outputs = operands(layer, dtype)

  def product(primals, tangents, cotangents):
    return jax.jvp(lambda inputs, kernel: training(function(layer))(
        inputs, kernel, cotangents), primals, tangents)

  # Output and gradients; for the tangents, two outputs, and each gradient once
  # more with the other operand's tangent.
  return product, ((inputs, kernel), (inputs, kernel), outputs), 7


class CompiledTest(parameterized.TestCase):

  @parameterized.product(layer=list(LAYERS), dtype=DTYPES, kind=KINDS,
                         name=('tconv', 'tconv.nnx'))
  def test_layer(self, layer, dtype, kind, name):
    self.check_layer(LAYERS[layer], dtype, kind, name)

  @parameterized.parameters(*PLAIN, *WITHOUT_CALL)
  def test_layer_of_linen(self, layer):
    self.check_layer(LAYERS[layer], 'bfloat16', 'training', 'tconv.linen')

  @parameterized.parameters(*DTYPES)
  def test_accelerated_layer_of_flax(self, dtype):
    function, shapes = through_jax.program('flax', LAYERS['k4s2'], 'training')
    shapes = jax.tree.map(
        lambda a: targets.placed(TARGET, a.shape, dtype), shapes)
    # What is replaced depends on the devices that JAX has.
    with mock.patch.object(jax, 'default_backend', lambda: 'gpu'):
      summary = programs.summarize(
          TARGET, tconv.accelerate(function), *shapes)
    self.assertEmpty(summary.inserted)
    self.assertEqual([call.kind for call in summary.calls], [
        'convBackwardFilter', 'convBackwardInput', 'convForward'])

  def check_layer(self, layer, dtype, kind, name):
    summary = of_layer(name, layer, kind, dtype)
    found = limits.on_gpu(layer, kind, dtype, summary, peer(layer, kind, dtype))
    self.assertEmpty(set(found) - ALLOWED.get(layer.name, set()), summary)

  @parameterized.product(layer=PLAIN + WITHOUT_CALL,
                         dtype=('float32', 'bfloat16'),
                         transform=(mapped, scanned, scaled, tangents))
  def test_transformed(self, layer, dtype, transform):
    layer = LAYERS[layer]
    train, arguments, contractions = transform(layer, dtype)
    summary = programs.summarize(
        TARGET, train, *arguments, at_least=programs.image_size(layer))
    self.assertEmpty(summary.inserted)
    for call in summary.calls:
      self.assertEqual({operand.dtype for operand in call.operands},
                       {limits.DTYPES[dtype]}, call)
    self.assertLessEqual(summary.multiply_adds,
                         limits.WORK * contractions * layer.multiply_adds)
    if limits.is_plain(layer):
      self.assertEqual({call.kind for call in summary.calls}, {
          'convBackwardInput', 'convForward', 'convBackwardFilter'})


class ShardedTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.mesh = jax.sharding.Mesh(targets.devices(TARGET), ('devices',))

  def shape(self, shape, *spec):
    return jax.ShapeDtypeStruct(
        shape, jnp.float32, sharding=jax.sharding.NamedSharding(
            self.mesh, PartitionSpec(*spec)))

  def gathered(self, train, *arguments):
    program = hlo.parse(
        targets.compiled(TARGET, train, *arguments).as_text())
    self.assertTrue(facts.calls(program) or facts.multiply_adds(program))
    return facts.all_gathered(program)

  # XLA gathers the batch for any grouped convolution that is not depthwise,
  # lax's own too.
  @parameterized.parameters(*PLAIN, 'depthwise', 'dilated d2', 'dilated d3')
  def test_by_batch(self, layer):
    layer = LAYERS[layer]
    shard = lambda shape: self.shape((4 * shape[0], *shape[1:]), 'devices')
    self.assertEmpty(self.gathered(
        training(function(layer)), shard(layer.inputs_shape),
        self.shape(layer.kernel_shape), shard(layer.outputs_shape)))

  @parameterized.parameters('k4s2', 'grouped', 'depthwise')
  def test_by_rows(self, layer):
    layer = LAYERS[layer]
    rows = PartitionSpec(None, 'devices')
    apply = tconv.sharded(function(layer), rows, halo=2, mesh=self.mesh)
    self.assertEmpty(self.gathered(
        training(apply), self.shape(layer.inputs_shape, *rows),
        self.shape(layer.kernel_shape), self.shape(layer.outputs_shape, *rows)))


if __name__ == '__main__':
  absltest.main()
