"""The measures and tables of study 1."""

from absl.testing import absltest
import numpy as np
from skimage import metrics

from experiments.data import photographs
from experiments.harness import results
from experiments.studies import upsampling_measures
from experiments.studies import upsampling_tables

IMAGES = ['chelsea', 'flower', 'gravel']


class MeasureTest(absltest.TestCase):

  def test_numbers_are_those_of_scikit_image(self):
    truth, image = np.random.default_rng(0).uniform(
        size=(2, 40, 42, 1)).astype(np.float32)
    found = upsampling_measures.measure(image, truth, 3)
    inner = truth[3:-3, 3:-3, 0], image[3:-3, 3:-3, 0]
    self.assertAlmostEqual(
        found['psnr_db'],
        metrics.peak_signal_noise_ratio(*inner, data_range=1), places=4)
    self.assertAlmostEqual(
        found['ssim'], metrics.structural_similarity(*inner, data_range=1),
        places=5)

  def test_border_is_left_out(self):
    truth = photographs.load('chelsea')[:300, :450]
    image = np.roll(truth, 1, 0)
    frame = np.pad(image[2:-2, 2:-2], ((2, 2), (2, 2), (0, 0)))
    self.assertEqual(upsampling_measures.measure(frame, truth, 2),
                     upsampling_measures.measure(image, truth, 2))

  def test_a_checkerboard_has_a_level(self):
    truth = photographs.load('flower')[:426, :636]
    for scale, tile in (2, [1, -1]), (3, [1, 1, -2]):
      row, column = (np.resize(tile, size) for size in truth.shape[:2])
      board = np.multiply.outer(row, column)
      board = .01 * board / np.sqrt(np.mean(board**2))
      result = upsampling_measures.measure(
          truth + board[..., None].astype(np.float32), truth, scale)
      self.assertAlmostEqual(result['psnr_db'], 40, places=2)
      self.assertGreater(result['grid_level_db'], 20)
      self.assertLess(result['truth_grid_level_db'], 5)


class TablesTest(absltest.TestCase):

  def results(self):
    numbers = {('transposed k4', 0): (10, 30), ('transposed k4', 1): (12, 32),
               ('transposed k4 repaired', 0): (-11, 29.5),
               ('transposed k4 repaired', 1): (-9, 31.5)}
    rows = [
        {'scale': 2, 'stage': 'trained', 'upsampler': name, 'seed': seed,
         'image': image, 'psnr_db': psnr + i, 'grid_level_db': level,
         'grid_amplitude': .25, 'ssim': .5, 'truth_grid_level_db': i,
         'truth_grid_amplitude': .125, 'grid_p_value': .01 + .1 * i,
         'truth_grid_p_value': .5, 'parameters': 7, 'multiply_adds': 9.}
        for (name, seed), (level, psnr) in numbers.items()
        for i, image in enumerate(IMAGES)]
    others = [{**row, 'scale': 3} for row in rows]
    others += [{**row, 'stage': 'untrained'} for row in rows]
    return upsampling_tables.Results(others + rows, 2)

  def test_headline_has_means(self):
    table = upsampling_tables.headline(self.results())
    self.assertEqual(table.rows, [
        ('ground truth', None, None, '1.0', '0.125'),
        ('transposed k4', '32.00', '0.5000', '11.0', '0.250'),
        ('transposed k4 repaired', '31.50', '0.5000', '-10.0', '0.250')])

  def test_cures_are_compared_pair_by_pair(self):
    [row] = upsampling_tables.cures(self.results()).rows
    # Each seed and image changes by just as much: no doubt is left.
    self.assertEqual(row, (
        'transposed k4', 'repaired', '-21.0 [-21.0, -21.0]',
        '-0.500 [-0.500, -0.500]', '0.000 [0.000, 0.000]'))

  def test_intervals_are_of_seeds_and_images(self):
    cell = self.results().interval('transposed k4', 'psnr_db')
    self.assertEqual(cell, results.bootstrap([[30, 31, 32], [32, 33, 34]]))

  def test_costs(self):
    results = self.results()
    table = upsampling_tables.costs(
        results, {name: 1.25 + i for i, name in enumerate(results.names)})
    self.assertEqual(
        [row[3:] for row in table.rows],
        [('0 of 6', None, None, None), ('2 of 6', '7', '9', '1.2'),
         ('2 of 6', '7', '9', '2.2')])
    self.assertRegex(table.rows[1][1], r'^32\.00 \[3\d\.\d\d, 3\d\.\d\d\]$')
    self.assertIsNone(table.rows[0][1])
    self.assertEqual(table.rows[0][2], '1.0 [0.0, 2.0]')

  def test_each_image_has_its_numbers(self):
    table = upsampling_tables.by_image(self.results())
    self.assertEqual(table.rows[:2], [
        ('ground truth', None, '0.0', None, '1.0', None, '2.0'),
        ('transposed k4', '31.00', '11.0', '32.00', '11.0', '33.00', '11.0')])

  def test_every_measure_is_under_its_heading(self):
    measures = upsampling_tables._COLUMNS
    rows = [{'scale': 2, 'stage': 'trained', 'upsampler': 'n',
             **{measure: float(i) for i, measure in enumerate(measures)}}
            for _ in IMAGES]
    table = upsampling_tables.every_measure(
        upsampling_tables.Results(rows, 2), '')
    headings = [heading for heading, _ in measures.values()]
    self.assertSequenceEqual(table.columns, ['upsampler', *headings])
    self.assertEqual([float(cell) for cell in table.rows[1][1:]],
                     list(range(len(measures))))

  def test_every_cure_has_its_plain_layer(self):
    for cure in ('equal phases', 'repaired', 'penalty', 'hold'):
      self.assertEqual(upsampling_tables._plain(f'transposed k4 {cure}'),
                       ('transposed k4', cure))
    self.assertEqual(
        upsampling_tables._plain('sub-pixel ICNR'), ('sub-pixel', 'ICNR'))
    self.assertEqual(
        upsampling_tables._plain('nearest+conv'), ('nearest+conv', None))


if __name__ == '__main__':
  absltest.main()
