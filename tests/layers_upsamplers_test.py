"""`ResizeConv` and `SubPixelConv` of both kinds."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
import numpy as np

import tconv
from tests.layers_cases import FLAX
from tests.layers_cases import IMAGES
from tests.layers_cases import KINDS
from tests.layers_cases import Layer
from tests.layers_cases import OURS
from tests.layers_cases import UPSAMPLERS
from tests.layers_cases import WHOLE


def layer_of(kind, name, features, kernel_size, scale, **options):
  return Layer(OURS[kind], name, IMAGES, features, kernel_size, scale,
               **(WHOLE | options))


class UpsamplersTest(parameterized.TestCase):

  @parameterized.parameters(
      ('nnx', 'bilinear', 2, (3, 1), ((1, 0), (0, 2))),
      ('linen', 'nearest', 1, 2, 'VALID'))
  def test_resize_conv(self, kind, method, groups, scale, padding):
    layer = layer_of(kind, 'ResizeConv', 6, (3, 2), scale, method=method,
                     padding=padding, feature_group_count=groups)
    self.assertEqual(layer.parameters['kernel'].shape, (3, 2, 4 // groups, 6))
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES), tconv.resize_conv(
            IMAGES, layer.parameters['kernel'], scale, padding, method=method,
            feature_group_count=groups) + layer.parameters['bias'].reshape(
                1, 1, 1, -1))

  @parameterized.parameters(
      ('nnx', 1, (3, 1), ((1, 0), (0, 2)), 'CRD'),
      ('linen', 2, 2, 'VALID', 'DCR'))
  def test_sub_pixel_conv(self, kind, groups, scale, padding, mode):
    layer = layer_of(kind, 'SubPixelConv', 2, (3, 2), scale, mode=mode,
                     padding=padding, feature_group_count=groups)
    kernel, bias = layer.parameters['kernel'], layer.parameters['bias']
    features = 2 * int(np.prod(np.broadcast_to(scale, 2)))
    self.assertEqual(kernel.shape, (3, 2, 4 // groups, features))
    coarse = tconv.conv(
        IMAGES, kernel, 1, padding, feature_group_count=groups)
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES), tconv.depth_to_space(
            coarse + bias.reshape(1, 1, 1, -1), scale, mode=mode))

  @parameterized.product(kind=KINDS, name=UPSAMPLERS)
  def test_defaults(self, kind, name):
    layer = Layer(OURS[kind], name, IMAGES, 2, (3, 2), 2)
    features = 8 if name == 'SubPixelConv' else 2
    # As a Flax convolution with as many channels begins.
    conv = Layer(FLAX[kind], 'Conv', IMAGES, features, (3, 2))
    chex.assert_trees_all_equal(layer.parameters, conv.parameters)
    expected = layer(layer.parameters, IMAGES)
    function = dict(ResizeConv=tconv.resize_conv,
                    SubPixelConv=tconv.sub_pixel_conv)[name]
    np.testing.assert_allclose(  # The bias is 0 at first.
        expected, function(IMAGES, layer.parameters['kernel'], 2), atol=1e-5)

  @parameterized.parameters(*zip(KINDS, UPSAMPLERS))
  def test_batch_axes(self, kind, name):
    layer = layer_of(kind, name, 2, (3, 2), 2)
    expected = layer(layer.parameters, IMAGES)
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES[0]), expected[0])
    np.testing.assert_array_equal(
        layer(layer.parameters, IMAGES[:, None]), expected[:, None])
    self.assertEqual(
        layer(layer.parameters, IMAGES[None, :0]).shape, (1, 0, 10, 8, 2))

  @parameterized.parameters(*zip(KINDS, reversed(UPSAMPLERS)))
  def test_dtypes(self, kind, name):
    layer = layer_of(kind, name, 2, 3, 2, use_bias=False,
                     param_dtype='bfloat16', padding='CIRCULAR')
    self.assertEqual(list(layer.parameters), ['kernel'])
    image = IMAGES[0, 0].astype(int)
    self.assertEqual(layer.parameters['kernel'].dtype, 'bfloat16')
    self.assertEqual(layer(layer.parameters, image).dtype, 'bfloat16')
    wide = layer_of(kind, name, 2, 3, 2, dtype='float32')
    self.assertEqual(wide(wide.parameters, image).dtype, 'float32')


if __name__ == '__main__':
  absltest.main()
