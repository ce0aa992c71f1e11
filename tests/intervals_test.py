"""Bootstrap intervals, against what is known of them."""

from absl.testing import absltest
import numpy as np

from experiments.harness import results


class BootstrapTest(absltest.TestCase):

  def test_the_same_value_everywhere_is_certain(self):
    self.assertEqual(results.bootstrap(np.full((3, 4), 2.5)), (2.5, 2.5, 2.5))

  def test_interval_of_many_images_is_that_of_their_mean(self):
    values = np.random.default_rng(1).normal(7, 2, (1, 400))
    mean, low, high = results.bootstrap(values)
    self.assertEqual(mean, values.mean())
    # Normal theory: 1.96 standard errors on each side.
    expected = 1.96 * values.std() / 20
    self.assertAlmostEqual(high - mean, expected, delta=.1 * expected)
    self.assertAlmostEqual(mean - low, expected, delta=.1 * expected)

  def test_seeds_are_clusters(self):
    # Images of a seed are alike: what counts is the number of seeds.
    values = np.random.default_rng(2).normal(size=(100, 1)).repeat(9, 1)
    mean, low, high = results.bootstrap(values)
    expected = 1.96 * values.std() / 10
    self.assertAlmostEqual(high - mean, expected, delta=.15 * expected)
    self.assertAlmostEqual(mean - low, expected, delta=.15 * expected)

  def test_images_are_the_same_for_all_seeds(self):
    # Seeds that are alike tell no more than one of them.
    values = np.random.default_rng(3).normal(size=(1, 100))
    one, nine = map(results.bootstrap, (values, values.repeat(9, 0)))
    self.assertAlmostEqual(
        (nine.high - nine.low) / (one.high - one.low), 1, delta=.04)

  def test_it_is_the_same_every_time(self):
    values = np.arange(12.).reshape(3, 4)
    self.assertEqual(results.bootstrap(values), results.bootstrap(values))


if __name__ == '__main__':
  absltest.main()
