"""What the upsampling study measures of a network, on each test image."""

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
from experiments import upsamplers
from experiments.data import photographs
from experiments.studies.upsampling import model
from tconv.audit.metrics import grid_metrics

_TIMED_CALLS = 7

_grid_metrics, _against_truth = (
    jax.jit(measure, static_argnames='period')
    for measure in (grid_metrics, artifacts.against_truth))


class Picture(NamedTuple):
  """An enlarged image, and the pattern predicted from the kernel.

  Attributes:
    image: [H, W, 1] luminance.
    phases: [scale, scale] predicted means of the phases, as
      `artifacts.kernel_metrics` gives them; None for the ground truth.
  """
  image: np.ndarray
  phases: np.ndarray | None


def measure(image: jax.typing.ArrayLike, truth: jax.typing.ArrayLike,
            scale: int) -> dict[str, float]:
  """Measures an enlarged image, without a border of `scale` pixels.

  Args:
    image: [H, W, 1] luminance.
    truth: [H, W, 1] luminance in [0, 1].
    scale: factor of the enlargement.

  Returns:
    The metrics of `grid_metrics` and `artifacts.against_truth`; 'ssim', the
    structural similarity; and the grid metrics of the truth, with 'truth_'
    before their names.
  """
  inner = lambda x: np.asarray(x)[None, scale:-scale, scale:-scale]
  image, truth = inner(image), inner(truth)
  numbers = {
      **_against_truth(image, truth, period=scale),
      'ssim': metrics.structural_similarity(
          image[0, ..., 0], truth[0, ..., 0], data_range=1),
      **_grid_metrics(image, period=scale),
      **{f'truth_{name}': value
         for name, value in _grid_metrics(truth, period=scale).items()}}
  return {name: np.asarray(value).item() for name, value in numbers.items()}


@functools.partial(jax.jit, static_argnums=0)
def _enlarge(graph, params, low):
  return nnx.merge(graph, params)(low)


def examine(upsampler: upsamplers.Upsampler, network: model.Network,
            scale: int, pairs: dict[str, photographs.Pair]
            ) -> tuple[list[dict[str, Any]], dict[str, Picture]]:
  """Measures a network on all test images.

  Args:
    upsampler: upsampler of the network.
    network: the network.
    scale: factor.
    pairs: test images and their shrunken versions, by name.

  Returns:
    A row of metrics for each image, and the enlarged images by name.
  """
  images = [jnp.asarray(pair['low'][None]) for pair in pairs.values()]
  # Without the border, which is not measured either.
  means = [network.features(low)[:, 1:-1, 1:-1].mean((0, 1, 2))
           for low in images]
  found = artifacts.kernel_metrics(network.enlarge, jnp.stack(means), scale)
  rows, pictures = [], {}
  for (image, pair), low, (of_kernel, phases) in zip(
      pairs.items(), images, found):
    enlarged = _enlarge(*nnx.split(network), low)
    rows.append({
        'image': image, **measure(enlarged[0], pair['high'], scale),
        **of_kernel,
        'parameters': model.num_parameters(network),
        'multiply_adds': model.multiply_adds(
            upsampler, network, scale)})
    pictures[image] = Picture(np.asarray(enlarged[0]), phases)
  return rows, pictures


def milliseconds(network: model.Network, low: np.ndarray) -> float:
  """Median time to enlarge a [h, w, 1] image, in milliseconds."""
  arguments = *nnx.split(network), jnp.asarray(low[None])
  _enlarge(*arguments).block_until_ready()
  times = []
  for _ in range(_TIMED_CALLS):
    start = time.perf_counter()
    _enlarge(*arguments).block_until_ready()
    times.append(1e3 * (time.perf_counter() - start))
  return statistics.median(times)
