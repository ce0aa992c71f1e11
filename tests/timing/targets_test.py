"""What must hold, judged from made-up times."""

from absl.testing import absltest
from absl.testing import parameterized

from experiments.timing import targets
from tests.timing.entries import entry
from tests.timing.entries import results

(BEST, LAX, LAX_EACH, TRAINING_LAX, TRAINING_TORCH, MATMUL, STRIDE, SIZE, FIRST,
 FIRST_TRAINING, PATCHES, LARGEST) = range(12)
UNKNOWN = {'tconv': 1, 'lax': 1}


class JudgeTest(parameterized.TestCase):

  def check(self, number, measured, holds, layers, **options):
    found = targets.judge(results(layers, **options))
    self.assertLen(found, 12)
    self.assertEqual(found[number].measured, measured)
    self.assertIs(found[number].holds, holds)

  @parameterized.parameters((2, '1.00 (0.50 at b, 2.00 at a)', True),
                            (1.9, '0.97 (0.47 at b, 2.00 at a)', False))
  def test_the_best_peer_of_each_layer_counts(self, time, measured, holds):
    self.check(BEST, measured, holds, {
        'a': entry(forward={'tconv': 4, 'lax': 100, 'flax': 8}),
        'b': entry(forward={'tconv': 4, 'torch': time, 'lax': 100,
                            'matmul': .01})})

  @parameterized.parameters(
      (LAX, 'forward', 1.31, True), (LAX, 'forward', 1.29, False),
      (TRAINING_LAX, 'training', 8.01, True),
      (TRAINING_LAX, 'training', 7.99, False))
  def test_lax_in_the_mean(self, number, kind, ratio, holds):
    times = {'forward': UNKNOWN, kind: {'tconv': 2, 'lax': 2 * ratio}}
    self.check(number, f'{ratio} ({ratio} at a, {ratio} at a)', holds,
               {'a': entry(**times)})

  def test_means_are_geometric_and_of_medians(self):
    self.check(LAX, '4.00 (1.00 at b, 32.00 at c)', True, {
        name: entry(forward={'tconv': [1, 50, .5], 'lax': time})
        for name, time in (('a', 2), ('b', 1), ('c', 32))})

  @parameterized.parameters(
      (9, '0.90 at b', True), (8.99, '0.90 at b; 1 of 3 miss it', False))
  def test_lax_on_every_layer(self, time, measured, holds):
    self.check(LAX_EACH, measured, holds, {
        name: entry(forward={'tconv': 10, 'lax': time})
        for name, time in (('a', 20), ('b', time), ('c', 9.5))})

  @parameterized.parameters((6, True), (5.99, False))
  def test_the_better_layout_of_torch_counts(self, time, holds):
    # Layers without torch do not count; other peers neither.
    self.check(TRAINING_TORCH, f'{time / 6:.2f} ({time / 6:.2f} at a, '
               f'{time / 6:.2f} at a)', holds, {
                   'a': entry(forward=UNKNOWN, training={
                       'tconv': 6, 'lax': 1, 'torch': 9,
                       'torch channels-last': time}),
                   'b': entry(forward=UNKNOWN)})

  @parameterized.parameters(
      (7, '0.70 at a', True), (6.9, '0.69 at a; 1 of 1 miss it', False))
  def test_one_matmul_on_compute_bound_layers(self, time, measured, holds):
    self.check(MATMUL, measured, holds, {
        'a': entry(forward={'tconv': 10, 'lax': 1, 'matmul': time}),
        'b': entry(forward={'tconv': 10, 'lax': 1})})

  @parameterized.product(
      case=((STRIDE, 'stride', 'multiply_adds'),
            (SIZE, 'size', 'output_pixels')),
      slow=((8, '2.00 at y', True), (8.1, '2.02 at y; 1 of 2 miss it', False)))
  def test_work_is_flat(self, case, slow):
    number, name, unit = case
    time, measured, holds = slow
    self.check(number, measured, holds, {}, **{name: {
        'x': entry(forward={'tconv': 1, 'lax': 9}, **{unit: 10}),
        'y': entry(forward={'tconv': time, 'lax': 1}, **{unit: 40})}})

  @parameterized.parameters(
      ((3, 8), '1.50 at a', '1.00 at a', True),
      ((4, 9), '2.00 at a; 1 of 2 miss it', '1.12 at a; 1 of 2 miss it', False))
  def test_first_calls_and_memory_of_every_layer(
      self, values, first, memory, holds):
    layers = {'a': entry(forward=UNKNOWN, first_call=(values[0], 2),
                         memory=(values[1], 99)),
              'b': entry(forward=UNKNOWN, first_call=(1, 1), memory=(0, 99))}
    self.check(FIRST, first, holds, layers)
    self.check(FIRST_TRAINING, first.split(';')[0], None, layers)
    self.check(PATCHES, memory, holds, layers)

  @parameterized.parameters(
      (4, '0.50 at y', True), (5, '0.62 at y; 1 of 1 miss it', False))
  def test_memory_of_the_largest_image(self, size, measured, holds):
    self.check(LARGEST, measured, holds, {}, size={
        'x': entry(forward=UNKNOWN, memory=(8, 0)),
        'y': entry(forward=UNKNOWN, memory=(size, 0))})

  def test_nothing_measured_is_not_judged(self):
    for bar in targets.judge(results({})):
      self.assertEqual(bar.measured, 'not measured')
      self.assertIsNone(bar.holds)

  def test_auto_is_not_among_the_forms(self):
    contraction = entry(forward=UNKNOWN, contractions={
        'conv': ({'auto': 2, 'vjp': 5, 'lax': [1, 3, 99]}, ['vjp'])}
                        )['contractions']['conv']
    self.assertEqual(targets.best_form(contraction), ('lax', 1.5))


if __name__ == '__main__':
  absltest.main()
