"""Tiles and devices give what the whole image gives, to the last bit."""

import re
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import nnx
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np

import tconv
from tests.references import integers

P = jax.P
KERNEL = integers(1, (4, 4, 3, 2))
DOWN = integers(2, (4, 4, 2, 3))
FUNCTIONS = {  # With the halo that the module tells of, and a tile.
    'conv_transpose': (lambda y: tconv.conv_transpose(y, KERNEL, 2), 2, 4),
    'grouped': (lambda y: tconv.conv_transpose(
        y, KERNEL[:, :, :1], 2, feature_group_count=2), 2, 100),
    'dilated': (lambda y: tconv.conv_transpose(
        y, KERNEL, 2, kernel_dilation=3), 5, (12, 8)),
    'stride 2': (lambda y: tconv.conv(y, DOWN, 2), 4, (12, 8)),
    'bicubic': (lambda y: tconv.upsample(y, 4, method='bicubic'), 2, 4),
    'up and down': (lambda y: tconv.conv(
        tconv.conv_transpose(y, KERNEL, 2), integers(2, (3, 3, 3, 4)), 4), 4,
                    (12, 8)),
}


def tolerance(name):
  # Interpolation adds up products of fractions, not of small integers.
  return {'atol': 1e-5 if name == 'bicubic' else 0, 'rtol': 0}


class Stack(nnx.Module):
  """Layers whose biases make the border differ from a halo of zeros."""

  def __init__(self):
    rngs = nnx.Rngs(0, params=1)
    init = nnx.initializers.normal(1.)
    options = {'bias_init': init, 'rngs': rngs}
    self.layers = nnx.List([
        tconv.nnx.ConvTranspose(2, 4, (4, 4), 2, **options),
        tconv.nnx.ResizeConv(4, 3, (3, 3), 2, **options),
        nnx.Conv(3, 2, (3, 3), 2, **options)])

  def __call__(self, x):
    for layer in self.layers:
      x = nnx.relu(layer(x))
    return x


class TiledTest(parameterized.TestCase):

  @parameterized.parameters(*FUNCTIONS)
  def test_tiles_make_the_whole(self, name):
    fn, halo, tile = FUNCTIONS[name]
    y = integers(0, (2, 24, 16, 2))
    np.testing.assert_allclose(
        tconv.tiled(fn, tile, halo)(y), fn(y), **tolerance(name))

  @hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
  @hypothesis.given(
      st.integers(1, 19), st.integers(1, 6), st.integers(1, 5),
      st.integers(1, 3), st.integers(0, 2), st.integers(0, 2))
  def test_any_sizes(self, size, tile, kernel_size, stride, low, high):
    kernel = integers(1, (kernel_size, 1, 1))
    full = (size - 1) * stride + kernel_size
    hypothesis.assume(full > low + high)
    hypothesis.assume(low < kernel_size and high < kernel_size)
    fn = lambda y: tconv.conv_transpose(y, kernel, stride, [(low, high)])
    # Where a window's result is short, its tile needs a neighbour, too.
    short = stride + low + high - kernel_size
    y = integers(0, (1, size, 1))
    halo = max(-(-(kernel_size - 1) // stride), -(-short // stride))
    np.testing.assert_array_equal(tconv.tiled(fn, tile, halo)(y), fn(y))

  def test_weights_are_those_of_the_call(self):
    stack, y = Stack(), integers(0, (1, 16, 8, 2))
    tiled = tconv.tiled(stack, 8, 8)
    tiled(y)
    stack.layers[0].kernel[...] *= 2
    np.testing.assert_allclose(tiled(y), jax.jit(stack)(y), atol=1e-5)

  def test_borders_of_a_stack_are_its_own(self):
    stack, y = Stack(), integers(0, (1, 40, 8, 2))
    np.testing.assert_allclose(  # Sums of tens of products in float32.
        tconv.tiled(stack, (8, 8), 4)(y), jax.jit(stack)(y), atol=1e-4)

  def test_images_may_lie_on_disk_and_arguments_are_handed_on(self):
    fn = lambda y, w: tconv.conv_transpose(y, w['kernel'], 2)
    y, w = integers(0, (1, 12, 16, 2)), {'kernel': KERNEL}
    with tempfile.TemporaryFile() as small, tempfile.TemporaryFile() as large:
      source = np.memmap(small, np.float32, 'w+', shape=y.shape)
      source[...] = y
      target = np.memmap(large, np.float32, 'w+', shape=(1, 24, 32, 3))
      result = tconv.tiled(fn, 4, 2)(source, w, out=target)
      self.assertIs(result, target)
      np.testing.assert_array_equal(target, fn(y, w))

  @parameterized.parameters(
      ({'tile': 0}, 'tile must be one int >= 1'),
      ({'halo': -1}, 'halo must be one int >= 0'),
      ({'tile': 6, 'fn': lambda y: y[:, ::4]}, 'same number of pixels.*strid'),
      ({'halo': 0, 'fn': lambda y: tconv.conv_transpose(y, KERNEL[:1, :1], 2,
                                                        'VALID')[:, :-1]},
       'halo must be larger than 0: a window of 4 pixels gives 7'),
      ({'out': np.zeros((1, 24, 32, 3), int)},
       r'out must be float32\[1, 24, 32, 3\]; got int64'))
  def test_what_does_not_fit_is_named(self, changes, message):
    options = {'fn': FUNCTIONS['conv_transpose'][0], 'tile': 4, 'halo': 2,
               **changes}
    out = options.pop('out', None)
    with self.assertRaisesRegex(ValueError, message):
      tconv.tiled(**options)(integers(0, (1, 12, 16, 2)), out=out)


def collectives(fn, *args):
  """Names and sizes of what devices send to each other."""
  text = jax.jit(fn).lower(*args).compile().as_text()
  return [(name, [int(n) for n in shape.split(',')]) for shape, name in
          re.findall(r'= \w+\[([\d,]*)\]\S* '
                     r'(all-\w+|collective-\w+|reduce-scatter)\(', text)]


class ShardedTest(parameterized.TestCase):

  @parameterized.parameters(*enumerate(FUNCTIONS))
  def test_devices_make_the_whole(self, number, name):
    fn, halo, _ = FUNCTIONS[name]
    axes = ({'rows': 4}, {'rows': 2, 'columns': 2})[number % 2]
    y = integers(0, (2, 48, 24, 2))
    axis_type = (jax.sharding.AxisType.Auto if len(axes) > 1 else
                 jax.sharding.AxisType.Explicit)
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes),
                         axis_types=(axis_type,) * len(axes))
    shared = tconv.sharded(fn, P(None, *axes), halo, mesh=mesh)
    y = jax.device_put(y, jax.NamedSharding(mesh, P(None, *axes)))
    result = jax.jit(shared)(y)
    np.testing.assert_allclose(
        result, fn(integers(0, (2, 48, 24, 2))), **tolerance(name))
    self.assertEqual(result.sharding.spec[1], 'rows')
    # Nobody is sent more than two halos of rows or of columns.
    sent = collectives(shared, y)
    self.assertLen(sent, 2 * len(axes))
    for word, (_, *size, _) in sent:
      self.assertEqual(word, 'collective-permute')
      self.assertEqual(min(size), 2 * halo)

  def test_borders_of_a_stack_are_its_own(self):
    stack, y = Stack(), integers(0, (1, 40, 8, 2))
    with jax.set_mesh(jax.make_mesh((4,), ('rows',))):  # It is taken.
      result = jax.jit(tconv.sharded(stack, P(None, 'rows'), 4))(jnp.asarray(y))
    np.testing.assert_allclose(  # Sums of tens of products in float32.
        result, jax.jit(stack)(y), atol=1e-4)

  def test_gradients_are_those_of_the_whole(self):
    fn = lambda x, w: tconv.conv_transpose(x, w, 2, feature_group_count=2)
    mesh = jax.make_mesh((4,), ('rows',))
    shared = tconv.sharded(fn, P(None, 'rows'), 4, mesh=mesh)
    x, w = integers(0, (1, 32, 6, 4)), integers(1, (3, 3, 2, 4))
    energy = lambda f: jax.jit(jax.grad(lambda *a: (f(*a)**2).sum(), (0, 1)))
    chex.assert_trees_all_equal(energy(shared)(x, w), energy(fn)(x, w))

  @parameterized.parameters(
      ({'halo': 3}, 'halo must be at most half of the 4 pixels .*; got 3'),
      ({'spec': P(None, None, None, 'rows')}, 'spec must .* at most 3'),
      ({'fn': lambda y: y[:, ::4]}, 'gives 0.25 pixels for each .* of 2'),
      ({'fn': lambda y: tconv.conv_transpose(y, KERNEL, 2, 'VALID')},
       'same number of pixels for each .*; got 18 for 8, and 34 for 16'))
  def test_what_does_not_fit_is_named(self, changes, message):
    options = {'fn': FUNCTIONS['conv_transpose'][0], 'halo': 2,
               'spec': P(None, 'rows'), **changes}
    mesh = jax.make_mesh((4,), ('rows',))
    with self.assertRaisesRegex(ValueError, message):
      jax.eval_shape(tconv.sharded(**options, mesh=mesh),
                     integers(0, (1, 16, 16, 2)))


if __name__ == '__main__':
  absltest.main()
