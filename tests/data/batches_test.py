"""Batches of data in memory: every item in every round, and resumable."""

from absl.testing import absltest
import numpy as np

from experiments.data import batches


class ShuffledTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.data = {'image': 10. * np.arange(12).reshape(12, 1),
                 'label': np.arange(12)}

  def labels(self, **options):
    options = {'batch_size': 4, 'num_batches': 6, 'seed': 0, **options}
    return np.array(
        [batch['label'] for batch in batches.shuffled(self.data, **options)])

  def test_items_stay_together(self):
    for batch in batches.shuffled(
        self.data, batch_size=5, num_batches=4, seed=0):
      np.testing.assert_array_equal(batch['image'][:, 0], 10 * batch['label'])

  def test_each_round_has_every_item_in_another_order(self):
    first, second = self.labels().reshape(2, 12)
    for labels in first, second:
      self.assertEqual(sorted(labels), list(range(12)))
    self.assertNotEqual(list(first), list(second))

  def test_the_start_leaves_batches_out(self):
    np.testing.assert_array_equal(self.labels(start=4), self.labels()[4:])

  def test_the_order_is_the_seed_s(self):
    np.testing.assert_array_equal(self.labels(), self.labels())
    self.assertGreater(np.abs(self.labels() - self.labels(seed=1)).max(), 0)


if __name__ == '__main__':
  absltest.main()
