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
from experiments.studies.upsampling import metrics
from experiments.studies.upsampling import model
import tconv
from tconv import dialects

LEARNED = [
    'transposed k4', 'transposed k4 equal phases', 'transposed k4 repaired',
    'transposed k4 calibrated', 'transposed k4 penalty',
    'transposed k4 hold', 'sub-pixel', 'sub-pixel ICNR', 'nearest+conv',
    'bilinear+conv']
# Those that cannot paint a grid, whatever they learn; ICNR starts so.
CLEAN = ['transposed k4 equal phases', 'transposed k4 repaired',
         'transposed k4 calibrated', 'transposed k4 hold', 'sub-pixel ICNR',
         'nearest+conv', 'bilinear+conv']
LOW = jax.random.uniform(jax.random.key(0), (1, 24, 24, 1))


def network_of(name, scale=2, seed=0):
  return model.Network(upsamplers.REGISTRY[name],
                       config_lib.get_config().trunk, scale, nnx.Rngs(seed))


class NetworkTest(parameterized.TestCase):

  @parameterized.parameters(*LEARNED)
  def test_only_some_can_paint_a_grid(self, name):
    network = network_of(name)
    if name.endswith('repaired'):
      network = model.equalized(network)
    elif name.endswith('calibrated'):
      network = model.equalized(network, LOW)
    high = network(LOW)
    self.assertEqual(high.shape, (1, 48, 48, 1))
    self.assertBetween(float(high.std()), .003, 1)  # Neither large nor gone.
    # A constant image: is a pattern made of it?
    image = network(jnp.full_like(LOW, .5))[:, 16:-16, 16:-16]
    if name in CLEAN:
      self.assertLess(image.std(), 1e-6)
    else:
      self.assertGreater(image.std(), 1e-2)
    shape = nnx.eval_shape(lambda: network_of(name, 3)(LOW)).shape
    self.assertEqual(shape, (1, 72, 72, 1))

  def test_trunks_start_the_same(self):
    trunks = [nnx.state(network_of(name).trunk) for name in LEARNED]
    for trunk in trunks[1:]:
      jax.tree.map(np.testing.assert_array_equal, trunk, trunks[0])
    other = nnx.state(network_of('sub-pixel', seed=1).trunk)
    self.assertFalse(np.array_equal(*(
        jax.tree.leaves(trunk)[1] for trunk in (trunks[0], other))))

  def test_an_equalized_network_is_a_plain_one_that_gives_the_same(self):
    network = network_of('transposed k4 equal phases')
    before, kernel = network(LOW), network.upsampling.kernel[...]
    equal = model.equalized(network)
    np.testing.assert_array_equal(equal(LOW), before)
    np.testing.assert_array_equal(network.upsampling.kernel[...], kernel)
    self.assertGreater(
        jnp.abs(equal.upsampling.kernel[...] - kernel).max(), 1e-2)
    np.testing.assert_array_equal(before, tconv.conv_transpose(
        equal.features(LOW),
        dialects.kernel_from_flax(equal.upsampling.kernel[...]), 2))

  @parameterized.parameters(
      ('bicubic', 0, 16),
      # Trunk: (25 + 9 * 32) * 32 products for each of a quarter of the pixels.
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


if __name__ == '__main__':
  absltest.main()
