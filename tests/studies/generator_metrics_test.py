"""What study 2 measures, on images and networks whose numbers are known."""

from absl.testing import absltest
from absl.testing import parameterized
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from experiments.studies.generator import metrics
from experiments.studies.generator import model
import tconv


def striped(period, amplitude):
  """[4, 32, 32, 1] noise of .01 with a wave along one axis."""
  noise = np.random.default_rng(0).standard_normal((4, 32, 32, 1))
  wave = np.cos(2 * np.pi * np.arange(32) / period)[:, None, None]
  return (.01 * noise + amplitude * wave).astype(np.float32)


class GridsTest(parameterized.TestCase):

  @parameterized.parameters((2, 1, 4), (4, np.sqrt(.5), 2))
  def test_lines_are_told_apart_by_period(self, period, rms, other):
    found = metrics.grids(striped(period, .2))
    self.assertGreater(found[f'grid_level_{period}_db'], 20)
    self.assertLess(found[f'grid_level_{other}_db'], 5)
    # 1 is 127.5 levels. The noise's own pattern is .01 * sqrt(15 / 1024).
    self.assertAlmostEqual(
        found[f'grid_amplitude_{period}'], 127.5 * .2 * rms, delta=.2)
    self.assertLess(found[f'grid_amplitude_{other}'], .2)


class GrowthTest(absltest.TestCase):

  def growth(self, stage):
    generator = model.Generator(
        ('nearest+conv', 'nearest+conv', stage), latents=8, features=8,
        colors=2, classes=0, rngs=nnx.Rngs(0))
    generator.eval()
    latents = jax.random.normal(jax.random.key(0), (50, 8))
    return generator, latents, metrics.growth(generator, latents, None)

  def test_the_amplitude_follows_the_means(self):
    generator, latents, found = self.growth('transposed k3')
    same = found['amplitude_means_1']
    # What is left is of the border, and of how features vary.
    self.assertLess(found['amplitude_means_0'], .25 * same)
    for name, factor in (('amplitude_means_0.5', .5), ('amplitude_means_2', 2),
                         ('predicted_amplitude', 1)):
      self.assertAlmostEqual(found[name], factor * same, delta=.1 * same)
    self.assertGreater(found['color_correlation'], .3)

    painted = generator.paint(generator.features(latents, None))
    self.assertAlmostEqual(found['painted_level_db'],
                           tconv.grid_level(painted, 2).mean(), places=3)
    inner = np.asarray(painted[:, 2:-2, 2:-2], np.float64)
    phases = inner.reshape(50, 14, 2, 14, 2, 2).mean((1, 3))
    amplitude, color = phases.std((1, 2)), np.abs(inner.mean((1, 2)))
    self.assertAlmostEqual(same, 127.5 * amplitude.mean(), places=3)
    self.assertAlmostEqual(found['color_correlation'], np.mean(
        [np.corrcoef(amplitude[:, c], color[:, c])[0, 1] for c in (0, 1)]),
                           places=4)

  def test_equal_phases_do_not_follow(self):
    *_, found = self.growth('transposed k4 equal phases')
    self.assertLess(found['predicted_amplitude'], 1e-3)
    self.assertAlmostEqual(found['amplitude_means_2'],
                           found['amplitude_means_0'], delta=1e-3)


class Weighs(nnx.Module):
  """A critic that is linear in the pixels."""

  def __init__(self, weights):
    self.weights = nnx.Param(jnp.asarray(weights))

  def __call__(self, images, classes):
    return (images * self.weights[...]).sum((1, 2, 3)) * classes


class InputGradientsTest(absltest.TestCase):

  def test_the_gradient_is_what_is_measured(self):
    critic = Weighs(striped(2, .2)[:1])
    found = metrics.input_gradients(
        critic, jnp.zeros((3, 32, 32, 1)), jnp.arange(1., 4))
    self.assertGreater(found['gradient_level_db'], 20)
    # The rest is noise.
    self.assertAlmostEqual(
        found['gradient_share'], .2**2 / (.2**2 + .01**2), delta=1e-3)
    # Up and down, but equally far.
    self.assertLess(found['gradient_size_level_db'], 5)

  def test_pixels_that_count_more_are_seen(self):
    noise = striped(2, 0)
    heavy = np.where(np.arange(32) % 2, 1, 2)[:, None, None] * noise
    found = metrics.input_gradients(
        Weighs(heavy[:1]), jnp.zeros((1, 32, 32, 1)), jnp.ones(1))
    self.assertGreater(found['gradient_size_level_db'], 10)
    self.assertLess(found['gradient_level_db'], 5)


class Compares(nnx.Module):
  """A classifier whose features are two pixels, and whose class the larger."""

  def features(self, images):
    return images[:, 0, :2, 0]

  def scores(self, features):
    return features


class QualityTest(absltest.TestCase):

  def test_accuracy_and_distance(self):
    images = np.zeros((10, 4, 4, 1), np.float32)
    images[:, 0, :2, 0] = np.random.default_rng(0).standard_normal((10, 2))
    larger = images[:, 0, :2, 0].argmax(-1)
    asked = np.where(np.arange(10) < 3, 1 - larger, larger)
    moved = images.copy()
    moved[:, 0, :2] += 2
    found = metrics.quality(Compares(), moved, asked, images)
    self.assertAlmostEqual(found['accuracy'], .7, places=6)
    self.assertAlmostEqual(found['frechet_distance'], 8, places=4)


class FrechetDistanceTest(absltest.TestCase):

  def test_it_is_that_of_the_definition(self):
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((50, 6)) @ rng.standard_normal((6, 6)) + i
            for i in range(2))
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    expected = (((x.mean(0) - y.mean(0))**2).sum() + np.trace(
        cov_x + cov_y - 2 * linalg.sqrtm(cov_x @ cov_y).real))
    self.assertAlmostEqual(metrics.frechet_distance(x, y), expected, places=6)
    # Roots of what rounding leaves of zero are 1e-8.
    self.assertAlmostEqual(metrics.frechet_distance(x, x), 0, places=6)
    x, y = (np.insert(of, 2, 0, 1) for of in (x, y))  # Always zero.
    self.assertAlmostEqual(metrics.frechet_distance(x, y), expected, places=6)


if __name__ == '__main__':
  absltest.main()
