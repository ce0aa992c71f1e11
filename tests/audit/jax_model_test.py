"""Upsamplers of JAX functions: found, tapped and replaced."""

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
  forward = lambda image: lax.conv_general_dilated(
      image, kernel, (2, 2), 'SAME')
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
  y = (y + bias[None, None, None]).reshape(n, h, w, 2, c // 2)
  y = y.swapaxes(2, 3)
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
    'linen_volume': lambda: layer(
        T, 2, (3,) * 3, (2,) * 3, shape=(1, 2, 3, 2, 2)),
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
    'scalar': lambda: (
        lambda x, w: .5 + tconv.conv_transpose(x, w, 2),
        integers(1, 3, 3, 4, 4)),
    'deep': lambda: (deep, integers(1, 3, 3, 4, 6)),
}
# Without a bias of their own, or with one that does not follow directly.
NO_BIAS = {'linen_circular', 'zeros', 'gradient', 'lax', 'deep'}
# Functions of (x, *parameters).
PLAIN = {'sub_pixel_by_axis', 'unpatched', 'zeros', 'gradient', 'lax', 'deep',
         'scalar', 'channels_first'}


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


def convolve(x, kernel, *, strides=(1, 1), **kwargs):
  return lax.conv_general_dilated(
      x, kernel, strides, ((1, 1), (1, 1)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'), **kwargs)


def attend(x, kernel):
  """Attention, windows, and other rearrangements that enlarge nothing."""
  n, h, w, c = x.shape
  tokens = x.reshape(n, h * w, 2, c // 2).swapaxes(1, 2)
  weights = jax.nn.softmax(tokens @ tokens.swapaxes(2, 3))
  x = (weights @ tokens).swapaxes(1, 2).reshape(n, h, w, c)
  x = x.reshape(n, h // 2, 2, w, c).swapaxes(2, 3).reshape(n, h // 2, w, -1)
  x = tconv.depth_to_space(x, (2, 1)) if kernel is None else x
  return convolve(x, jnp.ones((3, 3, 2 * c, 8)), strides=(2, 2)).mean((1, 2))


def loop(x, kernel):
  return lax.scan(
      lambda total, _: (total + tconv.conv_transpose(x, kernel, 2), None),
      jnp.zeros((*x.shape[:1], 8, 6, 4)), length=2)[0]


UNKNOWN = {
    'skip': ('no convolution precedes', lambda x, k: tconv.depth_to_space(
        convolve(x, k) + x, 2)),
    'norm': ('no convolution precedes', lambda x, k: tconv.depth_to_space(
        jax.nn.standardize(convolve(x, k)), 2)),
    'alone': ('no convolution precedes', lambda x, _: tconv.depth_to_space(
        jnp.tanh(x), 2)),
    'tokens': ('no convolution precedes', lambda x, _: jnp.tanh(
        x.reshape(2, 12, 4)).reshape(2, 4, 3, 2, 2).swapaxes(2, 3).reshape(
            2, 8, 6, 1)),
    'strided': ('strided', lambda x, k: tconv.depth_to_space(
        convolve(x, k, strides=(2, 1)), 2)),
    'holes': ('dilated', lambda x, k: tconv.depth_to_space(
        convolve(x, k, rhs_dilation=(2, 1)), (2, 1))),
    'groups': ('groups', lambda x, k: tconv.depth_to_space(
        convolve(x, k[:, :, :2], feature_group_count=2), 2)),
    'dynamic_shuffle': ('depends on', lambda x, k: tconv.depth_to_space(
        convolve(x, k * x.mean()), 2)),
    'dynamic': ('depends on', lambda x, k: convolve(
        x, k * x.mean(), lhs_dilation=(2, 2))),
    'rational': ('at once', lambda x, k: convolve(
        x, k, strides=(3, 3), lhs_dilation=(2, 2), rhs_dilation=(2, 2))),
    'zeros': ('inserts zeros', lambda x, k: jnp.tanh(lax.pad(
        x, 0., ((0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0))))),
    'loop': ('inside a scan', lambda x, k: lax.scan(
        lambda carry, _: (carry, tconv.conv_transpose(x, k, 2)),
        0., length=2)[1]),
}


def dense(x, kernel):
  """Ordinary layers, attention and windows: nothing enlarges the grid."""
  n, h, w, c = x.shape
  heads = x.reshape(n, h * w, 2, c // 2).swapaxes(1, 2)
  weights = jax.nn.softmax(heads @ heads.swapaxes(2, 3))
  y = (weights @ heads).swapaxes(1, 2).reshape(n, h, w, c)
  y = y.reshape(n, h // 2, 2, w, c).swapaxes(2, 3).reshape(n, h // 2, w, -1)
  y = convolve(y, jnp.tile(kernel, (1, 1, 2, 1)), strides=(2, 2))
  y = y.reshape(n, -1) @ jnp.ones((y[0].size, 4 * h * w))
  fixed = tconv.conv_transpose(kernel[None, 0], kernel, 2).mean((1, 2))
  tconv.conv_transpose(x, kernel, 2)  # Nobody uses it.
  return tconv.conv_transpose(y.reshape(x.shape), kernel, 1) + fixed[
      :, None, None]


class FindTest(parameterized.TestCase):
  x, kernel = integers(0, *IMAGE), integers(1, 3, 3, 4, 4)

  @parameterized.parameters(*UNKNOWN)
  def test_unknown(self, name):
    reason, fn = UNKNOWN[name]
    found = jax_model.JaxModel(lambda x: fn(x, self.kernel), self.x)
    self.assertEmpty(found.upsamplers)
    unknown, = found.unknown
    self.assertIn(reason, unknown.reason)
    self.assertRegex(unknown.node, r'jax_model_test.py:\d+ ')
    np.testing.assert_allclose(
        found.run({'input': self.x}).outputs['output'],
        fn(self.x, self.kernel), rtol=1e-5, atol=1e-5)  # Different programs.

  def test_finds_nothing(self):
    found = jax_model.JaxModel(lambda x: dense(x, self.kernel), self.x)
    self.assertEmpty(found.upsamplers)
    self.assertEmpty(found.unknown)


class NetworkTest(parameterized.TestCase):

  def network(self):
    class Net(linen.Module):
      equal: bool = False

      @linen.compact
      def __call__(self, x):
        bias = dict(bias_init=linen.initializers.normal())
        up = lambda: N.ConvTranspose(
            4, (3, 3), 2, equal_phases=self.equal, **bias)
        x = linen.relu(up()(x))
        x = jax.image.resize(x, (*x.shape[:1], *np.multiply(x.shape[1:3], 2),
                                 x.shape[3]), 'bilinear')
        x = linen.gelu(linen.Conv(8, (3, 3), **bias)(x))
        return {'image': jnp.tanh(tconv.depth_to_space(x, (2, 1))),
                'low': jax.vmap(up())(x[:, None])[:, 0].astype(jnp.bfloat16),
                'label': x.mean((1, 2))}

    x = np.asarray(jax.random.normal(jax.random.key(0), IMAGE))
    return Net, jax.jit(Net().init)(jax.random.key(1), x), x

  def test_several_upsamplers(self):
    net, params, x = self.network()
    found = jax_model.JaxModel(net().apply, params, x)
    self.assertEmpty(found.unknown)
    self.assertEqual(
        [(u.name, u.op, u.strides, u.is_exact) for u in found.upsamplers], [
            ('Net/ConvTranspose_0', 'ConvTranspose', (2, 2), True),
            ('Net', 'Resize', (2, 2), True),
            ('Net/Conv_0', 'Conv + DepthToSpace', (2, 1), False),
            ('Net/vmap(ConvTranspose_1)', 'ConvTranspose', (2, 2), True)])
    ran = found.run({'input': x})
    self.assertEqual(
        {name: a.shape for name, a in ran.outputs.items()},
        {"output['image']": (2, 32, 12, 4), "output['low']": (2, 32, 24, 4)})
    self.assertEqual(list(ran.after), list(ran.before))
    self.assertLen(ran.after, 3)
    self.assertTrue(all(a.dtype == np.float32 for group in ran
                        for a in group.values()))
    for u in found.upsamplers:
      if u.weights:
        before, after = ran.before[u.name], ran.after[u.name]
        linear = expected(u, before, after.shape)
        # Sums of float32; between convolution and shuffle, a GELU.
        np.testing.assert_allclose(
            after, linear if u.is_exact else jax.nn.gelu(linear), atol=1e-5)

  def test_equal_phases_as_in_the_layers(self):
    net, params, x = self.network()
    found = jax_model.JaxModel(net().apply, params, x)
    changed = found.replaced({
        u.name: u.weights._replace(kernel=np.asarray(
            tconv.equalize_phases(u.weights.kernel, u.strides)))
        for u in found.upsamplers[:1]})
    ran = changed.run({'input': x}).outputs["output['image']"]
    self.assertGreater(np.abs(
        ran - found.run({'input': x}).outputs["output['image']"]).max(), .01)
    np.testing.assert_allclose(  # Sums of float32.
        ran, jax.jit(net(equal=True).apply)(params, x)['image'], atol=1e-5)

  def test_other_sizes(self):
    fn, params, x = make('own')
    found = jax_model.JaxModel(fn, params, x)
    image, = found.inputs
    self.assertEqual(image, model.Input(
        'input', (None, None, None, 4), np.dtype('float32'), 3))
    x = integers(3, 1, 5, 2, 4)
    np.testing.assert_array_equal(
        found.run({'input': x}).outputs['output'], fn(params, x))

  def test_fixed_size(self):
    x, kernel = integers(0, *IMAGE), integers(1, 3, 3, 4, 4)
    position = jnp.ones((1, 4, 3, 4))
    found = jax_model.JaxModel(
        lambda x: tconv.conv_transpose(x + position, kernel, 2), x)
    self.assertEqual(found.inputs[0].shape, (None, 4, 3, 4))
    with self.assertRaisesRegex(model.AuditError, r'shape \(1, 5, 3, 4\)'):
      found.run({'input': integers(0, 1, 5, 3, 4)})

  def test_latent_vector(self):
    kernel, matrix = integers(1, 3, 3, 4, 4), integers(2, 5, 4 * 12)
    fn = lambda z: tconv.conv_transpose(
        (z @ matrix).reshape(-1, 4, 3, 4), kernel, 2)
    found = jax_model.JaxModel(fn, jax.ShapeDtypeStruct((1, 5), 'float32'))
    self.assertEqual(
        found.inputs[0],
        model.Input('input', (None, 5), np.dtype('float32'), None))
    self.assertLen(found.upsamplers, 1)
    z = integers(3, 2, 5)
    np.testing.assert_array_equal(
        found.run({'input': z}).outputs['output'], fn(z))

  def test_narrow_dtype(self):
    x, kernel = (jnp.asarray(a, 'bfloat16') for a in (
        integers(0, *IMAGE), integers(1, 2, 2, 4, 4)))
    found = jax_model.JaxModel(lambda x: tconv.conv_transpose(x, kernel, 2), x)
    upsampler, = found.upsamplers
    np.testing.assert_array_equal(
        upsampler.weights.kernel, np.asarray(kernel, 'float32'))
    ran = found.run({'input': np.asarray(x)})
    np.testing.assert_array_equal(
        ran.after[upsampler.name],
        expected(upsampler, ran.before[upsampler.name], (2, 8, 6, 4)))

  def test_bias_after_the_shuffle_is_the_same_for_all_phases(self):
    x, kernel = integers(0, *IMAGE), integers(1, 3, 3, 4, 8)
    bias = integers(2, 1, 1, 1, 2)
    fn = lambda bias, x: tconv.sub_pixel_conv(x, kernel, 2) + bias
    found = jax_model.JaxModel(fn, bias, x)
    upsampler, = found.upsamplers
    weights = upsampler.weights
    changed = found.replaced(
        {upsampler.name: weights._replace(bias=weights.bias + 1)})
    np.testing.assert_array_equal(
        changed.run({'input': x}).outputs['output'], fn(bias + 1, x))
    with self.assertRaisesRegex(model.AuditError, 'all phases'):
      found.replaced({upsampler.name: weights._replace(
          bias=weights.bias + integers(3, 2, 2, 2))})

  def test_errors(self):
    x, kernel = integers(0, *IMAGE), integers(1, 3, 3, 4, 4)
    with self.assertRaisesRegex(ValueError, '^fn must be a function; got 3'):
      jax_model.JaxModel(3, x)
    for args in (), (x, 'a'), (x, {'image': x}):
      with self.assertRaisesRegex(ValueError, '^args must end with an array'):
        jax_model.JaxModel(jnp.tanh, *args)
    with self.assertRaisesRegex(ValueError, '^args must be arrays except'):
      jax_model.JaxModel(
          jnp.dot, jax.ShapeDtypeStruct((2, 2), 'float32'), x)
    with self.assertRaisesRegex(model.AuditError, '^fn cannot be traced'):
      jax_model.JaxModel(lambda x: x @ x, x)
    found = jax_model.JaxModel(
        lambda x: tconv.conv_transpose(x, kernel, 2), x)
    upsampler, = found.upsamplers
    for feeds in {}, {'x': x}, {'input': x, 'x': x}:
      with self.assertRaisesRegex(model.AuditError, "^feeds must have the key"):
        found.run(feeds)
    with self.assertRaisesRegex(model.AuditError, 'dtype of the input'):
      found.run({'input': x.astype('int32')})
    for weights, message in (
        (model.Weights(kernel[:2]), r'kernel of shape \(3, 3, 4, 4\)'),
        (model.Weights(kernel, np.zeros((2, 2, 4))), 'bias of none; got')):
      with self.assertRaisesRegex(model.AuditError, message):
        found.replaced({upsampler.name: weights})
    with self.assertRaisesRegex(model.AuditError, "got 'other'"):
      found.replaced({'other': upsampler.weights})


if __name__ == '__main__':
  absltest.main()
