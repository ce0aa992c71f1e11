"""Measures of masks, by hand and against loops."""

import itertools
import math

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import nnx
import numpy as np

from experiments.studies.segmentation import metrics
from experiments.studies.segmentation import model


def reference(mask, truth, classes, reach):
  """The boundary F-score of one image, pixel by pixel."""
  def boundary(image, of):
    near = lambda y, x: [
        image[v, u] for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        if 0 <= v < len(image) and 0 <= u < len(image)]
    return [(y, x) for y, x in itertools.product(range(len(image)), repeat=2)
            if image[y, x] == of and any(n != of for n in near(y, x))]

  def part(of, within):
    found = [any(math.dist(p, q) <= reach for q in within) for p in of]
    return sum(found) / len(found) if found else 0.

  scores = []
  for c in range(classes):
    one, other = boundary(mask, c), boundary(truth, c)
    if one or other:
      precision, recall = part(one, other), part(other, one)
      both = precision + recall
      scores.append(2 * precision * recall / both if both else 0.)
  return np.mean(scores)


class IouTest(absltest.TestCase):

  def test_by_hand(self):
    truth = np.array([[[0, 0], [1, 1]], [[0, 0], [0, 0]]])
    masks = np.array([[[0, 1], [1, 1]], [[0, 0], [0, 2]]])
    both, either = metrics.counts(masks, truth, 3)
    np.testing.assert_array_equal(both, [[1, 2, 0], [3, 0, 0]])
    np.testing.assert_array_equal(either, [[2, 3, 0], [4, 0, 1]])
    np.testing.assert_allclose(metrics.mean_iou(both, either),
                               [(1 / 2 + 2 / 3) / 2, 3 / 8])
    np.testing.assert_allclose(metrics.mean_iou(both.sum(0), either.sum(0)),
                               (4 / 6 + 2 / 3 + 0) / 3)


class BoundaryTest(parameterized.TestCase):

  @parameterized.parameters((32, 1), (94, 1), (95, 2), (256, 3))
  def test_tolerance(self, size, expected):
    self.assertEqual(metrics.tolerance(size), expected)

  def test_an_image_without_boundaries_is_right(self):
    flat, half = np.zeros((2, 1, 16, 16), np.int32)
    half[..., 8:] = 1
    np.testing.assert_array_equal(metrics.boundary_f(flat, flat, 3), [1])
    np.testing.assert_array_equal(metrics.boundary_f(flat, half, 3), [0])

  @parameterized.parameters(24, 96)  # Tolerances of 1 and 2 pixels.
  def test_agrees_with_loops(self, size):
    masks, truth = np.random.default_rng(0).integers(
        3, size=(2, 1, size // 8, size // 8)).repeat(8, -1).repeat(8, -2)
    truth = np.roll(truth, 2, -1)
    np.testing.assert_allclose(
        metrics.boundary_f(masks, truth, 3),
        [reference(*pair, 3, metrics.tolerance(size))
         for pair in zip(masks, truth)])


class GridTest(absltest.TestCase):

  def test_a_pattern_is_seen_at_its_period(self):
    noise = np.random.default_rng(0).normal(size=(2, 64, 64, 2))
    row = np.arange(64)[:, None, None]
    for period, other in ((8, False), (2, True)):
      levels = metrics.grid_levels(
          noise + 3 * np.cos(2 * np.pi * row / period), 8)
      self.assertGreater(levels['grid_level_db'].min(), 10)
      self.assertEqual(levels['grid_level_2_db'].min() > 10, other)
    self.assertLess(metrics.grid_levels(noise, 8)['grid_level_db'].max(), 3)

  def test_the_border_does_not_matter(self):
    inner = np.random.default_rng(0).normal(size=(1, 48, 48, 1))
    first, second = (
        metrics.grid_levels(np.pad(
            inner, ((0, 0), (8, 8), (8, 8), (0, 0)), constant_values=value), 4)
        for value in (0, 100))
    chex.assert_trees_all_equal(first, second)


class ExamineTest(parameterized.TestCase):

  @parameterized.parameters('learned', 'bilinear resize')
  def test_a_row_for_each_image(self, decoder):
    draw = np.random.default_rng(0)
    data = {'image': draw.uniform(size=(3, 48, 48, 1)).astype(np.float32),
            'mask': draw.integers(2, size=(3, 48, 48))}
    network = model.Segmenter(
        4, decoder, in_features=1, classes=2, channels=(2, 2, 2),
        convolutions=1, rngs=nnx.Rngs(0))
    network.eval()
    if decoder == 'learned':
      network.decoder.kernel[...] *= -1  # Takes the other class everywhere.
    rows, seen = metrics.examine(network, 4, data, 2)
    self.assertEqual([row['image'] for row in rows], [0, 1, 2])
    np.testing.assert_array_equal(seen.masks, seen.logits.argmax(-1))
    both, either = metrics.counts(seen.masks, data['mask'], 2)
    for row, mask, truth in zip(rows, seen.masks, data['mask']):
      self.assertEqual(row['accuracy'], np.mean(mask == truth))
      self.assertAlmostEqual(
          row['pooled_iou'], metrics.mean_iou(both.sum(0), either.sum(0)))
      self.assertLess(row['phase_nonuniformity'], 1e-10)
    data['mask'] = seen.masks
    for row in metrics.examine(network, 4, data, 2)[0]:
      self.assertEqual(row['iou'], 1)
      # Scores are resized in place of the decoder.
      self.assertEqual(row['resized_iou'] > .9, decoder == 'bilinear resize')


if __name__ == '__main__':
  absltest.main()
