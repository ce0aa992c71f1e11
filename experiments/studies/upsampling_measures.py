"""What study 1 measures of an upsampler, on each of its images."""

import functools
import statistics
import time
from typing import Any
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
from skimage import metrics

from experiments import artifacts
from experiments.data import photographs
from experiments.studies import upsamplers

_TIMED_CALLS = 7

_symptoms, _against_truth = (
    jax.jit(measure, static_argnames='period')
    for measure in (artifacts.symptoms, artifacts.against_truth))


class Picture(NamedTuple):
  """An enlarged image and what its kernel says of it.

  Attributes:
    image: [H, W, 1] luminance.
    phases: [scale, scale] predicted means, as `experiments.artifacts.causes`
      gives them; None for the truth.
  """
  image: np.ndarray
  phases: np.ndarray | None


def measure(image: jax.typing.ArrayLike, truth: jax.typing.ArrayLike,
            scale: int) -> dict[str, float]:
  """Measures an enlarged image.

  Args:
    image: [H, W, 1] luminance.
    truth: [H, W, 1] luminance in [0, 1].
    scale: factor of the enlargement; a border of as many pixels is left out.

  Returns:
    What `experiments.artifacts` gives, 'ssim', structural similarity, and the
    symptoms of the truth, under the same names after 'truth_'.
  """
  inner = lambda x: np.asarray(x)[None, scale:-scale, scale:-scale]
  image, truth = inner(image), inner(truth)
  numbers = {
      **_against_truth(image, truth, period=scale),
      'ssim': metrics.structural_similarity(
          image[0, ..., 0], truth[0, ..., 0], data_range=1),
      **_symptoms(image, period=scale),
      **{f'truth_{name}': value
         for name, value in _symptoms(truth, period=scale).items()}}
  return {name: np.asarray(value).item() for name, value in numbers.items()}


@functools.partial(jax.jit, static_argnums=0)
def _enlarge(graph, params, low):
  return nnx.merge(graph, params)(low)


def examine(name: str, network: upsamplers.Network, scale: int,
            pairs: dict[str, photographs.Pair]
            ) -> tuple[list[dict[str, Any]], dict[str, Picture]]:
  """Measures an upsampler on all images.

  Args:
    name: of the upsampler.
    network: of that name.
    scale: factor.
    pairs: of the test images, by their names.

  Returns:
    A row of numbers for each image; and the pictures.
  """
  images = [jnp.asarray(pair['low'][None]) for pair in pairs.values()]
  # Without the border, which is not measured either.
  means = [network.features(low)[:, 1:-1, 1:-1].mean((0, 1, 2))
           for low in images]
  found = artifacts.causes(network.enlarge, jnp.stack(means), scale)
  rows, pictures = [], {}
  for (image, pair), low, (causes, phases) in zip(
      pairs.items(), images, found):
    enlarged = _enlarge(*nnx.split(network), low)
    rows.append({
        'image': image, **measure(enlarged[0], pair['high'], scale), **causes,
        'parameters': upsamplers.num_parameters(network),
        'multiply_adds': upsamplers.multiply_adds(name, network, scale)})
    pictures[image] = Picture(np.asarray(enlarged[0]), phases)
  return rows, pictures


def milliseconds(network: upsamplers.Network, low: np.ndarray) -> float:
  """Times a network.

  Args:
    network: to time.
    low: [h, w, 1] image to enlarge.

  Returns:
    Median of a few calls after the first, in ms.
  """
  arguments = *nnx.split(network), jnp.asarray(low[None])
  _enlarge(*arguments).block_until_ready()
  times = []
  for _ in range(_TIMED_CALLS):
    start = time.perf_counter()
    _enlarge(*arguments).block_until_ready()
    times.append(1e3 * (time.perf_counter() - start))
  return statistics.median(times)
