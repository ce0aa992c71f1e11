"""Patterns and lines in the output of a model."""

from collections.abc import Iterable
from collections.abc import Sequence
import fractions
import math

import jax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv.audit import metrics
from tconv.audit import patterns

_CHANCE = .01  # p-value below which lines are not due to chance.
# How far lines fall, at least, when a layer that paints them is made clean. Of
# four layers with equal parts, each takes 1.2 dB away.
_FALL_DB = 1
# Compiled once for each size and period.
_LEVEL = jax.jit(tconv.grid_level, static_argnums=1)
_TEST = jax.jit(tconv.grid_test, static_argnums=1)


def period_of(strides, size, final) -> tuple[int, ...] | None:
  """The period in the output of a pattern whose period is a layer's strides.

  Whatever follows the layer enlarges or shrinks it as it does the whole image,
  but for the borders.
  """
  if len(size) != len(final):
    return None
  period = []
  for s, n, out in zip(strides, size, final):
    ratio = fractions.Fraction(
        max(1, round(out / n))) if out >= n else fractions.Fraction(
            1, max(1, round(n / out)))
    if s > 1 and (s * ratio < 2 or (s * ratio).denominator > 1):
      return None
    period.append(int(s * ratio) if s > 1 else 1)
  return tuple(period) if max(period) > 1 else None


def common_period(periods: Iterable[tuple[int, ...] | None]
                  ) -> tuple[int, ...] | None:
  """The least common period on each axis, of those that are not None."""
  periods = list(filter(None, periods))
  if not periods:
    return None
  return tuple(math.lcm(*axis) for axis in zip(*periods, strict=True))


def white_of(outputs) -> float:
  """The value of white: 1, 2 from -1 to 1, 255, or the range that occurs."""
  if not outputs:
    return 1.
  low = min(float(x.min()) for x in outputs)
  high = max(float(x.max()) for x in outputs)
  if -.5 <= low and high <= 1.5:
    return 1.
  if -1.5 <= low < -.5 and high <= 1.5:
    return 2.
  if -128 <= low and 128 < high <= 383:
    return 255.
  return (high - low) or 1.


def fits(final, period) -> bool:
  """Whether an output has this many axes, and at least 4 periods on each."""
  return (final is not None and period is not None
          and final.ndim == len(period) + 2
          and all(n >= 4 * p for n, p in zip(final.shape[1:], period)))


def power(final: np.ndarray | None, period: Sequence[int] | None) -> float:
  """The mean square of the pattern in a [N, *size, C] output; 0 without one."""
  if final is None or period is None or not fits(final, period):
    return 0.
  return float((patterns.rms(patterns.measured(final, period))**2).mean())


def levels(final: np.ndarray, period: Sequence[int] | None,
                   white: float) -> float:
  """The rms of the pattern in an output, in 8-bit levels.

  Args:
    final: [N, *size, C] output.
    period: one int for each axis, or None.
    white: value of white.

  Returns:
    The rms; 0 without a period.
  """
  return metrics.LEVELS / white * math.sqrt(power(final, period))


def lines(final, reference, period, white, without=None
           ) -> list[tuple[float, bool]]:
  """How far an output's lines stand out above those of the input's.

  Args:
    final: [N, *size, C] output.
    reference: [*size, C] input.
    period: one int for each axis.
    white: value of white in the output.
    without: output of the model without the pattern of one layer, or None.

  Returns:
    The level in dB, and whether the lines are neither due to chance nor there
    without the layer's pattern; nothing if they cannot be measured.
  """
  if not fits(final, period) or final.shape[-1] not in (1, 3):
    return []
  grey = lambda x: jnp.asarray(x[:1].mean(-1, keepdims=True), jnp.float32)
  level = lambda x: float(_LEVEL(x, period)[0, 0])
  image = grey(final / white)
  like = jax.image.resize(grey(reference[None]), image.shape, 'bicubic')
  above = level(image) - max(0., level(like))
  is_own = float(_TEST(image, period)[0, 0]) < _CHANCE and (
      without is None or level(image) - level(grey(without / white)) > _FALL_DB)
  return [(above, is_own)]
