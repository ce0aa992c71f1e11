"""Rows, means with intervals, claims, and tables for every medium."""

import io

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import rich.console

from experiments.harness import results


class BootstrapTest(parameterized.TestCase):

  def test_equal_values_have_no_spread(self):
    self.assertEqual(results.bootstrap(np.full((3, 4), 2.5)), (2.5, 2.5, 2.5))

  @parameterized.named_parameters(
      ('images_of_one_seed', (1, 400), 1, 400),
      # The images of a seed are alike: only the number of seeds counts.
      ('seeds_of_equal_images', (100, 1), 9, 100))
  def test_interval_is_that_of_normal_theory(self, shape, copies, number):
    values = np.random.default_rng(1).normal(7, 2, shape).repeat(copies, 1)
    mean, low, high = results.bootstrap(values)
    self.assertEqual(mean, values.mean())
    expected = 1.96 * values.std() / number**.5
    # Of 10,000 samples of so few values.
    self.assertAlmostEqual(high - mean, expected, delta=.15 * expected)
    self.assertAlmostEqual(mean - low, expected, delta=.15 * expected)

  def test_all_seeds_have_the_same_images(self):
    # Nine equal seeds tell no more than one of them.
    values = np.random.default_rng(3).normal(size=(1, 100))
    one, nine = map(results.bootstrap, (values, values.repeat(9, 0)))
    self.assertAlmostEqual(
        (nine.high - nine.low) / (one.high - one.low), 1, delta=.04)
    self.assertEqual(one, results.bootstrap(values))

  def test_text(self):
    interval = results.Interval(1.25, -.0001, 2)
    self.assertEqual(interval.text(1), '1.2 [0.0, 2.0]')  # No minus zero.
    self.assertEqual(interval.text(2, '+'), '+1.25 [+0.00, +2.00]')


class ResultsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.results = results.Results([
        {'name': name, 'seed': seed, 'image': image, 'db': 10 * seed + image,
         'rho': None if name == 'b' else 0.}
        for name in 'ba' for seed in (1, 0) for image in range(3)])

  def test_where_selects_by_value_or_by_any_of_several(self):
    self.assertEqual(
        [(row['name'], row['image'])
         for row in self.results.where(seed=0, image=(0, 2)).rows],
        [('b', 0), ('b', 2), ('a', 0), ('a', 2)])
    self.assertEqual(self.results.distinct('name'), ['b', 'a'])

  def test_values_are_by_seed_and_image(self):
    np.testing.assert_array_equal(
        self.results.values('db', name='a'), [[10, 11, 12], [0, 1, 2]])
    # Neither None nor a metric that no row has is a number.
    for metric in 'rho', 'missing':
      self.assertEqual(self.results.values(metric, name='b').size, 0)
    self.assertEqual(self.results.values('rho').shape, (2, 3))


class TableTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.table = results.Table(
        'A [caption]', ('name', 'dB'),
        [('a [b]', '31.5'), ('truth', None), ('low', f'2{results.MARK}')])

  def test_screen_and_markdown_show_every_cell(self):
    shown = self.table.screen()
    self.assertEqual([row.style for row in shown.rows], [None, None, 'red'])
    screen = io.StringIO()
    rich.console.Console(file=screen, markup=False).print(shown)
    for text in ('name', 'dB', 'a [b]', '31.5', 'truth', '2 !'):
      self.assertIn(text, screen.getvalue())
    self.assertEqual(self.table.markdown(), (
        'A [caption]\n\n| name | dB |\n| --- | --- |\n| a [b] | 31.5 |\n'
        '| truth |  |\n| low | 2 ! |'))


if __name__ == '__main__':
  absltest.main()
