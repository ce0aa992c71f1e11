"""Expectations of study 3, tested on made-up results, and its tables."""

import itertools

from absl.testing import absltest
from absl.testing import parameterized

from experiments.harness.results import Results
from experiments.studies.segmentation import claims


def rows(heads=(8, 4), decoders=('learned', 'bilinear resize'), **values):
  """Rows of two seeds, two stages and three images.

  Args:
    heads: of the networks.
    decoders: of the networks.
    **values: functions of head, decoder, seed, stage and image.
  """
  metrics = ('iou', 'resized_iou', 'pooled_iou', 'boundary_f', 'accuracy',
              'grid_level_db', 'grid_level_2_db', 'truth_grid_level_db',
              'phase_nonuniformity')
  return [
      {'head': head, 'decoder': decoder, 'seed': seed, 'stage': stage,
       'image': image,
       **{name: float(values.get(name, lambda *_: 0)(
           head, decoder, seed, stage, image)) for name in metrics}}
      for head, decoder, seed, stage, image in itertools.product(
          heads, decoders, (0, 1), ('untrained', 'trained'), range(3))]


def holds(made, start):
  """Answers, in their order, of claims that start so."""
  table = claims.table(Results(made))
  return [answer for claim, _, answer in table.rows if claim.startswith(start)]


class ClaimsTest(parameterized.TestCase):

  @parameterized.parameters((.1, 'yes'), (0, 'cannot tell'), (-.1, 'no'))
  def test_skips(self, gain, answer):
    made = rows(iou=lambda head, *_: .5 + gain * (head == 4))
    self.assertEqual(holds(made, 'learned: head 4 is better than head 8'),
                     [answer])

  def test_the_order_of_heads_is_that_of_the_scores(self):
    made = rows(heads=(2, 8, 4), iou=lambda head, *_: 1 / head)
    texts = [text for text, *_ in claims.table(Results(made)).rows]
    self.assertEqual(texts[:2], ['learned: head 4 is better than head 8',
                                  'learned: head 2 is better than head 4'])
    self.assertEqual(holds(made, 'learned: head'), ['yes', 'yes'])

  @parameterized.parameters(
      (.1, .1, ['yes', 'yes']), (.1, -.1, ['yes', 'no']),
      (-.1, .1, ['no', 'yes']), (0, 0, ['cannot tell'] * 2))
  def test_learned_against_bilinear(self, same, other, answers):
    # Only trained networks of the same head are compared.
    made = rows(
        iou=lambda head, decoder, seed, stage, image: (
            head - 9 * (stage == 'untrained')
            - other * (decoder != 'learned') - image),
        resized_iou=lambda head, decoder, seed, stage, image: (
            head - image - same))
    self.assertEqual(holds(made, 'head 8: learned is'), answers)
    self.assertEqual(holds(made, 'head 4: learned is'), answers)

  def test_grids(self):
    made = rows(
        phase_nonuniformity=lambda head, decoder, seed, stage, image: (
            .1 * ((decoder, stage) == ('learned', 'trained'))),
        grid_level_db=lambda head, *_: head, truth_grid_level_db=lambda *_: 5)
    self.assertEqual(holds(made, 'learned: no grid'), ['yes'])
    self.assertEqual(holds(made, 'bilinear resize: no grid'), ['yes'])
    self.assertEqual(holds(made, 'head 8: training gives'), ['yes'])
    self.assertEqual(holds(made, 'head 4: training gives'), ['no'])
    made = rows(phase_nonuniformity=lambda *_: 1e-8)
    self.assertEqual(holds(made, 'bilinear resize: no grid'), ['no'])


if __name__ == '__main__':
  absltest.main()
