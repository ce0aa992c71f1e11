"""Published claims, tested on invented numbers, and tables of the same."""

from absl.testing import absltest
from absl.testing import parameterized

from experiments.harness import results
from experiments.studies.generator import claims

STACKS = {'plain': ('transposed k4', 'transposed k3'),
          'equal': ('transposed k4 equal phases',) * 2,
          'mixed': ('transposed k4', 'nearest+conv'),
          'resize': ('bilinear+conv', 'nearest+conv')}
LEVELS = {('plain', 2): 9., ('plain', 4): 8., ('equal', 2): 30.,
          ('equal', 4): 30., ('mixed', 2): -9., ('mixed', 4): 7.,
          ('resize', 2): 1., ('resize', 4): 2.}
SHARES = {'strided k3': .03, 'strided k4': .04, 'conv+pool': .009}
SIZES = {'strided k3': 12., 'strided k4': 3., 'conv+pool': 1.}
GROWTH = {'amplitude_means_0': .05, 'amplitude_means_1': 1.,
          'amplitude_means_2': 2.05, 'color_correlation': .7}


def _rows(levels=(), growth=(), shares=(), sizes=(), trained=6.):
  """Rows of two seeds, whose mean is what was asked for."""
  levels, growth, shares, sizes = (
      {**base, **dict(changes)} for base, changes in (
          (LEVELS, levels), (GROWTH, growth), (SHARES, shares), (SIZES, sizes)))
  for spread in -2, 2:
    for name in STACKS:
      yield {'part': 'generator', 'name': name, 'stage': 'untrained', **growth,
             'grid_level_2_db': levels[name, 2] + spread,
             'grid_level_4_db': levels[name, 4] - spread}
    for name in shares:
      yield {'part': 'discriminator', 'name': name, 'stage': 'untrained',
             'gradient_share': shares[name], 'grid_level_2_db': None,
             'gradient_level_db': 1.5,
             'gradient_size_level_db': sizes[name] + spread}
  yield {'part': 'generator', 'name': 'plain', 'stage': 'trained',
         'grid_level_2_db': trained, 'painted_level_db': 7.}


def rows(*args, **changes):
  """Rows that all have the same columns, with a seed each."""
  made = list(_rows(*args, **changes))
  columns = dict.fromkeys(name for row in made for name in row)
  return [{**dict.fromkeys(columns), 'seed': i, **row}
          for i, row in enumerate(made)]


def holds(*args, stacks=STACKS, **changes):
  table = claims.table(results.Results(rows(*args, **changes)), stacks)
  return [row[-1] for row in table.rows]


class ClaimsTest(parameterized.TestCase):

  @parameterized.parameters(
      (None, {}),
      (0, {'levels': {('plain', 2): 4.}}),
      (1, {'levels': {('plain', 4): 4.9}}),
      (2, {'levels': {('mixed', 4): 4.}}),
      (2, {'levels': {('mixed', 2): 6.}}),
      (3, {'levels': {('resize', 2): 6.}}),
      (3, {'levels': {('resize', 4): 6.}}),
      (4, {'growth': {'amplitude_means_0': .2}}),
      (4, {'growth': {'amplitude_means_2': 1.8}}),
      (4, {'growth': {'amplitude_means_2': 2.2}}),
      (5, {'growth': {'color_correlation': .4}}),
      (6, {'shares': {'strided k3': .02}}),
      (6, {'shares': {'conv+pool': .012}}),
      (7, {'sizes': {'strided k3': 4.}}),
      (7, {'sizes': {'strided k4': 6.}}),
      (7, {'sizes': {'conv+pool': 6.}}),
      (8, {'trained': 4.}))
  def test_each_one_can_fail_alone(self, claim, changes):
    self.assertEqual(holds(**changes), [
        'no' if i == claim else 'yes' for i in range(9)])

  def test_what_was_not_measured_is_left_out(self):
    self.assertLen(holds(stacks={'resize': STACKS['resize']}), 3)
    only = [row for row in rows() if row['name'] != 'conv+pool']
    self.assertLen(claims.table(results.Results(only), {}).rows, 1)
    self.assertEmpty(claims.table(results.Results([]), {}).rows)


if __name__ == '__main__':
  absltest.main()
