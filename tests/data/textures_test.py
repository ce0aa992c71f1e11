"""Mosaics: exact labels, two halves, nothing by chance."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import numpy as np

from experiments.data import photographs
from experiments.data import textures


class LoadTest(parameterized.TestCase):

  @parameterized.parameters(
      ('train', slice(0, 256)), ('test', slice(256, None)))
  def test_each_part_is_a_half(self, part, columns):
    half = photographs.load('gravel')[:, columns, 0]
    blocks = half.reshape(256, 2, 128, 2).mean((1, 3))  # Half the size.
    zoomed = textures.load(part)[2][0]
    self.assertEqual(zoomed.shape, blocks.shape)
    # Bicubic and box filters differ a little; other halves do not correlate.
    self.assertGreater(np.corrcoef(zoomed.ravel(), blocks.ravel())[0, 1], .98)

  def test_all_are_normalized_and_as_large_as_the_largest_mosaic(self):
    loaded = [zoomed for part in ('train', 'test')
              for texture in textures.load(part) for zoomed in texture]
    for zoomed in loaded:
      np.testing.assert_allclose(  # Sums of float32.
          (zoomed.mean(), zoomed.std()), (0, 1), atol=1e-4)
    self.assertEqual(min(side for zoomed in loaded for side in zoomed.shape),
                     textures.LARGEST)
    self.assertEqual(textures.mosaics('test', 1, textures.LARGEST)
                     ['image'].shape, (1, *(textures.LARGEST,) * 2, 1))
    with self.assertRaisesRegex(ValueError, "train or test; got 'left'"):
      textures.load('left')


class MosaicsTest(absltest.TestCase):

  def test_shapes_and_ranges(self):
    made = textures.mosaics('train', 3, 40)
    chex.assert_shape(made['image'], (3, 40, 40, 1))
    chex.assert_shape(made['mask'], (3, 40, 40))
    self.assertEqual(made['image'].dtype, np.float32)
    self.assertEqual(made['mask'].dtype, np.int32)
    self.assertBetween(made['image'].min(), 0, .2)
    self.assertBetween(made['image'].max(), .8, 1)
    self.assertEqual(set(made['mask'].ravel()), {0, 1, 2})

  def test_they_are_the_same_each_time_and_others_in_each_part(self):
    first, again = (textures.mosaics('train', number, 32) for number in (2, 3))
    chex.assert_trees_all_equal(
        first, {name: x[:2] for name, x in again.items()})
    self.assertTrue((again['mask'][0] != again['mask'][1]).any())
    self.assertTrue(
        (first['mask'] != textures.mosaics('test', 2, 32)['mask']).any())

  def test_labels_are_exact(self):
    flat = [[np.full((50, 50), value)] * 2 for value in (-1., 0., 1.)]
    with (mock.patch.object(textures, '_NOISE', (0, 0)),
          mock.patch.object(textures, '_BRIGHTNESS', (.5, .5)),
          mock.patch.object(textures, '_CONTRAST', (.25, .25))):
      made = textures.mosaic(flat, 32, np.random.default_rng(0))
    np.testing.assert_array_equal(
        made['image'][..., 0], .25 + .25 * made['mask'])


if __name__ == '__main__':
  absltest.main()
