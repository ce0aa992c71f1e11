"""What the generator study measures of images and of networks.

Amplitudes are in 8-bit levels, of which [-1, 1] is 255.
"""

from collections.abc import Mapping
import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.generator import model
import tconv
from tconv.audit.metrics import LEVELS

# Each with the period whose lines are left out: 4 means 4 and not 2.
PERIODS = {2: 1, 4: 2}
# Channel means before the last stage, as multiples of what they are.
SCALED_MEANS = (0, .5, 1, 2)
_LEVELS = LEVELS / 2


def grids(images: jax.typing.ArrayLike) -> dict[str, float]:
  """Measures the grids of images.

  Args:
    images: [N, H, W, C] in [-1, 1].

  Returns:
    Means over images and colors: for each period p of `PERIODS`,
    'grid_level_p_db', how far lines of this period stand out of their
    surroundings, and 'grid_amplitude_p', how strong they are.
  """
  return _floats(_grids(images))


@jax.jit
def _grids(images):
  measured = {}
  for period, exclude in PERIODS.items():
    measured[f'grid_level_{period}_db'] = tconv.grid_level(
        images, period, exclude=exclude)
    measured[f'grid_amplitude_{period}'] = _LEVELS * tconv.grid_amplitude(
        images, period, exclude=exclude)
  return measured


def _floats(arrays: Mapping[str, jax.Array]) -> dict[str, float]:
  return {name: float(jnp.mean(array)) for name, array in arrays.items()}


@functools.partial(jax.jit, static_argnums=0)
def _generate(graph, state, latents, classes):
  return nnx.merge(graph, state)(latents, classes)


def generate(generator: model.Generator, latents: jax.Array,
             classes: jax.Array | None) -> jax.Array:
  """Makes [N, size, size, colors] images in [-1, 1] of [N, L] latents."""
  return _generate(*nnx.split(generator), latents, classes)


def growth(generator: model.Generator, latents: jax.Array,
           classes: jax.Array | None) -> dict[str, float]:
  """Measures how lines of period 2 grow with the means that cause them.

  Everything is measured before tanh, so that the last stage is linear.
  Amplitudes are measured without a border of 2 pixels, which see the padding.

  Args:
    generator: the generator.
    latents: [N, latents] random values.
    classes: [N] classes, or None.

  Returns:
    'amplitude_means_t' for each t of `SCALED_MEANS`: the mean amplitude over
    images and colors when the channel means of the features before the last
    stage are multiplied by t, and all else is kept; 'predicted_amplitude',
    predicted for t = 1 from phase gains and means alone; 'color_correlation',
    the correlation over images, averaged over colors, of the amplitude with the
    distance of the mean color from grey; and 'painted_level_db', the grid level
    for t = 1.
  """
  return _floats(_growth(*nnx.split(generator), latents, classes))


@functools.partial(jax.jit, static_argnums=0)
def _growth(graph, state, latents, classes):
  generator = nnx.merge(graph, state)
  features = generator.features(latents, classes)
  means = features[:, 1:-1, 1:-1].mean((1, 2), keepdims=True)
  inner = lambda scale: generator.paint(
      features + (scale - 1) * means)[:, 2:-2, 2:-2]
  amplitudes = {scale: _LEVELS * tconv.grid_amplitude(inner(scale), 2)
                for scale in SCALED_MEANS}
  color = jnp.abs(inner(1).mean((1, 2)))
  kernel = tconv.equivalent_kernel(
      generator.paint, (2, 2), features.shape[-1])
  phases = jnp.einsum(
      'abco,no->abnc', tconv.phase_gains(kernel, (2, 2)), means[:, 0, 0])
  return {
      **{f'amplitude_means_{scale}': amplitude
         for scale, amplitude in amplitudes.items()},
      'predicted_amplitude': _LEVELS * phases.std((0, 1)),
      'color_correlation': _correlation(amplitudes[1], color),
      'painted_level_db': tconv.grid_level(generator.paint(features), 2)}


def _correlation(x, y):
  """[C] correlations of [N, C] arrays; 0 where one of them is constant."""
  x, y = x - x.mean(0, keepdims=True), y - y.mean(0, keepdims=True)
  scale = jnp.sqrt((x**2).sum(0) * (y**2).sum(0))
  return (x * y).sum(0) / jnp.where(scale == 0, 1, scale)


def input_gradients(discriminator: model.Discriminator,
                    images: jax.typing.ArrayLike,
                    classes: jax.typing.ArrayLike | None) -> dict[str, float]:
  """Measures the grid of a discriminator's gradient by the pixels.

  Args:
    discriminator: discriminator that uses the running averages of batch norm,
      so that it judges images one by one.
    images: [N, size, size, colors] images.
    classes: [N] classes, or None.

  Returns:
    Means over images and colors, at period 2: 'gradient_level_db', the level of
    lines in the gradient's spectrum; 'gradient_share', the share of its power
    that is in them; and 'gradient_size_level_db', the level of lines in the
    spectrum of its absolute value, which is high where some pixels count more
    than others.
  """
  return _floats(_gradients(*nnx.split(discriminator), images, classes))


@functools.partial(jax.jit, static_argnums=0)
def _gradients(graph, state, images, classes):
  critic = nnx.merge(graph, state)
  gradient = jax.grad(lambda x: critic(x, classes).sum())(images)
  return {
      'gradient_level_db': tconv.grid_level(gradient, 2),
      'gradient_share': tconv.grid_share(gradient, 0 * gradient, 2),
      'gradient_size_level_db': tconv.grid_level(jnp.abs(gradient), 2)}


def quality(classifier: model.Classifier, images: jax.typing.ArrayLike,
            classes: jax.typing.ArrayLike,
            reference: jax.typing.ArrayLike) -> dict[str, float]:
  """Scores images with a classifier.

  Args:
    classifier: classifier that was trained on real images.
    images: [N, size, size, colors] images.
    classes: classes that they should show.
    reference: [M, size, size, colors] real images that are not among those.

  Returns:
    'accuracy', the share of images that are assigned to their class; and
    'frechet_distance', the distance of their features to those of the
    reference.
  """
  look = functools.partial(_look, *nnx.split(classifier))
  features, seen = look(images)
  return {'accuracy': float((seen == classes).mean()),
          'frechet_distance': frechet_distance(features, look(reference)[0])}


@functools.partial(jax.jit, static_argnums=0)
def _look(graph, state, images):
  classifier = nnx.merge(graph, state)
  features = classifier.features(images)
  return features, classifier.scores(features).argmax(-1)


def frechet_distance(x: jax.typing.ArrayLike, y: jax.typing.ArrayLike) -> float:
  """Computes the distance between normal distributions fitted to samples.

  It is |mean_x - mean_y|^2 + trace(cov_x + cov_y - 2 (cov_x cov_y)^(1/2)), in
  double precision. It is biased upwards, the more so the fewer the samples.

  Args:
    x: [N, F] samples.
    y: [M, F] samples.

  Returns:
    The squared Wasserstein-2 distance, 0 for equal samples.

  References:
    Heusel et al., `GANs trained by a two time-scale update rule
    <https://arxiv.org/abs/1706.08500>`_, 2017.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
  # The trace of the root is that of a symmetric matrix with equal eigenvalues.
  values, vectors = np.linalg.eigh(cov_x)
  root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
  product = np.linalg.eigvalsh(root @ cov_y @ root)
  return float(((x.mean(0) - y.mean(0))**2).sum() + np.trace(cov_x + cov_y)
               - 2 * np.sqrt(np.maximum(product, 0)).sum())
