"""What the transposed convolution layers have beyond Flax's."""

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv import dialects
from tconv import nnx as tconv_nnx
from tests.layers_cases import FLAX
from tests.layers_cases import IMAGES
from tests.layers_cases import KINDS
from tests.layers_cases import Layer
from tests.layers_cases import OURS
from tests.layers_cases import WHOLE


class GroupsTest(parameterized.TestCase):

  @parameterized.parameters(
      ('nnx', True, 2, ((2, 0), (1, 1))), ('linen', False, 4, 'CIRCULAR'))
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


class SizeTest(parameterized.TestCase):

  @parameterized.parameters(*KINDS)
  def test_output_size_is_that_of_the_call(self, kind):
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 3, (3, 3), (2, 2))
    up = layer(layer.parameters, IMAGES, output_size=(9, 8))
    self.assertEqual(up.shape, (2, 9, 8, 3))
    with self.assertRaisesRegex(ValueError, 'output_size must lie within'):
      layer(layer.parameters, IMAGES, output_size=11)


class EqualPhasesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('nnx', True, 1, dict(kernel_size=(3, 4))),
      ('linen', False, 2, dict(kernel_size=(4, 5), kernel_dilation=(1, 2))))
  def test_the_kernel_is_equalized(self, kind, transpose, groups, kernel):
    equal, plain = (
        Layer(OURS[kind], 'ConvTranspose', IMAGES, 4, strides=(2, 3),
              transpose_kernel=transpose, feature_group_count=groups,
              equal_phases=equal_phases, **kernel, **WHOLE)
        for equal_phases in (True, False))
    equalized = tconv.equalize_phases(
        plain.parameters['kernel'], (2, 3),
        kernel_dilation=kernel.get('kernel_dilation', 1))
    np.testing.assert_allclose(  # float32: sums of some hundred products.
        equal(plain.parameters, IMAGES),
        plain(plain.parameters | {'kernel': equalized}, IMAGES), atol=1e-4)

  def test_gradients_are_of_the_equal_kernel(self):
    images = IMAGES[0]
    layer = Layer(tconv_nnx, 'ConvTranspose', images, 3, 4, strides=2,
                  equal_phases=True, **WHOLE)
    gradient = np.asarray(jax.jit(jax.grad(
        lambda p: (layer(p, images)**2).sum()))(layer.parameters)['kernel'])
    size = np.abs(gradient).max()
    self.assertGreater(size, 1)
    # The projection is orthogonal. float32: about 1e-6 of the largest value.
    np.testing.assert_allclose(
        tconv.equalize_phases(gradient, 2), gradient, atol=1e-5 * size)


class FoldTest(parameterized.TestCase):

  @parameterized.parameters(
      ('nnx', dict(kernel_size=(3, 4), dtype='bfloat16', transpose_kernel=True)
       ), ('linen', dict(kernel_size=(4, 5), kernel_dilation=(1, 2),
                         feature_group_count=2)))
  def test_values_stay(self, kind, options):
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 4, strides=(2, 3),
                  equal_phases=True, **options)
    before = layer(layer.parameters, IMAGES)
    if kind == 'nnx':
      layer.layer.fold()
      after, folded = layer.layer(IMAGES), layer.layer.kernel[...]
      self.assertFalse(layer.layer.equal_phases)
    else:
      new, variables = layer.layer.fold(layer.state)
      after = new.apply(variables, IMAGES)
      folded = variables['params']['kernel']
      self.assertFalse(new.equal_phases)
      self.assertIs(variables['params']['bias'], layer.parameters['bias'])
    self.assertEqual(folded.dtype, layer.parameters['kernel'].dtype)
    self.assertGreater(float(jnp.abs(
        folded - layer.parameters['kernel']).max()), .01)
    np.testing.assert_array_equal(after, before, strict=True)

  def test_keeps_what_goes_with_a_parameter(self):
    init = nn.with_partitioning(nn.initializers.normal(), (None, 'i', 'o'))
    layer = OURS['linen'].ConvTranspose(
        3, (3,), 2, kernel_init=init, equal_phases=True)
    variables = layer.init(jax.random.key(0), IMAGES[0])
    _, folded = layer.fold(variables)
    self.assertEqual(folded['params']['kernel'].names, (None, 'i', 'o'))


class OptionsTest(parameterized.TestCase):

  @parameterized.parameters(
      ('nnx', dict(padding=((0, 1), (2, 1)), kernel_dilation=2)),
      ('linen', dict(padding=(1, 2), transpose_kernel=True, output_padding=1)))
  def test_consistent_padding_is_the_forward_convolutions(self, kind, options):
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 3, (4, 3),
                  strides=(2, 3), use_consistent_padding=True,
                  use_bias=False, **options, **WHOLE)
    kernel = dialects.kernel_from_flax(
        layer.parameters['kernel'], options.pop('transpose_kernel', False))
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES),
        tconv.conv_transpose(IMAGES, kernel, (2, 3), **options))

  @parameterized.parameters(*KINDS)
  def test_options_are_handed_on(self, kind):
    layer = Layer(OURS[kind], 'ConvTranspose', IMAGES, 3, (3, 3),
                  method='polyphase', precision='highest')
    [call] = [e for e in jax.make_jaxpr(layer.__call__)(
        layer.parameters, IMAGES).eqns if e.primitive.name.startswith('tconv')]
    self.assertEqual(call.params['method'], 'polyphase')
    self.assertEqual(call.params['precision'], lax.Precision.HIGHEST)


if __name__ == '__main__':
  absltest.main()
