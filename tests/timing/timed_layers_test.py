"""Layers of the benchmark: shapes and work."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp

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

  def test_compute_bound_layers_are_the_dense_ones(self):
    bound = {name for name, layer in LAYERS.items() if layer.is_compute_bound}
    self.assertContainsSubset({'DCGAN 3', 'Mask R-CNN', 'U-Net 512'}, bound)
    self.assertNoCommonElements({'DCGAN 4', 'depthwise', 'HiFi-GAN 1'}, bound)
    grouped = dataclasses.replace(LAYERS['DCGAN 3'], groups=2)
    self.assertGreater(grouped.multiply_adds, 50 * grouped.bytes_moved)
    self.assertFalse(grouped.is_compute_bound)  # It is no single matmul.


if __name__ == '__main__':
  absltest.main()
