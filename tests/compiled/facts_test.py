"""Compiled programs are read right, on short ones written by hand."""

import pathlib

from absl.testing import absltest

from experiments.compiled import facts
from experiments.compiled import hlo
from experiments.compiled import limits
from experiments.compiled import programs
from experiments.timing import layers

FOLDER = pathlib.Path(__file__).parents[1] / 'data' / 'compiled'
TRAINING, INSERTED, WOVEN, PRODUCTS = (
    (FOLDER / f'{name}.hlo').read_text(encoding='utf-8')
    for name in ('training', 'inserted', 'woven', 'products'))
# That of `training.hlo` and `inserted.hlo`.
LAYER = layers.Layer('k4s2', '', 1, (3, 3), 4, 2, 4, 2, 1)


class HloTest(absltest.TestCase):

  def test_errors(self):
    program = hlo.parse(PRODUCTS.replace('known_trip_count', 'unknown'))
    with self.assertRaisesRegex(ValueError, 'how often the loop loop runs'):
      list(program.walk())
    with self.assertRaisesRegex(ValueError, "ENTRY computation.*'nothing'"):
      hlo.parse('nothing')


class FactsTest(absltest.TestCase):

  def test_calls(self):
    found = facts.calls(hlo.parse(TRAINING))
    self.assertEqual([call.kind for call in found], [
        'convBackwardFilter', 'convBackwardInput', 'convForward'])
    self.assertEqual(
        str(found[1]), 'convBackwardInput(bf16[1,3,3,4], bf16[4,4,4,2]) -> '
        'bf16[1,6,6,2]')
    self.assertEqual([call.kind for call in facts.calls(hlo.parse(PRODUCTS))],
                     ['matmul'] * 3)

  def test_multiply_adds(self):
    self.assertEqual(facts.multiply_adds(hlo.parse(TRAINING)),
                     3 * LAYER.multiply_adds)
    # One for each of 6x6 outputs, 2 channels and 4x4x4 taps.
    self.assertEqual(facts.multiply_adds(hlo.parse(INSERTED)), 6 * 6 * 2 * 64)
    self.assertEqual(facts.multiply_adds(hlo.parse(WOVEN)), 0)
    # 7 rounds of two products; elements; 5x5 outputs of 2 products by cuBLAS.
    self.assertEqual(facts.multiply_adds(hlo.parse(PRODUCTS)),
                     7 * (2 * 2 * 5 + 2 * 5 * 2) + 10 + 5 * 5 * 2)

    grouped = INSERTED.replace('w: f32[2,4,4,4]', 'w: f32[2,4,4,2]').replace(
        '%w = f32[2,4,4,4]', '%w = f32[2,4,4,2]').replace(
            'bf01_o01i->bf01,', 'bf01_o01i->bf01, feature_group_count=2,')
    self.assertEqual(facts.multiply_adds(hlo.parse(grouped)), 6 * 6 * 2 * 32)

  def test_inserted_zeros(self):
    inserted = lambda text, size=1: [
        str(a) for a in facts.inserted_zeros(hlo.parse(text), size)]
    self.assertEqual(inserted(INSERTED), ['f32[1,8,8,4]'])
    self.assertEqual(inserted(INSERTED, 257), [])
    self.assertEqual(inserted(TRAINING), [])
    self.assertEqual(inserted(WOVEN), [])
    around = INSERTED.replace('2_1_1x2_1_1', '2_3x2_3')
    self.assertEqual(inserted(around), [])
    spread = INSERTED.replace('window={size=4x4}',
                              'window={size=4x4 lhs_dilate=2x2}')
    self.assertIn('f32[1,4,8,8]', inserted(spread))

  def test_all_gathered(self):
    self.assertEqual(list(map(str, facts.all_gathered(hlo.parse(PRODUCTS)))),
                     ['f32[8,5]'])


class BarsTest(absltest.TestCase):

  def judge(self, text, kind, dtype, layer=LAYER, memory=0, peer=None):
    program = hlo.parse(text)
    summary = programs.Summary(
        facts.calls(program), facts.inserted_zeros(program, 100),
        facts.multiply_adds(program), memory, 0, 0)
    return limits.on_gpu(layer, kind, dtype, summary, peer)

  def test_faults(self):
    good = TRAINING.replace('f32', 'bf16')
    # With stride 1, an ordinary convolution will do as well.
    around = INSERTED.replace('2_1_1x2_1_1', '2_3x2_3')
    layer = layers.Layer('s1', '', 1, (6, 6), 4, 2, 4, 1, 1)
    for expected, *arguments in (
        ((), good, 'training', 'bfloat16'),
        (('work', 'calls'), good, 'forward', 'bfloat16'),
        (('dtype',), TRAINING, 'training', 'bfloat16'),
        (('zeros', 'work', 'calls'), INSERTED, 'forward', 'float32'),
        ((), around, 'forward', 'float32', layer)):
      self.assertEqual(self.judge(*arguments), expected)

  def test_memory_counts_where_cudnn_has_no_call(self):
    layer = layers.Layer('dilated', '', 1, (3, 3), 4, 2, 4, 2, 1, 0, 2)
    peer = programs.Summary((), (), 0, 10, 0, 0)
    wide = TRAINING.replace('bf16', 'f32')
    for memory, expected in (10, ()), (11, ('memory',)):
      self.assertEqual(
          self.judge(wide, 'training', 'float32', layer, memory, peer),
          expected)


if __name__ == '__main__':
  absltest.main()
