"""Random layers, on which the rule of `tconv.dispatch` was not made."""

from collections.abc import Iterator
import math

import numpy as np

from experiments.timing import layers

# A layer must do enough work to be timed, and finish in about 20 ms.
_LEAST, _MOST = 3e5, 4e8  # Multiply-adds.
_LARGEST = 8e6  # Elements of the largest array.


def draw(count: int, seed: int) -> list[layers.Layer]:
  """Draws layers with typical proportions.

  Most have two axes and stride 2; a quarter has groups, of which some are
  depthwise; one in ten has a dilated kernel.

  Args:
    count: number of layers.
    seed: random seed.

  Returns:
    The layers. Their names show their numbers.
  """
  every = _draws(np.random.default_rng(seed))
  return [next(every) for _ in range(count)]


def _draws(rng: np.random.Generator) -> Iterator[layers.Layer]:
  while True:
    axes = int(rng.choice([1, 2, 3], p=[.2, .6, .2]))
    stride = int(rng.choice([1, 2, 3, 4, 8], p=[.1, .6, .1, .15, .05]))
    taps = int(rng.choice([stride, stride + 1, 2 * stride, 2 * stride + 1,
                           3 * stride]))
    dilation = 2 if rng.random() < .1 else 1
    fan_in, fan_out = (int(n) for n in 2**rng.uniform(0, 9.5, 2))
    groups, kind = 1, rng.random()
    if kind < .1:
      groups = fan_in = fan_out = int(2**rng.uniform(3, 9))
    elif kind < .25:
      groups = int(rng.choice([2, 4, 8, 16]))
      fan_in, fan_out = (
          groups * max(1, n // groups) for n in (fan_in, fan_out))
    size = int(2**rng.uniform(2, {1: 13, 2: 7.5, 3: 5}[axes]))
    batch = int(rng.choice([1, 1, 2, 4, 8, 16, 32]))
    padding = max(0, (taps - 1) * dilation + 1 - stride) // 2
    layer = layers.Layer(
        f'{axes}-D {batch}x{size} {fan_in}-{fan_out} k{taps} s{stride}'
        + f' d{dilation}' * (dilation > 1) + f' g{groups}' * (groups > 1),
        'random', batch, (size,) * axes, fan_in, fan_out, taps, stride, padding,
        0, dilation, groups)
    largest = max(map(math.prod, (
        layer.inputs_shape, layer.outputs_shape, layer.kernel_shape)))
    if _LEAST < layer.multiply_adds < _MOST and largest < _LARGEST:
      yield layer
