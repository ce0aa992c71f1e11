"""The regret of the rule: random layers, ratios and a small run."""

import pathlib
import tempfile

from absl.testing import absltest
import numpy as np

from experiments import regret
from experiments.timing import contractions
from experiments.timing import layers
from experiments.timing import peers as peers_lib
from experiments.timing import random_layers

TINY = layers.Layer('tiny', 'random', 1, (4, 4), 4, 3, 4, 2, 1)


def entry(auto, milliseconds, tconv, torch):
  return {
      'operations': {operation: {'auto': auto, 'milliseconds': milliseconds}
                     for operation in contractions.OPERATIONS},
      'layer': {kind: {'tconv': [tconv], 'torch': [torch],
                       'torch channels-last': [2 * torch]}
                for kind in ('forward', 'training')}}


class RegretTest(absltest.TestCase):

  def test_layers_are_drawn_by_seed_from_all_kinds(self):
    drawn = random_layers.draw(200, 0)
    self.assertEqual(drawn[:50], random_layers.draw(50, 0))
    self.assertNotEqual(drawn[:50], random_layers.draw(50, 1))
    self.assertEqual({layer.num_axes for layer in drawn}, {1, 2, 3})
    self.assertEqual({layer.dilation for layer in drawn}, {1, 2})
    self.assertGreater(len({layer.stride for layer in drawn}), 3)
    self.assertBetween(
        np.mean([layer.groups > 1 for layer in drawn]), .05, .5)
    for layer in drawn:  # Groups divide channels, and geometries are legal.
      self.assertEqual((layer.fan_in % layer.groups,
                        layer.fan_out % layer.groups), (0, 0))
      self.assertGreater(min(layer.outputs_shape), 0)

  def test_regret_and_ratio(self):
    results = {
        'a': entry('taps', {'taps': [3., 2., 9.], 'vjp': [1.5]}, 2., 3.),
        'b g2': entry('vjp', {'taps': [8.], 'vjp': [4.]}, 4., 2.)}
    for operation in contractions.OPERATIONS:
      self.assertEqual(regret.regrets(results, operation),
                       {'a': 2., 'b g2': 1.})
    self.assertEqual(regret.ratios(results, 'forward'), {'a': 1.5, 'b g2': .5})
    text = '\n'.join(table.markdown() for table in regret.tables(results))
    self.assertIn('b g2', text)

  def test_it_measures_and_reports(self):
    peers, _ = peers_lib.available()
    found = regret.measure(TINY, {'tconv': peers['tconv']}, 2)
    for operation in contractions.OPERATIONS:
      one = found['operations'][operation]
      self.assertIn(one['auto'], one['milliseconds'])
      self.assertGreater(min(map(min, one['milliseconds'].values())), 0)

  def test_the_command_writes_a_page(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    regret.main(['regret'], count=1, seed=3, repeats=1, out=folder,
                page=str(folder / 'page.md'))
    self.assertIn('Regret of the rule', (folder / 'page.md').read_text())


if __name__ == '__main__':
  absltest.main()
