"""Steps of both kinds of layers, timed in turns."""

from absl.testing import absltest
from flax import nnx
import numpy as np


class CostsTest(absltest.TestCase):

  def test_steps_are_timed_by_layer(self):
    def build(layer):
      # A thousand times the work for Flax's.
      size = 800 if layer is nnx.ConvTranspose else 80
      step = lambda state, batch: (state @ batch, {'loss': state.sum()})
      return step, np.ones((size, size)), np.ones((size, size))

    times = costs.compare(build)
    self.assertEqual(list(times), ['ms_per_step_tconv', 'ms_per_step_flax'])
    self.assertLess(10 * times['ms_per_step_tconv'], times['ms_per_step_flax'])

  def test_table(self):
    table, = costs.tables('A step', [
        {'head': 8, 'ms_per_step_tconv': 2., 'ms_per_step_flax': 5.}], ['head'])
    self.assertEqual(table.columns, ('head', 'tconv', 'flax', 'flax / tconv'))
    self.assertEqual(table.rows, [('8', '2.0', '5.0', '2.50')])
    self.assertEqual(costs.tables('A step', [], ['head']), [])


if __name__ == '__main__':
  absltest.main()
