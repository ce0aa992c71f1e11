"""The networks, metrics and tables of study 1."""

from absl.testing import absltest
from absl.testing import parameterized
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
from skimage import metrics as skimage_metrics

from configs import upsampling as config_lib
from experiments import upsamplers
from experiments.data import photographs
from experiments.harness import results as results_lib
from experiments.studies.upsampling import metrics
from experiments.studies.upsampling import model
from experiments.studies.upsampling import tables
import tconv
from tconv import dialects

LEARNED = [
    'transposed k4', 'transposed k4 equal phases', 'transposed k4 repaired',
    'transposed k4 penalty', 'transposed k4 hold', 'sub-pixel',
    'sub-pixel ICNR', 'nearest+conv', 'bilinear+conv']
# Those that cannot paint a grid, whatever they learn; ICNR starts so.
CLEAN = ['transposed k4 equal phases', 'transposed k4 repaired',
         'transposed k4 calibrated', 'transposed k4 hold', 'sub-pixel ICNR',
         'nearest+conv', 'bilinear+conv']
IMAGES = ['chelsea', 'flower', 'gravel']


def network_of(name, scale=2, seed=0):
  return model.Network(upsamplers.REGISTRY[name],
                       config_lib.get_config().trunk, scale, nnx.Rngs(seed))


class NetworkTest(parameterized.TestCase):

  @parameterized.product(name=LEARNED, scale=[2, 3])
  def test_enlarges_and_is_ready_to_learn(self, name, scale):
    low = jax.random.uniform(jax.random.key(0), (2, 5, 6, 1))
    high = network_of(name, scale)(low)
    self.assertEqual(high.shape, (2, 5 * scale, 6 * scale, 1))
    self.assertBetween(float(high.std()), .003, 1)  # Neither large nor gone.

  @parameterized.product(name=['nearest', 'bilinear'], scale=[2, 3])
  def test_interpolation_is_a_fixed_transposed_convolution(self, name, scale):
    low = jax.random.uniform(jax.random.key(0), (1, 9, 8, 1))
    taps = tconv.interpolation_kernel((scale, scale), method=name)
    fixed = tconv.conv_transpose(
        low, np.float32(taps)[..., None, None], scale)
    inner = slice(scale, -scale)  # Beyond the border it takes zeros.
    np.testing.assert_allclose(
        network_of(name, scale)(low)[:, inner, inner],
        fixed[:, inner, inner], atol=2e-6)

  def test_trunks_start_the_same(self):
    trunks = [nnx.state(network_of(name).trunk) for name in LEARNED]
    for trunk in trunks[1:]:
      jax.tree.map(np.testing.assert_array_equal, trunk, trunks[0])
    other = nnx.state(network_of('sub-pixel', seed=1).trunk)
    self.assertFalse(np.array_equal(*(
        jax.tree.leaves(trunk)[1] for trunk in (trunks[0], other))))

  @parameterized.parameters(*LEARNED)
  def test_only_some_can_paint_a_grid(self, name):
    # A constant image: is a pattern made of it?
    network = network_of(name)
    if name.endswith('repaired'):
      network = model.equalized(network)
    elif name.endswith('calibrated'):
      images = jax.random.uniform(jax.random.key(0), (2, 24, 24, 1))
      network = model.equalized(network, images)
    image = network(jnp.full((1, 24, 24, 1), .5))[:, 16:-16, 16:-16]
    if name in CLEAN:
      self.assertLess(image.std(), 1e-6)
    else:
      self.assertGreater(image.std(), 1e-2)

  def test_an_equalized_network_is_a_plain_one_that_gives_the_same(self):
    network = network_of('transposed k4 equal phases')
    low = jax.random.uniform(jax.random.key(0), (2, 5, 6, 1))
    before, kernel = network(low), network.upsampling.kernel[...]
    equal = model.equalized(network)
    np.testing.assert_array_equal(equal(low), before)
    np.testing.assert_array_equal(network.upsampling.kernel[...], kernel)
    self.assertGreater(
        jnp.abs(equal.upsampling.kernel[...] - kernel).max(), 1e-2)
    np.testing.assert_array_equal(before, tconv.conv_transpose(
        equal.features(low),
        dialects.kernel_from_flax(equal.upsampling.kernel[...]), 2))

  def test_equal_networks_are_equal_to_the_compiler(self):
    graphs = [nnx.graphdef(network_of(name, seed=seed)) for name, seed in (
        ('transposed k4', 0), ('transposed k4', 1), ('transposed k4 penalty', 0)
    )]
    self.assertLen(set(graphs), 1)

  @parameterized.parameters(
      ('bicubic', 0, 16),
      # Trunk: (25 + 9 * 32) * 32 products for each of a quarter of the pixels.
      ('transposed k3', 10080 + 9 * 32 + 1, 2504 + 72),
      ('transposed k4 hold', 10080 + 16 * 32 + 1, 2504 + 128 + 4),
      ('sub-pixel', 10080 + 4 * 9 * 32 + 4, 2504 + 288))
  def test_costs(self, name, parameters, multiply_adds):
    network = network_of(name)
    self.assertEqual(model.num_parameters(network), parameters)
    self.assertEqual(model.multiply_adds(
        upsamplers.REGISTRY[name], network, 2), multiply_adds)

  def test_a_heavy_penalty_equalizes(self):
    batch = {'low': jax.random.uniform(jax.random.key(0), (4, 8, 8, 1)),
             'high': jax.random.uniform(jax.random.key(1), (4, 16, 16, 1))}
    upsampler, found = upsamplers.REGISTRY['transposed k4 penalty'], []
    for weight in 1e-6, 100.:
      config = config_lib.get_config('smoke')
      config.update({'num_steps': 60, 'penalty': weight})
      network = network_of(upsampler.name)
      before = network.upsampling.kernel[...]
      step, state = model.training_step(network, upsampler, 2, config)
      step = jax.jit(step, donate_argnums=0)
      for _ in range(60):
        state, metrics_of_step = step(state, batch)
      found.append(metrics_of_step['penalty'])
      # The network stays as it was drawn.
      np.testing.assert_array_equal(network.upsampling.kernel[...], before)
    self.assertLess(found[1], found[0] / 5)


class MeasureTest(absltest.TestCase):

  def test_numbers_are_those_of_scikit_image(self):
    truth, image = np.random.default_rng(0).uniform(
        size=(2, 40, 42, 1)).astype(np.float32)
    found = metrics.measure(image, truth, 3)
    inner = truth[3:-3, 3:-3, 0], image[3:-3, 3:-3, 0]
    self.assertAlmostEqual(
        found['psnr_db'],
        skimage_metrics.peak_signal_noise_ratio(*inner, data_range=1), places=4)
    self.assertAlmostEqual(
        found['ssim'],
        skimage_metrics.structural_similarity(*inner, data_range=1), places=5)
    image[0], image[:, -2:] = 9, 7  # The border is left out.
    for name, value in metrics.measure(image, truth, 3).items():
      np.testing.assert_allclose(value, found[name], 1e-4, 1e-4, name)

  def test_a_checkerboard_has_a_level(self):
    truth = photographs.load('flower')[100:196, 200:296]
    for scale, tile in (2, [1, -1]), (3, [1, 1, -2]):
      row, column = (np.resize(tile, size) for size in truth.shape[:2])
      board = np.multiply.outer(row, column)
      board = .01 * board / np.sqrt(np.mean(board**2))
      found = metrics.measure(
          truth + board[..., None].astype(np.float32), truth, scale)
      self.assertAlmostEqual(found['psnr_db'], 40, places=2)
      self.assertGreater(found['grid_level_db'],
                         found['truth_grid_level_db'] + 10)


class TablesTest(absltest.TestCase):

  def results(self):
    numbers = {('transposed k4', 0): (10, 30), ('transposed k4', 1): (12, 32),
               ('transposed k4 repaired', 0): (-11, 29.5),
               ('transposed k4 repaired', 1): (-9, 31.5)}
    return results_lib.Results([
        {'scale': 2, 'stage': 'trained', 'upsampler': name, 'seed': seed,
         'image': image, 'psnr_db': psnr + i, 'grid_level_db': level,
         'grid_amplitude': .25, 'ssim': .5, 'truth_grid_level_db': i,
         'truth_grid_amplitude': .125, 'grid_p_value': .01 + .1 * i,
         'truth_grid_p_value': .5, 'parameters': 7, 'multiply_adds': 9.}
        for (name, seed), (level, psnr) in numbers.items()
        for i, image in enumerate(IMAGES)])

  def cells(self, table, name):
    row = next(row for row in table.rows if row[0] == name)
    return dict(zip(table.columns, row, strict=True))

  def test_headline_has_means(self):
    table = tables.headline(self.results())
    self.assertEqual(list(self.cells(table, 'transposed k4').values())[1:],
                     ['32.00', '0.5000', '11.0', '0.250'])
    # The truth has no PSNR.
    self.assertEqual(list(self.cells(table, tables.TRUTH).values())[1:],
                     [None, None, '1.0', '0.125'])

  def test_cures_are_compared_pair_by_pair(self):
    [row] = tables.cures(self.results()).rows
    # Each seed and image changes by just as much: no doubt is left.
    self.assertEqual(row, (
        'transposed k4', 'repaired', '-21.0 [-21.0, -21.0]',
        '-0.500 [-0.500, -0.500]', '0.000 [0.000, 0.000]'))

  def test_costs_have_intervals_of_seeds_and_images(self):
    found = self.results()
    table = tables.costs(found, {'transposed k4': 1.25,
                                 'transposed k4 repaired': 2.25})
    cells = list(self.cells(table, 'transposed k4').values())
    self.assertEqual(cells[1], results_lib.bootstrap(
        [[30, 31, 32], [32, 33, 34]]).text(2))
    self.assertEqual(cells[3:], ['2 of 6', '7', '9', '1.2'])

  def test_each_image_has_its_numbers(self):
    cells = self.cells(tables.by_image(self.results()), 'transposed k4')
    self.assertEqual(cells['flower PSNR'], '32.00')
    self.assertEqual(cells['gravel grid'], '11.0')

  def test_every_metric_is_under_its_heading(self):
    rows = [{'scale': 2, 'stage': 'trained', 'upsampler': 'n', 'seed': 0,
             **{metric: float(i) for i, metric in enumerate(tables._COLUMNS)}}]
    table = tables.every_metric(results_lib.Results(rows), '')
    cells = self.cells(table, 'n')
    for i, (heading, _) in enumerate(tables._COLUMNS.values()):
      self.assertEqual(float(cells[heading]), i)


if __name__ == '__main__':
  absltest.main()
