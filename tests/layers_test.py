"""The transposed convolution layers against those of Flax."""

import dataclasses
import inspect

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import linen as nn
from flax import nnx
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tconv import linen as tconv_linen
from tconv import nnx as tconv_nnx
from tests.layers_cases import FLAX
from tests.layers_cases import IMAGES
from tests.layers_cases import KINDS
from tests.layers_cases import Layer
from tests.layers_cases import OURS
from tests.layers_cases import UPSAMPLERS
from tests.layers_cases import WHOLE
from tests.references import integers


def draw_case(seed):
  """Draws every argument of Flax's layers, and inputs for them."""
  draw = np.random.default_rng(seed)
  pick = lambda *options: options[draw.integers(len(options))]
  n = pick(1, 1, 1, 2, 2, 3)
  each = lambda *options: tuple(pick(*options) for _ in range(n))
  kernel_size = each(1, 2, 3, 4) if n < 3 else each(1, 2)
  size = each(1, 2, 3) if n < 3 else each(1, 2)
  strides = pick(None, 2, 3, each(1, 2, 3), list(each(2, 3)))
  dilation = pick(None, None, 2, each(1, 2))

  padding = pick('SAME', 'VALID', 'CIRCULAR', 'CIRCULAR', 'numbers')
  if padding == 'numbers':
    per_axis = lambda x: x if np.ndim(x) else (x or 1,) * n
    pads = []
    for k, s, d, length in zip(
        kernel_size, per_axis(strides), per_axis(dilation), size):
      low = pick(-1, 0, 1, 2, 5)
      least = (k - 1) * d - (length - 1) * s - low  # That leaves one position.
      pads.append((low, max(pick(-1, 0, 1, 3), least)))
    most = max(map(max, pads))
    padding = pick(tuple(pads), list(pads), most, (most,) * n,
                   (most, *pads[1:]))

  transpose = pick(False, True)
  inputs, features = pick(1, 2, 3), pick(1, 2)
  kernel_shape = (*kernel_size, *((features, inputs) if transpose
                                  else (inputs, features)))
  mask = draw.integers(0, 2, kernel_shape)
  options = dict(
      strides=strides, padding=padding, kernel_dilation=dilation,
      use_bias=pick(True, True, False),
      mask=pick(None, None, mask, jnp.asarray(mask, bool)),
      dtype=pick(None, None, jnp.float32, jnp.bfloat16, 'float16'),
      param_dtype=pick(jnp.float32, jnp.float32, jnp.bfloat16, jnp.float16),
      precision=pick(None, 'highest', lax.Precision.HIGH),
      transpose_kernel=transpose,
      preferred_element_type=pick(None, None, jnp.float32))
  if n == 1 and pick(False, True):
    kernel_size = kernel_size[0]
  batch = pick((2,), (2,), (1,), (), (2, 1, 2))
  images = integers(seed, (*batch, *size, inputs), pick('f', 'f', 'f2', 'i4'))
  return images, features, kernel_size, options


class DropInTest(parameterized.TestCase):

  @parameterized.parameters(range(4))
  def test_values(self, block):
    def results(images, features, kernel_size, options):
      for kind in KINDS:
        for module in FLAX, OURS:
          layer = Layer(module[kind], 'ConvTranspose', images, features,
                        kernel_size, **options, **WHOLE)
          yield layer(layer.parameters, images)

    for seed in range(8 * block, 8 * (block + 1)):
      with self.subTest(seed=seed):
        images, *case = draw_case(seed)
        # One program for all four: to compile takes most of the time.
        expected, *others = jax.jit(
            lambda x, case=case: list(results(x, *case)))(images)
        for result in others:
          # Whole numbers, and small enough for the half types.
          np.testing.assert_array_equal(result, expected, strict=True)

  @parameterized.product(
      (dict(transpose_kernel=False, use_bias=True, dtype='bfloat16'),
       dict(transpose_kernel=True, use_bias=False, dtype='float32')),
      kind=KINDS)
  def test_initial_values(self, kind, dtype, **options):
    theirs, ours = (
        Layer(module[kind], 'ConvTranspose', IMAGES, 3, (3, 2), param_dtype=
              dtype, bias_init=nn.initializers.normal(), seed=1, **options)
        for module in (FLAX, OURS))
    chex.assert_trees_all_equal(theirs.state, ours.state)
    self.assertEqual(jax.tree.structure(theirs.state),
                     jax.tree.structure(ours.state))

  def test_arguments(self):
    added = {'feature_group_count': 1, 'output_padding': 0, 'method': 'auto',
             'equal_phases': False, 'use_consistent_padding': False}
    theirs, ours = (
        inspect.signature(module.ConvTranspose.__init__).parameters
        for module in (nnx, tconv_nnx))
    expected = [(p.name, p.default, p.kind) for p in theirs.values()]
    self.assertEqual(
        [(p.name, p.default, p.kind) for p in ours.values()],
        expected + [(*item, inspect.Parameter.KEYWORD_ONLY)
                   for item in added.items()])
    theirs, ours = (
        [(f.name, f.default) for f in dataclasses.fields(module.ConvTranspose)
         if f.name not in ('parent', 'name')] for module in (nn, tconv_linen))
    self.assertEqual(ours, theirs + list(added.items()))

  def test_metadata(self):
    options = dict(kernel_metadata={'tag': 1}, bias_metadata={'tag': 2})
    for name in ('ConvTranspose', *UPSAMPLERS):
      layer = Layer(tconv_nnx, name, IMAGES, 3, 2, 2, **options, **WHOLE).layer
      self.assertEqual((layer.kernel.tag, layer.bias.tag), (1, 2))

  @parameterized.parameters(
      ('nnx', 'SubPixelConv'), ('linen', 'ConvTranspose'))
  def test_promote_dtype(self, kind, name):
    calls = []

    def promote(*arrays, dtype):
      arrays = arrays[0] if kind == 'nnx' else arrays
      calls.append((len(arrays), dtype))
      return [None if a is None else jnp.asarray(a, 'float16') for a in arrays]

    image = IMAGES[0, 0]
    layer = Layer(OURS[kind], name, image, 3, 1, 2, dtype='bfloat16',
                  promote_dtype=promote, **WHOLE)
    result = layer(layer.parameters, image)
    self.assertEqual(result.dtype, 'float16')
    self.assertEqual(calls[-1], (3, 'bfloat16'))


class TransformationsTest(parameterized.TestCase):

  def test_jit_vmap_and_sharding(self):
    layer = Layer(tconv_linen, 'ConvTranspose', IMAGES, 4, (3, 3),
                  strides=(2, 2), padding='CIRCULAR', equal_phases=True,
                  feature_group_count=2)
    images = integers(1, (4, 5, 4, 4))
    expected, mapped = jax.jit(lambda *a: (
        layer(*a), jax.vmap(layer, (None, 0))(*a)))(layer.parameters, images)
    explicit = jax.sharding.AxisType.Explicit
    with jax.set_mesh(jax.make_mesh((4,), ('data',), (explicit,))):
      sharded = jax.sharding.reshard(images, jax.P('data'))
      result = jax.jit(layer.__call__)(layer.parameters, sharded)
      self.assertEqual(jax.typeof(result).sharding.spec[0], 'data')
    for each in mapped, result:  # Sums may be taken in another order.
      np.testing.assert_allclose(each, expected, atol=1e-5)

  def test_nnx_jit_and_grad(self):
    layer = Layer(tconv_nnx, 'ConvTranspose', IMAGES, 3, (3, 3), **WHOLE).layer
    np.testing.assert_array_equal(
        nnx.jit(lambda layer, x: layer(x))(layer, IMAGES), layer(IMAGES))
    gradient = nnx.grad(lambda layer: layer(IMAGES).sum())(layer)
    # Each position of the result adds one to the gradient of the bias.
    np.testing.assert_array_equal(gradient['bias'][...], np.full(3, 2 * 5 * 4))


# Layer, arguments that differ from legal ones, and what the error must say.
ERRORS = (
    ('ConvTranspose', dict(mask=np.ones((3, 3, 4, 4)), equal_phases=True),
     'equal_phases .*mask'),
    ('ConvTranspose', dict(mask=np.ones((3, 3, 1, 1))),
     r'mask must .*\(3, 3, 4, 4\); got .*1\)'),
    ('ConvTranspose', dict(kernel_dilation=2, equal_phases=True),
     'kernel must have taps on every'),
    ('ConvTranspose', dict(padding='CAUSAL'),
     "padding must be one of .*got 'CAUSAL'"),
    ('ConvTranspose', dict(padding=-9), 'padding .*empty'),
    ('ConvTranspose', dict(strides=0), 'strides must be .*got 0'),
    ('ConvTranspose', dict(kernel_size=(3, 0)), 'kernel_size must be'),
    ('ConvTranspose', dict(feature_group_count=3),
     'feature_group_count must .*4 input and 4 .*3'),
    ('ResizeConv', dict(padding='HALF'), 'padding must be'),
    ('SubPixelConv', dict(scale=(2, 2, 2)), 'scale must'),
    ('SubPixelConv', dict(feature_group_count=2.), 'feature_group_count must'),
)


class ErrorsTest(parameterized.TestCase):

  @parameterized.parameters(*KINDS)
  def test_arguments(self, kind):
    for name, arguments, message in ERRORS:
      step = 'strides' if name == 'ConvTranspose' else 'scale'
      options = {'kernel_size': (3, 3), step: 2} | arguments | WHOLE
      with self.subTest(message), self.assertRaisesRegex(ValueError, message):
        layer = Layer(OURS[kind], name, IMAGES, 4, **options)
        layer(layer.parameters, IMAGES)

  @parameterized.parameters(
      ('nnx', 'ConvTranspose'), ('linen', 'ResizeConv'),
      ('nnx', 'SubPixelConv'))
  def test_inputs(self, kind, name):
    layer = Layer(OURS[kind], name, IMAGES, 3, (3, 3), 2, **WHOLE)
    with self.assertRaisesRegex(ValueError, r'inputs .*3 axes.*\(4, 4\)'):
      layer(layer.parameters, IMAGES[0, 0])
    with self.assertRaisesRegex(ValueError, r'empty'):
      layer(layer.parameters, np.zeros((2, 1, 0, 4, 4)))


if __name__ == '__main__':
  absltest.main()
