"""Upsamplers of JAX functions: found, tapped and replaced."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen
from flax import nnx
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv.audit import jax_model
from tconv.audit import model
from tconv.geometry import Geometry
from tests import references

PADS = lax.ConvDimensionNumbers


def integers(seed, *shape):
  return references.integers(seed, shape)


def whole(tree):
  """Replaces parameters by whole numbers, whose sums are exact."""
  leaves, structure = jax.tree.flatten(tree)
  return jax.tree.unflatten(structure, [
      jnp.asarray(integers(i, *leaf.shape)) for i, leaf in enumerate(leaves)])


def layer(cls, *args, shape, **kwargs):
  """A layer of Flax with parameters of whole numbers, and an input for it."""
  x = integers(9, *shape)
  module = cls(*args, **kwargs)
  params = whole(module.init(jax.random.key(0), x))
  return module.apply, params, x


def unit(cls, *args, shape, **kwargs):
  module = cls(*args, **kwargs, rngs=nnx.Rngs(0))
  graph, state = nnx.split(module)
  return nnx.merge(graph, whole(state)), integers(9, *shape)


def spread(x, kernel):
  """Zero insertion by hand, then an ordinary convolution."""
  zeros = lax.pad(x, 0., ((0, 0, 0), (0, 0, 1), (0, 0, 1), (0, 0, 0)))
  return lax.conv_general_dilated(
      zeros, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def pulled_back(x, kernel):
  """The gradient of a strided convolution, channels first."""
  y = jnp.moveaxis(x, -1, 1)
  forward = lambda image: lax.conv_general_dilated(image, kernel, (2, 2), 'SAME')
  image = jax.ShapeDtypeStruct((len(y), kernel.shape[1], 8, 8), x.dtype)
  fine, = jax.linear_transpose(forward, image)(y)
  return jnp.moveaxis(fine, 1, -1)


def channels_first(x, kernel, bias):
  """A layer for one image, as Equinox has it, over a batch."""
  def apply(image):
    y = lax.conv_general_dilated(
        image[None], jnp.flip(kernel, (2, 3)), (1, 1), ((2, 2), (2, 2)),
        lhs_dilation=(2, 2))[0]
    return jax.nn.relu(y + bias[:, None, None])
  return jnp.moveaxis(jax.vmap(apply)(jnp.moveaxis(x, -1, 1)), 1, -1)


def shuffled(x, kernel, bias):
  """A sub-pixel convolution of which the shuffle goes axis by axis."""
  y = lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  n, h, w, c = y.shape
  y = jnp.swapaxes((y + bias[None, None, None]).reshape(n, h, w, 2, c // 2), 2, 3)
  return y.reshape(n, h * 2, w * 2, c // 4)


def unpatched(x, matrix, bias):
  """Tokens of a transformer to the pixels of their patches."""
  n, h, w, c = x.shape
  tokens = x.reshape(n, h * w, c) @ matrix + bias[None, None]
  patches = tokens.reshape(n, h, w, 3, 2, -1)
  return jnp.einsum('nhwpqc->nhpwqc', patches).reshape(n, h * 3, w * 2, -1)


def deep(x, kernel):
  """A layer inside jit, remat and a custom derivative."""
  @jax.custom_vjp
  def upsample(x):
    return lax.conv_transpose(x, kernel, (2, 2), 'SAME')
  upsample.defvjp(lambda x: (upsample(x), None), lambda _, g: (g[:, ::2, ::2],))
  return jax.jit(lambda x: jax.nn.relu(jax.checkpoint(jax.jit(upsample))(x)))(x)


IMAGE = (2, 4, 3, 4)
T, N = linen.ConvTranspose, tconv.linen
CASES = {
    'linen_same_k4': lambda: layer(T, 6, (4, 4), (2, 2), shape=IMAGE),
    'linen_same_k3': lambda: layer(T, 6, (3, 3), (2, 2), shape=IMAGE),
    'linen_valid': lambda: layer(
        T, 6, (3, 3), (2, 2), padding='VALID', shape=IMAGE),
    'linen_circular': lambda: layer(
        T, 6, (4, 4), (2, 2), padding='CIRCULAR', shape=IMAGE),
    'linen_transposed': lambda: layer(
        T, 6, (3, 3), (2, 2), transpose_kernel=True, shape=IMAGE),
    'linen_dilated': lambda: layer(
        T, 6, (3, 2), (2, 3), kernel_dilation=(2, 1), shape=IMAGE),
    'linen_signal': lambda: layer(T, 6, (5,), (4,), shape=(2, 6, 4)),
    'linen_volume': lambda: layer(T, 2, (3,) * 3, (2,) * 3, shape=(1, 2, 3, 2, 2)),
    'linen_one_pixel': lambda: layer(T, 6, (4, 4), (2, 2), shape=(2, 1, 1, 4)),
    'nnx': lambda: unit(nnx.ConvTranspose, 4, 6, (4, 4), (2, 2), shape=IMAGE),
    'own': lambda: layer(N.ConvTranspose, 6, (4, 4), 2, shape=IMAGE),
    'own_groups': lambda: layer(
        N.ConvTranspose, 6, (3, 3), (2, 3), kernel_dilation=(1, 2),
        feature_group_count=2, shape=IMAGE),
    'own_numbers': lambda: layer(
        N.ConvTranspose, 6, (4, 4), 2, padding=1, output_padding=1,
        use_consistent_padding=True, shape=IMAGE),
    'own_nnx': lambda: unit(
        tconv.nnx.ConvTranspose, 4, 6, (4, 4), 2, shape=IMAGE),
    'sub_pixel': lambda: layer(N.SubPixelConv, 3, (3, 3), 2, shape=IMAGE),
    'sub_pixel_crd': lambda: layer(
        N.SubPixelConv, 4, (3, 2), (2, 3), mode='CRD', feature_group_count=2,
        shape=IMAGE),
    'sub_pixel_signal': lambda: layer(
        N.SubPixelConv, 3, (3,), 4, shape=(2, 6, 4)),
    'sub_pixel_by_axis': lambda: (
        shuffled, integers(1, 3, 3, 4, 8), integers(2, 8)),
    'unpatched': lambda: (unpatched, integers(1, 4, 12), integers(2, 12)),
    'zeros': lambda: (spread, integers(1, 3, 3, 4, 6)),
    'gradient': lambda: (pulled_back, integers(1, 4, 6, 3, 3)),
    'channels_first': lambda: (
        channels_first, integers(1, 6, 4, 3, 3), integers(2, 6)),
    'lax': lambda: (
        lambda x, w: lax.conv_transpose(x, w, (2, 3), 'VALID'),
        integers(1, 3, 4, 4, 6)),
    'deep': lambda: (deep, integers(1, 3, 3, 4, 6)),
}
# Without a bias of their own, or with one that does not follow directly.
NO_BIAS = {'linen_circular', 'zeros', 'gradient', 'lax', 'deep'}
# Functions of (x, *parameters).
PLAIN = {'sub_pixel_by_axis', 'unpatched', 'zeros', 'gradient', 'lax', 'deep',
         'channels_first'}


def make(name):
  """The function, its parameters and the input of a case."""
  fn, *args = CASES[name]()
  if name in PLAIN:
    return (lambda args, x: fn(x, *args)), args, integers(9, *(
        (2, 4, 4, 4) if name == 'gradient' else IMAGE))
  if len(args) == 1:  # A module of nnx is its own function.
    graph, state = nnx.split(fn)
    return (lambda state, x: nnx.merge(graph, state)(x)), state, args[0]
  return fn, *args


def expected(upsampler, before, shape):
  """What a transposed convolution gives, by its definition in NumPy."""
  u, (kernel, bias) = upsampler, upsampler.weights
  size, coarse = kernel.shape[:-2], before.shape[1:-1]
  fine = shape[1:-1]
  pads = tuple(
      (lo, (c - 1) * s + (k - 1) * d + 1 - lo - f) for lo, c, s, k, d, f in zip(
          u.offset, coarse, u.strides, size, u.kernel_dilation, fine))
  result = references.conv_transpose(before, kernel, Geometry(
      fine, coarse, size, u.strides, u.kernel_dilation, pads, u.groups))
  if bias is not None:
    result += bias[np.ix_(*(np.arange(f) % s for f, s in zip(
        fine, u.strides)))]
  return result


class JaxModelTest(parameterized.TestCase):

  @parameterized.parameters(*CASES)
  def test_layer_is_a_transposed_convolution(self, name):
    fn, params, x = make(name)
    found = jax_model.JaxModel(fn, params, x)
    self.assertEmpty(found.unknown)
    upsampler, = found.upsamplers
    self.assertTrue(upsampler.is_exact)
    self.assertEqual(upsampler.weights.bias is None, name in NO_BIAS)
    ran = found.run({'input': x})
    # Whole numbers, of which the sums are exact.
    after = ran.after[upsampler.name]
    np.testing.assert_array_equal(
        after, expected(upsampler, ran.before[upsampler.name], after.shape))
    np.testing.assert_array_equal(ran.outputs['output'], fn(params, x))
    # The same weights, then others.
    same = found.replaced({}).run({'input': x})
    np.testing.assert_array_equal(
        same.outputs['output'], ran.outputs['output'])
    params = jax.tree.map(
        lambda a: a if name in NO_BIAS and a.ndim == 1 else 5 - 2 * a[::-1],
        params)
    other, = jax_model.JaxModel(fn, params, x).upsamplers
    changed = found.replaced({upsampler.name: other.weights})
    np.testing.assert_array_equal(
        changed.run({'input': x}).outputs['output'], fn(params, x))
    self.assertIs(changed.upsamplers[0].weights, other.weights)
    self.assertIs(found.upsamplers[0], upsampler)


if __name__ == '__main__':
  absltest.main()
