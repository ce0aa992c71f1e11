"""The data: split, aligned, shuffled, reproducible."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import chex
import numpy as np
import skimage

from experiments.data import photographs


def ramp(height, width):
  """An image whose values tell where they are: 1 per column, 100 per row."""
  rows, columns = np.mgrid[:height, :width]
  return np.float32((100 * rows + columns)[..., None] / 1e5)


def constant_pairs(count):
  return [{'low': np.full((9, 8, 1), i, np.float32),
           'high': np.full((18, 16, 1), i, np.float32)} for i in range(count)]


class PhotographsTest(parameterized.TestCase):

  def test_luminance_is_between_0_and_1(self):
    for name in photographs.TRAIN + photographs.TEST:
      image = photographs.load(name)
      self.assertEqual(image.dtype, np.float32)
      self.assertEqual(image.shape[2:], (1,))
      self.assertGreaterEqual(min(image.shape[:2]), photographs.SMALLEST)
      self.assertBetween(image.min(), 0, .3)
      self.assertBetween(image.max(), .7, 1)
    # scikit-image rounds the same weights to .2125, .7154, .0721.
    expected = skimage.color.rgb2gray(skimage.data.chelsea())
    np.testing.assert_allclose(
        photographs.load('chelsea')[..., 0], expected, atol=4e-4)

  def test_moon_is_refused(self):
    with self.assertRaisesRegex(ValueError, "one of astronaut.*got 'moon'"):
      photographs.load('moon')

  @parameterized.parameters(2, 3)
  def test_low_and_high_resolution_are_aligned(self, scale):
    height, width = 12 * scale, 10 * scale
    pair = photographs.downsampled_pair(
        ramp(height + scale - 1, width + 1), scale)
    self.assertEqual(pair['low'].shape, (12, 10, 1))
    np.testing.assert_array_equal(pair['high'], ramp(height, width))
    # Away from the border a cubic reproduces a ramp: the mean of each block.
    means = pair['high'].reshape(12, scale, 10, scale).mean((1, 3))
    np.testing.assert_allclose(
        pair['low'][3:-3, 3:-3, 0], means[3:-3, 3:-3], atol=1e-6)

  def test_what_is_too_fine_is_smoothed_away(self):
    noise = np.random.default_rng(0).uniform(size=(64, 64, 1))
    low = photographs.downsampled_pair(noise.astype(np.float32), 4)['low']
    # Close to the mean of 16 pixels; one in 16, as it is, would keep it all.
    self.assertLess(low.std() / noise.std(), .35)
    step = np.zeros((16, 16, 1), np.float32)
    step[:, 8:] = 1
    low = photographs.downsampled_pair(step, 2)['low']
    self.assertBetween(low.min(), 0, 1)
    self.assertBetween(low.max(), 0, 1)


class RandomPatchesTest(parameterized.TestCase):

  @parameterized.parameters(2, 3)
  def test_patches_are_aligned_cuts(self, scale):
    high = ramp(20 * scale, 30 * scale)
    low = high[::scale, ::scale]
    batches = list(photographs.random_patches(
        [{'low': low, 'high': high}], size=5, batch_size=4, num_batches=6,
        seed=0))
    self.assertLen(batches, 6)
    corners = set()
    for batch in batches:
      self.assertEqual(batch['low'].shape, (4, 5, 5, 1))
      self.assertEqual(batch['high'].shape, (4, 5 * scale, 5 * scale, 1))
      np.testing.assert_array_equal(
          batch['high'][:, ::scale, ::scale], batch['low'])
      corners |= set(batch['low'][:, 0, 0, 0].tolist())
    self.assertGreater(len(corners), 12)  # Of 24 cuts from 416 places.

  def test_a_seed_fixes_all_and_batches_can_be_left_out(self):
    patches = functools.partial(
        photographs.random_patches, constant_pairs(3), size=8, batch_size=2,
        num_batches=5)
    for start in 0, 2, 5:
      rest = list(patches(seed=0, start=start))
      self.assertLen(rest, 5 - start)
      chex.assert_trees_all_equal(rest, list(patches(seed=0))[start:])
    first, other = (np.array([batch['high'] for batch in patches(seed=seed)])
                    for seed in (0, 1))
    self.assertFalse(np.array_equal(first, other))

  def test_images_are_shuffled_and_seen_equally_often(self):
    seen = np.concatenate([
        batch['low'][:, 0, 0, 0] for batch in photographs.random_patches(
            constant_pairs(4), size=8, batch_size=8, num_batches=10, seed=0)])
    np.testing.assert_array_equal(np.bincount(seen.astype(int)), [20] * 4)
    self.assertFalse(np.array_equal(seen, np.tile(np.arange(4), 20)))


if __name__ == '__main__':
  absltest.main()
