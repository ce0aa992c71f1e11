"""Means with intervals, from few images and few trainings."""

from typing import NamedTuple

import jax
import numpy as np


class Interval(NamedTuple):
  """A mean, and the interval that should hold it."""
  mean: float
  low: float
  high: float


def bootstrap(values: jax.typing.ArrayLike, *, level: float = .95,
              num_samples: int = 10_000) -> Interval:
  """The mean over seeds and images, with its bootstrap interval.

  Seeds are clusters: each sample draws seeds, and then images for each of them,
  with replacement. With one seed, the interval tells of the images only; with
  three images it is a rough one. The draws are always the same.

  Args:
    values: [seeds, images] array of a measure.
    level: chance of an interval to hold the mean.
    num_samples: number of samples.

  Returns:
    The mean, and the quantiles of the samples' means.

  References:
    Efron and Tibshirani, *An introduction to the bootstrap*, 1993, chapter 8.
  """
  values = np.asarray(values, float)
  draw = np.random.default_rng(0)
  seeds, images = values.shape
  chosen = draw.integers(seeds, size=(num_samples, seeds, 1))
  shown = draw.integers(images, size=(num_samples, seeds, images))
  means = values[chosen, shown].mean((1, 2))
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
  return Interval(float(values.mean()), float(low), float(high))
