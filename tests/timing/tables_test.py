"""Tables and picture of the benchmark, from made-up times."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from experiments.timing import figure
from experiments.timing import tables
from experiments.timing import targets
from tests.timing.entries import entry
from tests.timing.entries import results

FORMS = {'conv': ({'auto': 4, 'vjp': 4, 'lax': 3}, ['vjp']),
         'conv_transpose': ({'auto': 4, 'taps': 4.}, [])}
LAYERS = {
    'good': entry(
        forward={'lax': [8, 6, 7], 'tconv': 5, 'matmul': 5, 'torch': 123.4},
        training={'lax': 80, 'tconv': 5, 'torch': 10}, contractions=FORMS,
        memory=(8e6, 1.25e7), patches_bytes=8e6),
    'bad': entry(
        forward={'lax': 4, 'tconv': 5, 'matmul': 3},
        training={'lax': 4, 'tconv': 5}, first_call=(31, 20),
        memory=(16, 0), patches_bytes=8)}
SERIES = {'s1': entry(forward={'tconv': 1, 'lax': 2}, multiply_adds=10**6,
                      output_pixels=100),
          's2': entry(forward={'tconv': 5, 'lax': 2}, multiply_adds=2 * 10**6,
                      output_pixels=400)}
RESULTS = results(LAYERS, stride=SERIES, size=SERIES)


class TablesTest(parameterized.TestCase):

  def test_forward(self):
    table = tables.against_peers(LAYERS, 'forward')
    self.assertEqual(table.columns, (
        'layer', 'tconv', 'lax', 'torch', 'matmul', 'best peer / tconv',
        'lax / tconv', 'matmul / tconv'))
    self.assertEqual(table.rows, [
        ('good', '5.00', '7.00', '123', '5.00', '1.40 (1.30-1.50)',
         '1.40 (1.30-1.50)', '1.00 (1.00-1.00)'),
        ('bad', '5.00', '4.00', None, '3.00', '0.80 (0.80-0.80)',
         '0.80 (0.80-0.80) !', '0.60 (0.60-0.60) !')])

  def test_training(self):
    table = tables.against_peers(LAYERS, 'training')
    self.assertEqual(table.columns, (
        'layer', 'tconv', 'lax', 'torch', 'best torch / tconv', 'lax / tconv'))
    self.assertEqual(table.rows, [
        ('good', '5.00', '80.0', '10.0', '2.00 (2.00-2.00)',
         '16.00 (16.00-16.00)'),
        ('bad', '5.00', '4.00', None, None, '0.80 (0.80-0.80)')])

  def test_costs(self):
    table = tables.costs(LAYERS)
    self.assertLen(table.columns, 14)
    self.assertEqual(table.rows, [
        ('good', '3', '2', '1.50', '3', '2', '1.50', '8.00', '12.5', None,
         '8.00', '1.00', '8.00', '12.5'),
        ('bad', '31', '20', '1.55 !', '31', '20', '1.55', '0.00', '0.00', None,
         '0.00', '2.00 !', '0.00', '0.00')])

  def test_forms(self):
    table = tables.forms(LAYERS)
    self.assertEqual(table.columns, (
        'layer', 'operation', 'auto', 'vjp', 'lax', 'taps', 'auto is', 'best',
        'best / auto'))
    self.assertEqual(table.rows, [
        ('good', 'conv', '4.00', '4.00', '3.00', None, 'vjp', 'lax', '0.75 !'),
        ('good', 'conv_transpose', '4.00', None, None, '4.00', 'none of these',
         'taps', '1.00')])

  @parameterized.parameters(
      ('multiply_adds', ('1000', '2000', '1.00'), ('2500', '1000', '2.50 !')),
      ('output_pixels', ('10000', '20000', '1.00'), ('12500', '5000', '1.25')))
  def test_series(self, unit, first, second):
    table = tables.in_series(SERIES, unit)
    self.assertEqual(table.rows, [
        ('s1', *first, '0.00', '0.00', '0.00'),
        ('s2', *second, '0.00', '0.00', '0.00')])

  def test_summary(self):
    table = tables.summary([
        targets.Target('a', '>= 1', '2', True),
        targets.Target('b', '>= 1', '0', False),
        targets.Target('c', '>= 1', '', None)])
    self.assertEqual([row[-1] for row in table.rows], ['yes', 'no !', '-'])

  def test_all_tables_in_order(self):
    every = tables.all_tables(RESULTS)
    self.assertLen(every, 8)
    self.assertEqual(every[0].columns[-1], 'holds')
    # The order is that of the points, whatever that of the results.
    self.assertIn('multiply-add', every[5].columns[1])
    self.assertIn('output pixel', every[6].columns[1])
    for table in every:
      for row in table.rows:
        self.assertLen(row, len(table.columns))

  def test_nothing_but_a_series(self):
    every = tables.all_tables(results({}, size=SERIES))
    self.assertLen(every, 3)


class FigureTest(absltest.TestCase):

  def test_ratios_and_series_are_drawn(self):
    above, below = figure.draw(RESULTS).subfigs
    forward, training = above.axes
    points = {line.get_label(): line.get_xydata().tolist()
              for line in forward.lines}
    self.assertEqual(points['lax / tconv'], [[1.4, 0], [.8, 1]])
    self.assertEqual(points['best peer / tconv'], [[1.4, 0], [.8, 1]])
    np.testing.assert_allclose(  # Quartiles are interpolated.
        forward.collections[0].get_segments(),
        [[[1.3, 0], [1.5, 0]], [[.8, 1], [.8, 1]]], rtol=1e-12)
    [best] = [line for line in training.lines
              if line.get_label() == 'best peer / tconv']
    self.assertEqual(best.get_xydata().tolist(), [[2, 0], [.8, 1]])
    stride, size = below.axes
    for axes, peer, expected in ((stride, 0, [[2, 1], [2, 2.5]]),
                                 (stride, 1, [[2, 2], [2, 1]]),
                                 (size, 0, [[10, 1], [20, 1.25]])):
      np.testing.assert_allclose(
          axes.lines[peer].get_xydata(), expected, rtol=1e-12)

  def test_without_series(self):
    drawn = figure.draw(results(LAYERS))
    drawn.draw_without_rendering()
    self.assertNotEmpty(drawn.subfigs[0].axes[0].lines)


if __name__ == '__main__':
  absltest.main()
