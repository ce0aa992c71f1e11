"""Layers of the benchmark: shapes and work."""

import dataclasses
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from configs import benchmark as config
from experiments.timing import layers
from experiments.timing import through_jax
import tconv

LAYERS = {row[0]: layers.Layer(*row) for row in config.LAYERS}


class LayerTest(parameterized.TestCase):

  @parameterized.parameters(*LAYERS)
  def test_shapes_are_those_of_the_operation(self, name):
    layer = LAYERS[name]
    upsample, shapes = through_jax.program('tconv', layer, 'forward')
    self.assertEqual(jax.eval_shape(upsample, *shapes).shape,
                     layer.outputs_shape)
    # All enlarge by their stride, and so do the models.
    self.assertEqual(layer.geometry.fine_size, tuple(
        layer.stride * size for size in layer.coarse_size))

  @parameterized.parameters(
      layers.Layer('', '', 3, (4, 5), 6, 4, 3, 2, 0),
      layers.Layer('', '', 2, (7,), 6, 4, 5, 3, 0, groups=2),
      layers.Layer('', '', 1, (2, 3, 2), 3, 3, 2, 1, 0, dilation=2, groups=3))
  def test_multiply_adds_are_what_ones_add_up_to(self, layer):
    ones = tconv.conv_transpose(
        jnp.ones(layer.inputs_shape), jnp.ones(layer.kernel_shape),
        layer.stride, layer.padding, kernel_dilation=layer.dilation,
        feature_group_count=layer.groups)
    self.assertEqual(ones.shape, layer.outputs_shape)
    self.assertEqual(ones.sum(), layer.multiply_adds)
    self.assertEqual(ones.size // layer.fan_out, layer.output_pixels)

  def test_bytes(self):
    layer = LAYERS['DCGAN 3']
    self.assertEqual(layer.bytes_moved, sum(a.nbytes for a in layer.arrays()))
    self.assertEqual(layer.patches_bytes, 16 * 16 * 16 * 4 * 4 * 128 * 4)

  def test_arrays_are_always_the_same(self):
    layer = LAYERS['FCN x2']
    for a, b, shape in zip(layer.arrays(), layer.arrays(), (
        layer.inputs_shape, layer.kernel_shape, layer.outputs_shape)):
      np.testing.assert_array_equal(a, b)
      self.assertEqual((a.shape, a.dtype), (shape, np.float32))

  def test_outputs_are_of_order_1(self):
    # One tap for each output, and 128 channels: 5 % is four times what the
    # mean of so many squares differs by.
    layer = layers.Layer('', '', 1, (8, 8), 128, 64, 2, 2, 0)
    inputs, kernel, _ = layer.arrays()
    outputs = tconv.conv_transpose(jnp.asarray(inputs), jnp.asarray(kernel), 2)
    self.assertAlmostEqual(jnp.mean(outputs**2), 1, delta=.05)

  def test_compute_bound_layers_are_the_dense_ones(self):
    bound = {name for name, layer in LAYERS.items() if layer.is_compute_bound}
    self.assertContainsSubset({'DCGAN 3', 'Mask R-CNN', 'U-Net 512'}, bound)
    self.assertNoCommonElements({'DCGAN 4', 'depthwise', 'HiFi-GAN 1'}, bound)

  @parameterized.parameters((1, True), (1 + 1e-9, False))
  def test_the_limit_of_compute_bound(self, factor, expected):
    layer = LAYERS['DCGAN 3']
    limit = layer.multiply_adds / layer.bytes_moved * factor
    with mock.patch.object(layers, '_COMPUTE_BOUND', limit):
      self.assertEqual(layer.is_compute_bound, expected)

  def test_groups_are_no_single_matmul(self):
    grouped = dataclasses.replace(LAYERS['DCGAN 3'], groups=2)
    self.assertGreater(grouped.multiply_adds, 50 * grouped.bytes_moved)
    self.assertFalse(grouped.is_compute_bound)


class ConfigTest(parameterized.TestCase):

  def test_every_model_of_the_design_is_there(self):
    names = ' '.join(LAYERS)
    for model in ('DCGAN', 'pix2pix', 'FCN', 'U-Net', '3-D U-Net', 'HiFi-GAN',
                  'WaveGAN', 'Mask R-CNN', 'pose', 'ENet', 'FSRCNN',
                  'depthwise', 'dilated'):
      self.assertIn(model, names)
    self.assertLen(LAYERS, len(config.LAYERS))  # No name twice.

  def test_quick_has_a_layer_of_each_kind(self):
    quick, whole = config.get_config('quick'), config.get_config()
    chosen = [LAYERS[row[0]] for row in quick.layers]
    self.assertContainsSubset({'DCGAN 3', 'FCN-32s', '3-D U-Net 32'},
                              {layer.name for layer in chosen})
    self.assertTrue(any(layer.groups == layer.fan_in for layer in chosen))
    self.assertTrue(any(layer.name.startswith('U-Net') for layer in chosen))
    self.assertEqual(whole.layers, config.LAYERS)
    self.assertLess(quick.repeats, whole.repeats)
    self.assertNotEqual(quick.out, whole.out)
    with self.assertRaisesRegex(ValueError, "got 'slow'"):
      config.get_config('slow')

  def test_a_series_grows_in_one_number(self):
    series = config.get_config().series
    strides = [layers.Layer(*row) for row in series.stride]
    self.assertEqual([layer.stride for layer in strides], [1, 2, 4, 8, 16, 32])
    self.assertEqual({layer.taps / layer.stride for layer in strides}, {2})
    self.assertLen({layer.multiply_adds for layer in strides}, 1)
    sizes = [layers.Layer(*row) for row in series.size]
    self.assertEqual([layer.geometry.fine_size for layer in sizes],
                     [(2**i,) * 2 for i in range(6, 12)])
    self.assertLen(
        {layer.multiply_adds / layer.output_pixels for layer in sizes}, 1)


if __name__ == '__main__':
  absltest.main()
