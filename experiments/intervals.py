"""Means with intervals, from few images and few trainings."""

from typing import NamedTuple

import jax
import numpy as np

_SAMPLES = 10_000


class Interval(NamedTuple):
  """A mean, and the interval that should hold it."""
  mean: float
  low: float
  high: float


def bootstrap(values: jax.typing.ArrayLike) -> Interval:
  """The mean over seeds and images, with its 95 % bootstrap interval.

  Each sample draws seeds and, for all of them, images, with replacement: every
  seed is measured on the same images. With one seed, the interval tells of the
  images only; with three images it is a rough one, and too narrow. The draws
  are always the same.

  Args:
    values: [seeds, images] array of a measure.

  Returns:
    The mean, and the quantiles of the samples' means.

  References:
    Owen, `The pigeonhole bootstrap <https://arxiv.org/abs/0712.1111>`_, 2007.
  """
  values = np.asarray(values, float)
  draw = np.random.default_rng(0)
  seeds, images = values.shape
  chosen = draw.integers(seeds, size=(_SAMPLES, seeds, 1))
  shown = draw.integers(images, size=(_SAMPLES, 1, images))
  means = values[chosen, shown].mean((1, 2))
  low, high = np.quantile(means, [.025, .975])
  return Interval(float(values.mean()), float(low), float(high))
