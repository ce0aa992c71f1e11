"""The networks of study 1."""

from absl.testing import absltest
from absl.testing import parameterized
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from configs import upsampling as config_lib
from experiments.data import photographs
from experiments.studies import upsamplers
import tconv
from tconv import dialects

LEARNED = [
    'transposed k4', 'transposed k4 equal phases', 'transposed k4 repaired',
    'transposed k4 penalty', 'transposed k4 hold', 'sub-pixel',
    'sub-pixel ICNR', 'nearest+conv', 'bilinear+conv']
# Those that cannot paint a grid, whatever they learn.
CLEAN = ['transposed k4 equal phases', 'transposed k4 repaired',
         'transposed k4 hold', 'nearest+conv', 'bilinear+conv']


class NetworkTest(parameterized.TestCase):

  def network(self, name, scale=2, seed=0):
    trunk = config_lib.get_config().trunk
    return upsamplers.Network(name, trunk, scale, nnx.Rngs(seed))

  @parameterized.product(name=[*LEARNED, 'transposed k7'], scale=[2, 3])
  def test_enlarges(self, name, scale):
    low = jax.random.uniform(jax.random.key(0), (2, 5, 6, 1))
    high = self.network(name, scale)(low)
    self.assertEqual(high.shape, (2, 5 * scale, 6 * scale, 1))
    # Neither blown up nor vanished: ready to learn.
    self.assertBetween(float(high.std()), .003, 1)

  @parameterized.product(name=['nearest', 'bilinear'], scale=[2, 3])
  def test_interpolation_is_a_fixed_transposed_convolution(self, name, scale):
    low = photographs.downsampled_pair(
        photographs.load('chelsea'), scale)['low'][None]
    taps = tconv.interpolation_kernel((scale, scale), method=name)
    fixed = tconv.conv_transpose(
        low, np.float32(taps)[..., None, None], scale)
    inner = slice(scale, -scale)  # Beyond the border it takes zeros.
    np.testing.assert_allclose(
        self.network(name, scale)(low)[:, inner, inner],
        fixed[:, inner, inner], atol=2e-6)

  def test_trunks_start_the_same(self):
    trunks = [nnx.state(self.network(name).trunk) for name in LEARNED]
    for trunk in trunks[1:]:
      jax.tree.map(np.testing.assert_array_equal, trunk, trunks[0])
    other = nnx.state(self.network('sub-pixel', seed=1).trunk)
    self.assertFalse(np.array_equal(*(
        jax.tree.leaves(trunk)[1] for trunk in (trunks[0], other))))

  @parameterized.parameters(*LEARNED)
  def test_only_some_can_paint_a_grid(self, name):
    # A constant image: is a pattern made of it?
    network = self.network(name)
    if name.endswith('repaired'):
      network = upsamplers.repair(network, 2)
    image = network(jnp.full((1, 24, 24, 1), .5))[:, 16:-16, 16:-16]
    if name in CLEAN or name == 'sub-pixel ICNR':
      self.assertLess(image.std(), 1e-6)
    else:
      self.assertGreater(image.std(), 1e-2)

  def test_folded_layer_gives_the_same(self):
    network = self.network('transposed k4 equal phases')
    low = jax.random.uniform(jax.random.key(0), (2, 5, 6, 1))
    before, kernel = network(low), network.upsampling.kernel[...]
    upsamplers.fold(network, 2)
    np.testing.assert_array_equal(network(low), before)
    self.assertGreater(
        jnp.abs(network.upsampling.kernel[...] - kernel).max(), 1e-2)
    # What is left is a plain transposed convolution.
    np.testing.assert_array_equal(before, tconv.conv_transpose(
        network.features(low),
        dialects.kernel_from_flax(network.upsampling.kernel[...]), 2))

  def test_repairing_leaves_the_network_as_it_was(self):
    network = self.network('transposed k3')
    kernel = network.upsampling.kernel[...]
    repaired = upsamplers.repair(network, 2)
    np.testing.assert_array_equal(network.upsampling.kernel[...], kernel)
    np.testing.assert_array_equal(repaired.upsampling.kernel[...],
                                  tconv.equalize_phases(kernel, 2))

  def test_equal_networks_are_equal_to_the_compiler(self):
    graphs = [nnx.graphdef(self.network(name, seed=seed)) for name, seed in (
        ('transposed k4', 0), ('transposed k4', 1), ('transposed k4 penalty', 0)
    )]
    self.assertLen(set(graphs), 1)

  @parameterized.parameters(
      ('nearest', 0, 0), ('bilinear', 0, 4), ('bicubic', 0, 16),
      # Trunk: (25 + 9 * 32) * 32 products for each of a quarter of the pixels.
      ('transposed k3', 9 * 32 + 1, 2504 + 72),
      ('transposed k4 equal phases', 16 * 32 + 1, 2504 + 128),
      ('transposed k4 hold', 16 * 32 + 1, 2504 + 128 + 4),
      ('sub-pixel', 4 * 9 * 32 + 4, 2504 + 288),
      ('nearest+conv', 9 * 32 + 1, 2504 + 288),
      ('bilinear+conv', 9 * 32 + 1, 2504 + 288 + 128))
  def test_costs(self, name, parameters, multiply_adds):
    network = self.network(name)
    trunk = (25 + 9 * 32) * 32 + 64 if name not in upsamplers.BASELINES else 0
    self.assertEqual(upsamplers.num_parameters(network), trunk + parameters)
    self.assertEqual(
        upsamplers.multiply_adds(name, network, 2), multiply_adds)

  def test_costs_of_odd_scales(self):
    # One fine position of three is a coarse one: 1 tap on each axis, else 2.
    self.assertAlmostEqual(
        upsamplers.multiply_adds('bilinear', self.network('bilinear', 3), 3),
        (5 / 3)**2)

  @parameterized.parameters('nearest', 'bilinear')
  def test_resize_convolution_interpolates(self, method):
    network = self.network(f'{method}+conv')
    low = jax.random.uniform(jax.random.key(0), (1, 5, 6, 1))
    np.testing.assert_array_equal(network(low), tconv.resize_conv(
        network.features(low), network.upsampling.kernel[...], 2,
        method=method))


if __name__ == '__main__':
  absltest.main()
