"""Fully convolutional networks: skips, decoders, and what is theirs."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from configs import segmentation as config_lib
from experiments.studies.segmentation import model
import tconv

TRANSPOSED = model.DECODERS[:3]
IMAGES = jax.random.uniform(jax.random.key(0), (2, 32, 32, 2))


def make(head, decoder='learned', **options):
  network = model.Segmenter(
      head, decoder, in_features=2, classes=3, channels=(4, 5, 6),
      convolutions=2, rngs=nnx.Rngs(0), **options)
  network.eval()
  return network


class SegmenterTest(parameterized.TestCase):

  @parameterized.parameters(*zip(model.HEADS, TRANSPOSED))
  def test_decoders_start_as_bilinear_interpolation(self, head, decoder):
    network = make(head, decoder)
    scores = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    expected = tconv.upsample(scores, head)
    inner = lambda x: x[:, head:-head, head:-head]
    np.testing.assert_allclose(  # Sums of four products in float32.
        inner(network.decoder(scores)), inner(expected), atol=1e-5)
    chex.assert_trees_all_equal(
        make(head, 'bilinear resize').decoder(scores), expected)

  def test_all_start_with_the_same_encoder_and_scores(self):
    finest = make(2)
    for head, decoder in zip(model.HEADS, model.DECODERS[1:]):
      network = make(head, decoder)
      chex.assert_trees_all_equal(
          nnx.state(network.encoder), nnx.state(finest.encoder))
      for score, other in zip(network.scores, finest.scores):
        chex.assert_trees_all_equal(nnx.state(score), nnx.state(other))

  def test_skips_are_added_to_enlarged_scores(self):
    coarse = make(8).coarse(IMAGES)
    for head in (4, 2):
      network = make(head, 'bilinear resize')
      skip = network.scores[-1]
      with_skip = network.coarse(IMAGES)
      skip.kernel[...] *= 0
      coarse = tconv.upsample(coarse, 2)
      np.testing.assert_allclose(network.coarse(IMAGES), coarse, atol=1e-5)
      self.assertGreater(jnp.abs(with_skip - coarse).max(), .1)
      coarse = with_skip

  def test_flax_gives_the_same(self):
    ours, flax = make(2), make(2, conv_transpose=nnx.ConvTranspose)
    chex.assert_trees_all_equal(nnx.state(ours), nnx.state(flax))
    for layer in (ours, flax):  # Neither symmetric nor without mixing.
      layer.decoder.kernel[...] += jax.random.normal(
          jax.random.key(1), layer.decoder.kernel.shape)
    logits = ours(IMAGES)
    chex.assert_shape(logits, (2, 32, 32, 3))
    np.testing.assert_allclose(  # Sums of tens of products.
        logits, flax(IMAGES), atol=1e-3, rtol=1e-4)

  def test_equal_phases_stay_equal(self):
    rho = {}
    for decoder in ('learned', 'equal phases'):
      layer = make(4, decoder).decoder
      layer.kernel[...] += .1 * jax.random.normal(
          jax.random.key(1), layer.kernel.shape)
      rho[decoder] = tconv.phase_nonuniformity(
          tconv.equivalent_kernel(layer, (4, 4), 3), (4, 4))
    self.assertLess(rho['equal phases'], 1e-10)
    self.assertGreater(rho['learned'], 1e-3)

  def test_a_step_trains_all_but_what_is_frozen(self):
    network = make(4, 'frozen')
    network.train()
    step, begin = model.training_step(
        network, 'frozen', config_lib.get_config('smoke'))
    state = begin(network)
    batch = {'image': IMAGES, 'mask': jnp.indices((2, 32, 32)).sum(0) % 3}
    (params, stats, _), _ = jax.jit(step)(state, batch)
    self.assertLen(jax.tree.leaves(params[0]), 2)
    chex.assert_trees_all_equal(
        params[0], nnx.state(network, model.ENLARGING))
    for old, new in zip(jax.tree.leaves((state[0][1], state[1])),
                        jax.tree.leaves((params[1], stats))):
      self.assertTrue((old != new).any())


if __name__ == '__main__':
  absltest.main()
