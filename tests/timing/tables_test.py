"""Tables and picture of the benchmark, from made-up times."""

from absl.testing import absltest
from absl.testing import parameterized

from experiments.timing import tables
from tests.timing.entries import entry
from tests.timing.entries import results

FORMS = {'conv': ({'auto': 4, 'vjp': 4, 'lax': 3}, ['vjp']),
         'conv_transpose': ({'auto': 4, 'taps': 4.}, [])}
LAYERS = {
    'good': entry(
        forward={'lax': [8, 6, 7], 'tconv': 5, 'matmul': 5, 'torch': 123.4},
        training={'lax': 80, 'tconv': 5, 'torch': 10}, contractions=FORMS),
    'bad': entry(
        forward={'lax': 4, 'tconv': 5, 'matmul': 3},
        training={'lax': 4, 'tconv': 5})}
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

  def test_all_tables_in_order(self):
    every = tables.all_tables(RESULTS)
    self.assertLen(every, 8)
    self.assertEqual(every[0].columns[-1], 'holds')
    self.assertEqual({row[-1] for row in every[0].rows}, {'yes', 'no !', '-'})
    # The order is that of the points, whatever that of the results.
    self.assertIn('multiply-add', every[5].columns[1])
    self.assertIn('output pixel', every[6].columns[1])
    for table in every:
      for row in table.rows:
        self.assertLen(row, len(table.columns))
    self.assertLen(tables.all_tables(results({}, size=SERIES)), 3)


if __name__ == '__main__':
  absltest.main()
