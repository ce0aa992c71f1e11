"""The registry of upsamplers: names, layers, and what they cost."""

from absl.testing import absltest
from absl.testing import parameterized
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from experiments import upsamplers
import tconv

REGISTRY = upsamplers.REGISTRY
# One of each kind that a study can be asked for.
KINDS = [
    'transposed k4', 'transposed k7', 'transposed k4 equal phases',
    'sub-pixel', 'sub-pixel ICNR', 'nearest+conv', 'bilinear+conv']


class RegistryTest(parameterized.TestCase):

  def test_names_are_keys_and_bases_are_entries_without_a_cure(self):
    self.assertLen({u.name for u in REGISTRY.values()}, len(REGISTRY))
    self.assertContainsSubset(KINDS, REGISTRY)
    for name, upsampler in REGISTRY.items():
      self.assertEqual(upsampler.name, name)
      base = REGISTRY[upsampler.base]
      self.assertEqual(base.cure, '')
      self.assertEqual(base == upsampler, not upsampler.cure)
      self.assertEqual(name, f'{base.name} {upsampler.cure}'.strip())
      self.assertIs(type(base), type(upsampler))

  def test_every_upsampler_enlarges(self):
    low = jax.ShapeDtypeStruct((2, 5, 6, 3), jnp.float32)
    for (name, upsampler), scale in zip(
        REGISTRY.items(), (2, 3) * len(REGISTRY)):
      if not upsampler.covers(scale):
        continue
      make = lambda upsampler=upsampler, scale=scale: upsampler.layer(
          3, 4, scale, rngs=nnx.Rngs(0))
      high = nnx.eval_shape(lambda low, make=make: make()(low), low)
      channels = 4 if upsampler.is_learned else 3  # Those only interpolate.
      self.assertEqual(
          high.shape, (2, 5 * scale, 6 * scale, channels), name)

  def test_stages_are_layers_and_nothing_else(self):
    self.assertContainsSubset(KINDS, upsamplers.STAGES)
    for name in ('nearest', 'transposed k4 hold', 'transposed k4 penalty',
                 'transposed k4 repaired'):
      self.assertIn(name, REGISTRY)
      self.assertNotIn(name, upsamplers.STAGES)
    for name in 'transposed k0', 'transposed k17', 'sub-pixel icnr':
      self.assertNotIn(name, REGISTRY)

  @parameterized.product(size=(1, 2, 3, 4), scale=(2, 3))
  def test_covers_tells_whether_every_pixel_is_written(self, size, scale):
    written = tconv.conv_transpose(
        jnp.ones((1, 6, 6, 1)), jnp.ones((size, size, 1, 1)), scale)[
            0, scale:-scale, scale:-scale] > 0
    self.assertEqual(written.all(), REGISTRY[f'transposed k{size}'].covers(
        scale))
    for name in 'nearest', 'sub-pixel', 'bilinear+conv':
      self.assertTrue(REGISTRY[name].covers(scale))

  def test_plain_layers_are_those_of_flax(self):
    images = jax.random.normal(jax.random.key(0), (1, 5, 6, 3))
    for name in KINDS:
      self.assertEqual(REGISTRY[name].is_plain, name in KINDS[:2])
    ours, theirs = (REGISTRY['transposed k4'].layer(
        3, 4, 2, rngs=nnx.Rngs(0), conv_transpose=layer)
                    for layer in (tconv.nnx.ConvTranspose, nnx.ConvTranspose))
    self.assertIs(type(theirs), nnx.ConvTranspose)
    # Sums of some dozen products in another order.
    np.testing.assert_allclose(ours(images), theirs(images), atol=1e-5)

  @parameterized.parameters(
      ('nearest', 2, (), 0), ('bilinear', 2, (), 4), ('bicubic', 2, (), 16),
      # One fine position of three is a coarse one: 1 tap on each axis, else 2.
      ('bilinear', 3, (), (5 / 3)**2),
      ('transposed k3', 2, (3, 3, 32, 1), 72),
      ('transposed k4 equal phases', 2, (4, 4, 32, 1), 128),
      ('transposed k4 hold', 2, (4, 4, 32, 1), 128 + 4),
      ('sub-pixel', 2, (3, 3, 32, 4), 288),
      ('nearest+conv', 2, (3, 3, 32, 1), 288),
      ('bilinear+conv', 2, (3, 3, 32, 1), 288 + 128))
  def test_multiply_adds(self, name, scale, kernel_shape, expected):
    self.assertAlmostEqual(
        REGISTRY[name].multiply_adds(kernel_shape, scale), expected)


if __name__ == '__main__':
  absltest.main()
