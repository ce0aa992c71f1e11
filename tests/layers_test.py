"""The layers of nnx and linen: Flax's own as reference, then what is new."""

import dataclasses
import functools
import inspect
import math

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import linen as nn
from flax import nnx
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv import initializers
from tconv import layers
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

  @parameterized.parameters(range(16))
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
      kind=KINDS, transpose_kernel=[False, True], use_bias=[False, True],
      dtype=['float32', 'bfloat16'])
  def test_initial_values(self, kind, dtype, **options):
    theirs, ours = (
        Layer(module[kind], 'ConvTranspose', IMAGES, 3, (3, 2), param_dtype=
              dtype, bias_init=nn.initializers.normal(), seed=1, **options)
        for module in (FLAX, OURS))
    chex.assert_trees_all_equal(theirs.state, ours.state)
    self.assertEqual(jax.tree.structure(theirs.state),
                     jax.tree.structure(ours.state))

  @parameterized.parameters(*KINDS)
  def test_default_arguments(self, kind):
    theirs, ours = (
        Layer(module[kind], 'ConvTranspose', IMAGES, 3, (3, 2))
        for module in (FLAX, OURS))
    chex.assert_trees_all_equal(theirs.state, ours.state)
    parameters = dict(kernel=integers(1, (3, 2, 4, 3)), bias=integers(2, (3,)))
    np.testing.assert_array_equal(
        ours(parameters, IMAGES), theirs(parameters, IMAGES), strict=True)

  def test_arguments_of_nnx(self):
    theirs, ours = (
        list(inspect.signature(module.ConvTranspose.__init__).parameters.items()
             ) for module in (nnx, tconv_nnx))
    for (name, own), (expected, parameter) in zip(ours, theirs):
      self.assertEqual((name, own.default, own.kind),
                       (expected, parameter.default, parameter.kind))
    self.assertEqual(
        [(name, own.default) for name, own in ours[len(theirs):]],
        [('feature_group_count', 1), ('output_padding', 0), ('method', 'auto'),
         ('equal_phases', False)])

  def test_arguments_of_linen(self):
    theirs, ours = (
        [(f.name, f.default) for f in dataclasses.fields(module.ConvTranspose)
         if f.name not in ('parent', 'name')] for module in (nn, tconv_linen))
    self.assertEqual(ours[:len(theirs)], theirs)
    self.assertEqual(
        ours[len(theirs):],
        [('feature_group_count', 1), ('output_padding', 0), ('method', 'auto'),
         ('equal_phases', False)])

  def test_is_one_of_flax(self):
    self.assertTrue(issubclass(tconv_nnx.ConvTranspose, nnx.ConvTranspose))
    self.assertTrue(issubclass(tconv_linen.ConvTranspose, nn.ConvTranspose))

  def test_state_of_nnx_loads_both_ways(self):
    make = functools.partial(
        Layer, images=IMAGES, features=3, kernel_size=(3, 2), strides=2)
    for source, target in ((nnx, tconv_nnx), (tconv_nnx, nnx)):
      old = make(source, 'ConvTranspose', seed=1).layer
      new = make(target, 'ConvTranspose', seed=2).layer
      nnx.update(new, nnx.state(old))
      # Real numbers: the order of up to 24 sums differs.
      np.testing.assert_allclose(new(IMAGES), old(IMAGES), atol=1e-5)

  def test_names_within_a_model_of_linen(self):

    class Model(nn.Module):
      flax_module: object

      @nn.compact
      def __call__(self, x):
        x = self.flax_module.ConvTranspose(3, 2)(x)
        return self.flax_module.ConvTranspose(3, 1, name='last')(x)

    theirs, ours = (Model(m).init(jax.random.key(0), IMAGES[0])
                    for m in (nn, tconv_linen))
    chex.assert_trees_all_equal(theirs, ours)

  def test_metadata(self):
    options = dict(kernel_metadata={'tag': 1}, bias_metadata={'tag': 2})
    for name in ('ConvTranspose', *UPSAMPLERS):
      args = () if name == 'ConvTranspose' else (2,)
      layer = Layer(tconv_nnx, name, IMAGES, 3, 2, *args, **options).layer
      self.assertEqual((layer.kernel.tag, layer.bias.tag), (1, 2))

  @parameterized.product(kind=KINDS, name=('ConvTranspose', *UPSAMPLERS))
  def test_promote_dtype(self, kind, name):
    calls = []

    def promote(*arrays, dtype):
      arrays = arrays[0] if kind == 'nnx' else arrays
      calls.append((len(arrays), dtype))
      return [None if a is None else jnp.asarray(a, 'float16') for a in arrays]

    args = () if name == 'ConvTranspose' else (2,)
    image = IMAGES[0, 0]
    layer = Layer(OURS[kind], name, image, 3, 1, *args, dtype='bfloat16',
                  promote_dtype=promote, **WHOLE)
    result = layer(layer.parameters, image)
    self.assertEqual(result.dtype, 'float16')
    self.assertEqual(calls[-1], (3, 'bfloat16'))

  @parameterized.product(kind=KINDS, options=[
      dict(padding='CIRCULAR', transpose_kernel=True),
      dict(padding=((2, 1), (0, 3)), kernel_dilation=(2, 1), use_bias=False),
      dict(padding='VALID', mask=integers(3, (3, 2, 4, 3)) > 0)])
  def test_gradients(self, kind, options):
    theirs, ours = (
        Layer(module[kind], 'ConvTranspose', IMAGES, 3, (3, 2), strides=(2, 3),
              **options, **WHOLE) for module in (FLAX, OURS))
    weights = integers(4, theirs(theirs.parameters, IMAGES).shape)

    def gradients(layer):
      return jax.grad(lambda p, x: (layer(p, x) * weights).sum(), (0, 1))(
          theirs.parameters, IMAGES)

    chex.assert_trees_all_equal(gradients(ours), gradients(theirs))

  @parameterized.product(kind=KINDS, batch=[(0,), (2, 0)],
                         padding=['SAME', 'CIRCULAR'])
  def test_no_images(self, kind, batch, padding):
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 3, (3, 3),
                  strides=(2, 2), padding=padding)
    images = np.zeros((*batch, 5, 4, 4), 'f')
    self.assertEqual(layer(layer.parameters, images).shape, (*batch, 10, 8, 3))


class TransformationsTest(parameterized.TestCase):

  @parameterized.parameters(*KINDS)
  def test_jit_vmap_and_sharding(self, kind):
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 4, (3, 3),
                  strides=(2, 2), equal_phases=True, feature_group_count=2)
    images = integers(1, (4, 5, 4, 4))
    expected = layer(layer.parameters, images)
    # Compiled as one, sums may be taken in another order.
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    close(jax.jit(layer.__call__)(layer.parameters, images), expected)
    close(jax.vmap(layer, (None, 0))(layer.parameters, images), expected)
    explicit = jax.sharding.AxisType.Explicit
    with jax.set_mesh(jax.make_mesh((4,), ('data',), (explicit,))):
      sharded = jax.sharding.reshard(images, jax.P('data'))
      result = jax.jit(layer.__call__)(layer.parameters, sharded)
      self.assertEqual(jax.typeof(result).sharding.spec[0], 'data')
    close(result, expected)

  def test_circular_keeps_the_sharding(self):
    layer = Layer(tconv_nnx, 'ConvTranspose', IMAGES, 4, (3, 3), strides=(2, 2),
                  padding='CIRCULAR')
    images = integers(1, (4, 5, 4, 4))
    explicit = jax.sharding.AxisType.Explicit
    with jax.set_mesh(jax.make_mesh((4,), ('data',), (explicit,))):
      sharded = jax.sharding.reshard(images, jax.P('data'))
      result = layer(layer.parameters, sharded)
      self.assertEqual(jax.typeof(result).sharding.spec[0], 'data')

  def test_nnx_jit_and_grad(self):
    layer = Layer(tconv_nnx, 'ConvTranspose', IMAGES, 3, (3, 3), **WHOLE).layer
    np.testing.assert_array_equal(
        nnx.jit(lambda layer, x: layer(x))(layer, IMAGES), layer(IMAGES))
    gradient = nnx.grad(lambda layer: layer(IMAGES).sum())(layer)
    # Each position of the result adds one to the gradient of the bias.
    np.testing.assert_array_equal(gradient['bias'][...], np.full(3, 2 * 5 * 4))


class GroupsTest(parameterized.TestCase):

  @parameterized.product(
      (dict(groups=2, padding='SAME'), dict(groups=4, padding='CIRCULAR'),
       dict(groups=2, padding=((2, 0), (1, 1)))),
      kind=KINDS, transpose=[False, True])
  def test_groups_are_layers_side_by_side(
      self, kind, transpose, groups, padding):
    options = dict(strides=(2, 3), padding=padding, transpose_kernel=transpose)
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 8, (3, 2),
                  feature_group_count=groups, **options, **WHOLE)
    kernel, bias = layer.parameters['kernel'], layer.parameters['bias']
    self.assertEqual(kernel.shape, (3, 2, *(
        (8 // groups, 4) if transpose else (4 // groups, 8))))
    parts = zip(np.split(IMAGES, groups, -1), np.split(kernel, groups, -1),
                np.split(bias, groups))
    single = Layer(FLAX[kind], 'ConvTranspose', IMAGES[..., :4 // groups],
                   8 // groups, (3, 2), **options)
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES),
        np.concatenate([single(dict(kernel=w, bias=b), x)
                        for x, w, b in parts], -1))

  @parameterized.parameters(*KINDS)
  def test_initial_values_are_those_of_the_shape(self, kind):
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 6, (3, 2),
                  feature_group_count=2, param_dtype='float16')
    theirs = Layer(FLAX[kind], 'ConvTranspose', IMAGES[..., :2], 6, (3, 2),
                   param_dtype='float16')
    chex.assert_trees_all_equal(layer.parameters, theirs.parameters)
    if kind == 'nnx':
      self.assertEqual(layer.layer.kernel_shape, (3, 2, 2, 6))

  @parameterized.product(kind=KINDS, groups=[0, 3, 4, 2.])
  def test_groups_must_divide_the_channels(self, kind, groups):
    with self.assertRaisesRegex(
        ValueError, f'feature_group_count must .*4 input and 6 .*got {groups}'):
      Layer(OURS[kind], 'ConvTranspose', IMAGES, 6, (3, 2),
            feature_group_count=groups)


class SizeTest(parameterized.TestCase):

  @parameterized.parameters(*KINDS)
  def test_output_size_undoes_a_strided_convolution(self, kind):
    image = integers(0, (1, 39, 3))
    down = nn.Conv(4, (3,), 2).init_with_output(jax.random.key(0), image)[0]
    self.assertEqual(down.shape, (1, 20, 4))
    layer = Layer(OURS[kind], 'ConvTranspose', down, 3, 3, 2)
    for size in 39, (40,):
      up = layer(layer.parameters, down, output_size=size)
      self.assertEqual(up.shape, (1, np.max(size), 3))
    with self.assertRaisesRegex(ValueError, 'output_size must lie within'):
      layer(layer.parameters, down, output_size=41)

  @parameterized.product(kernel=[1, 3, 4, 8], transpose=[False, True],
                         size=[None, 3, 4])
  def test_circular(self, kernel, transpose, size):
    y = integers(0, (1, 2, 2))
    layer = Layer(tconv_nnx, 'ConvTranspose', y, 3, kernel, 2, use_bias=False,
                  padding='CIRCULAR', transpose_kernel=transpose, **WHOLE)
    full = lax.conv_transpose(
        y, layer.parameters['kernel'], (2,), [(kernel - 1,) * 2],
        transpose_kernel=transpose)
    # From where the first tap of the first position falls, around and around.
    shift = (max(kernel - 2, 0) + transpose) // 2
    expected = np.zeros((1, size or 4, 3))
    for p in range(full.shape[1]):
      expected[:, (p - shift) % (size or 4)] += full[:, p]
    np.testing.assert_array_equal(
        layer(layer.parameters, y, output_size=size), expected)

  @parameterized.parameters(*KINDS)
  def test_output_padding(self, kind):
    padding = ((2, 0), (1, 3))
    make = functools.partial(Layer, images=IMAGES, features=3,
                             kernel_size=(3, 4), strides=(2, 3), **WHOLE)
    ours = make(OURS[kind], 'ConvTranspose', padding=padding,
                output_padding=(1, 2))
    theirs = make(FLAX[kind], 'ConvTranspose', padding=((2, 1), (1, 5)))
    np.testing.assert_array_equal(
        ours(ours.parameters, IMAGES), theirs(ours.parameters, IMAGES))


class EqualPhasesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('nnx', False, 1, dict(kernel_size=(3, 4))),
      ('linen', True, 2, dict(kernel_size=(3, 4))),
      ('nnx', True, 1, dict(kernel_size=(4, 5), kernel_dilation=(1, 2))),
      ('linen', False, 2, dict(kernel_size=(4, 5), kernel_dilation=(1, 2))))
  def test_a_constant_stays_one(self, kind, transpose, groups, kernel):
    images = np.ones((1, 8, 8, 4), 'f')
    layer = Layer(OURS[kind], 'ConvTranspose', images, 4, strides=(2, 3),
                  transpose_kernel=transpose, feature_group_count=groups,
                  equal_phases=True, **kernel)
    result = layer(layer.parameters, images)
    inner = result[:, 6:-6, 9:-9]
    # Sums of up to 80 products of about 1 / 10.
    np.testing.assert_allclose(
        inner, np.broadcast_to(inner[:, :1, :1], inner.shape), atol=1e-5)
    self.assertGreater(jnp.abs(inner).max(), .01)
    # As if by the kernel that is written into the parameter afterwards.
    plain = Layer(OURS[kind], 'ConvTranspose', images, 4, strides=(2, 3),
                  transpose_kernel=transpose, feature_group_count=groups,
                  **kernel)
    equalized = tconv.equalize_phases(
        layer.parameters['kernel'], (2, 3),
        kernel_dilation=kernel.get('kernel_dilation', 1))
    np.testing.assert_allclose(
        plain(layer.parameters | {'kernel': equalized}, images), result,
        atol=1e-6)

  @parameterized.parameters(('nnx', (3, 4)), ('linen', (4, 4)))
  def test_gradients_are_of_the_equal_kernel(self, kind, kernel_size):
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 3, kernel_size,
                  strides=(2, 2), equal_phases=True)
    gradient = jax.grad(lambda p: (layer(p, IMAGES)**2).sum())(
        layer.parameters)['kernel']
    size = float(jnp.abs(gradient).max())
    self.assertGreater(size, 1)
    # float32: about 1e-6 of the largest value, in sums of 144 and more.
    unseen = integers(1, gradient.shape)
    unseen -= tconv.equalize_phases(unseen, 2)
    np.testing.assert_allclose(
        jnp.vdot(gradient, unseen), 0, atol=1e-3 * size)
    if kernel_size == (4, 4):  # The projection is orthogonal.
      np.testing.assert_allclose(
          tconv.equalize_phases(gradient, 2), gradient, atol=1e-5 * size)

  @parameterized.parameters(*KINDS)
  def test_in_the_dtype_of_the_parameter(self, kind):
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 3, (3, 3),
                  strides=(2, 2), equal_phases=True, dtype='bfloat16')
    plain = Layer(OURS[kind], 'ConvTranspose', IMAGES, 3, (3, 3),
                  strides=(2, 2), dtype='bfloat16')
    equalized = tconv.equalize_phases(layer.parameters['kernel'], 2)
    self.assertEqual(equalized.dtype, 'float32')
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES),
        plain(layer.parameters | {'kernel': equalized}, IMAGES), strict=True)


# Arguments of a legal layer that differ, and what the error must say.
ERRORS = (
    (dict(mask=np.ones((3, 3, 4, 3)), equal_phases=True),
     'equal_phases .*mask'),
    (dict(mask=np.ones((3, 3, 1, 1))),
     r'mask must .*\(3, 3, 4, 3\); got .*1\)'),
    (dict(strides=4, equal_phases=True), 'kernel must have taps on every'),
    (dict(padding='CAUSAL'), "padding must be one of .*got 'CAUSAL'"),
    (dict(padding='same'), "padding must be in capitals; got 'same'"),
    (dict(padding=(1, 2, 3)), r'padding must be .*got \(1, 2, 3\)'),
    (dict(padding=-9), 'padding .*empty'),
    (dict(strides=(1, 2, 3)), 'strides must be'),
    (dict(strides=0), 'strides must be .*got 0'),
    (dict(kernel_dilation=0), 'kernel_dilation must be .*got 0'),
    (dict(kernel_size=(3, 0)), 'kernel_size must be'),
    (dict(output_padding=1), "output_padding goes .*'SAME'"),
    (dict(method='fft'), "method must be .*got 'fft'"),
    (dict(dtype='int32'), 'inexact'),
)


class ErrorsTest(parameterized.TestCase):

  @parameterized.product(kind=KINDS, case=ERRORS)
  def test_conv_transpose(self, kind, case):
    arguments, message = case
    arguments = dict(kernel_size=(3, 3)) | arguments
    with self.assertRaisesRegex(ValueError, message):
      layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 3, **arguments)
      layer(layer.parameters, IMAGES)

  @parameterized.product(kind=KINDS, name=('ConvTranspose', *UPSAMPLERS))
  def test_inputs(self, kind, name):
    args = () if name == 'ConvTranspose' else (2,)
    layer = Layer(OURS[kind], name, IMAGES, 3, (3, 3), *args)
    with self.assertRaisesRegex(ValueError, r'inputs .*3 axes.*\(4, 4\)'):
      layer(layer.parameters, IMAGES[0, 0])

  @parameterized.product(kind=KINDS, case=(
      (dict(scale=0), 'scale must be'), (dict(scale=(2, 2, 2)), 'scale must'),
      (dict(padding='HALF'), 'padding must be'),
      (dict(feature_group_count=3), 'feature_group_count must be')))
  def test_upsamplers(self, kind, case):
    arguments, message = case
    arguments = dict(scale=2) | arguments
    for name in UPSAMPLERS:
      with self.assertRaisesRegex(ValueError, message):
        layer = Layer(OURS[kind], name, IMAGES, 4, (3, 3), **arguments)
        layer(layer.parameters, IMAGES)


class MethodTest(parameterized.TestCase):

  @parameterized.parameters(*KINDS)
  def test_options_are_handed_on(self, kind):
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 3, (3, 3),
                  method='polyphase', precision='highest')
    [call] = [e for e in jax.make_jaxpr(layer.__call__)(
        layer.parameters, IMAGES).eqns if e.primitive.name.startswith('tconv')]
    self.assertEqual(call.params['method'], 'polyphase')
    self.assertEqual(call.params['precision'], lax.Precision.HIGHEST)


class UpsamplersTest(parameterized.TestCase):

  def layer(self, kind, name, features, kernel_size, *args, **options):
    return Layer(OURS[kind], name, IMAGES, features, kernel_size, *args,
                 **(WHOLE | options))

  @parameterized.product(
      kind=KINDS, method=['nearest', 'bilinear'], groups=[1, 2],
      scale=[2, (3, 1)], padding=['VALID', ((1, 0), (0, 2))])
  def test_resize_conv(self, kind, method, groups, scale, padding):
    layer = self.layer(kind, 'ResizeConv', 6, (3, 2), scale, method=method,
                       padding=padding, feature_group_count=groups)
    self.assertEqual(layer.parameters['kernel'].shape, (3, 2, 4 // groups, 6))
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES), tconv.resize_conv(
            IMAGES, layer.parameters['kernel'], scale, padding, method=method,
            feature_group_count=groups) + layer.parameters['bias'].reshape(
                1, 1, 1, -1))

  @parameterized.product(
      kind=KINDS, groups=[1, 2], scale=[2, (3, 1)],
      padding=['VALID', ((1, 0), (0, 2))])
  def test_sub_pixel_conv(self, kind, groups, scale, padding):
    layer = self.layer(kind, 'SubPixelConv', 2, (3, 2), scale,
                       padding=padding, feature_group_count=groups)
    features = 2 * math.prod(np.broadcast_to(scale, 2).tolist())
    kernel, bias = layer.parameters['kernel'], layer.parameters['bias']
    self.assertEqual(kernel.shape, (3, 2, 4 // groups, features))
    self.assertEqual(bias.shape, (features,))
    # Where the bias goes, a constant image before the shuffle says.
    result = tconv.sub_pixel_conv(
        IMAGES, kernel, scale, padding, feature_group_count=groups)
    coarse = [n // s for n, s in zip(
        result.shape[1:-1], np.broadcast_to(scale, 2))]
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES), result + tconv.depth_to_space(
            jnp.broadcast_to(bias, (2, *coarse, features)), scale))

  @parameterized.product(kind=KINDS, name=UPSAMPLERS)
  def test_defaults(self, kind, name):
    layer = Layer(OURS[kind], name, IMAGES, 2, (3, 2), 2)
    features = 8 if name == 'SubPixelConv' else 2
    # As a Flax convolution with as many channels begins.
    conv = Layer(FLAX[kind], 'Conv', IMAGES, features, (3, 2))
    chex.assert_trees_all_equal(layer.parameters, conv.parameters)
    self.assertEqual(layer(layer.parameters, IMAGES).shape, (2, 10, 8, 2))
    function = dict(ResizeConv=tconv.resize_conv,
                    SubPixelConv=tconv.sub_pixel_conv)[name]
    np.testing.assert_allclose(  # The bias is 0 at first.
        layer(layer.parameters, IMAGES),
        function(IMAGES, layer.parameters['kernel'], 2), atol=1e-5)

  @parameterized.product(kind=KINDS, name=UPSAMPLERS)
  def test_batch_axes(self, kind, name):
    layer = self.layer(kind, name, 2, (3, 2), 2)
    expected = layer(layer.parameters, IMAGES)
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES[0]), expected[0])
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES[:, None]), expected[:, None])
    self.assertEqual(
        layer(layer.parameters, IMAGES[None, :0]).shape, (1, 0, 10, 8, 2))

  @parameterized.product(kind=KINDS, name=UPSAMPLERS)
  def test_dtypes(self, kind, name):
    layer = self.layer(kind, name, 2, 3, 2, use_bias=False,
                       param_dtype='bfloat16', padding='CIRCULAR')
    self.assertEqual(list(layer.parameters), ['kernel'])
    image = IMAGES[0, 0].astype(int)
    self.assertEqual(layer.parameters['kernel'].dtype, 'bfloat16')
    self.assertEqual(layer(layer.parameters, image).dtype, 'bfloat16')
    wide = self.layer(kind, name, 2, 3, 2, dtype='float32')
    self.assertEqual(wide(wide.parameters, image).dtype, 'float32')

  @parameterized.parameters(*KINDS)
  def test_icnr(self, kind):
    layer = Layer(OURS[kind], 'SubPixelConv', IMAGES, 2, (3, 2), 2,
                  kernel_init=initializers.icnr(2))
    result = layer(layer.parameters, IMAGES)
    np.testing.assert_allclose(
        result, tconv.zero_order_hold(result, 1), atol=1e-6)
    blocks = tconv.space_to_depth(result, 2).reshape(2, 5, 4, 4, 2)
    np.testing.assert_allclose(
        blocks, np.broadcast_to(blocks[..., :1, :], blocks.shape), atol=1e-5)

  @parameterized.product(kind=KINDS, name=UPSAMPLERS)
  def test_precision(self, kind, name):
    layer = self.layer(kind, name, 2, (3, 2), 2, precision='highest')
    [call] = [e for e in jax.make_jaxpr(layer.__call__)(
        layer.parameters, IMAGES).eqns if e.primitive.name.startswith('tconv')]
    self.assertEqual(call.params['precision'], lax.Precision.HIGHEST)


class KernelSizeTest(parameterized.TestCase):

  def test_kernel_axes(self):
    self.assertEqual(layers.kernel_axes(3), (3,))
    self.assertEqual(layers.kernel_axes([3, 2]), (3, 2))
    with self.assertRaisesRegex(ValueError, 'kernel_size'):
      layers.kernel_axes((3, 1.5))


if __name__ == '__main__':
  absltest.main()
