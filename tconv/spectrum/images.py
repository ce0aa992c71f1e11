"""Reading of images, and arithmetic, for the measures of this package."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tconv import arrays
from tconv import geometry

Size = geometry.Size


def read(name: str, x: jax.typing.ArrayLike) -> jax.Array:
  """Reads [N, *size, C] images with one to three spatial axes."""
  x = arrays.read(name, x, (3, 4, 5), '[N, *size, C]')
  if x.dtype not in (jnp.float32, jnp.float64):
    raise ValueError(f'{name} must be float32 or float64; got {x.dtype}.')
  return x


def read_pair(x: jax.typing.ArrayLike,
              y: jax.typing.ArrayLike) -> tuple[jax.Array, jax.Array]:
  """Reads images and their reference, of the same shape and dtype."""
  x, y = read('x', x), read('y', y)
  if (x.shape, x.dtype) != (y.shape, y.dtype):
    raise ValueError(
        f'x and y must have one shape and dtype; got {x.dtype}{x.shape} and '
        f'{y.dtype}{y.shape}.')
  return x, y


def read_grid(
    x: jax.typing.ArrayLike, period: int | Sequence[int],
    exclude: int | Sequence[int] = 1) -> tuple[jax.Array, Size, Size]:
  """Reads the arguments of all measures that use the grid bins.

  Args:
    x: [N, *size, C] images.
    period: period of the pattern in pixels, one int or one for each axis.
    exclude: divisor of `period`, one int or one for each axis.

  Returns:
    The images, cropped at the end of each axis to a multiple of the period;
    period and exclude for each axis.

  Raises:
    ValueError: dtype other than float32 or float64, period below 2 on all axes,
      `exclude` that does not divide the period or equals it, or image smaller
      than 4 periods.
  """
  x = read('x', x)
  arrays.check_batch('x', x, 'period', period)
  size, n = x.shape[1:-1], x.ndim - 2
  periods = geometry.per_axis('period', period, n, 1)
  if max(periods) < 2:
    raise ValueError(f'period must be at least 2; got {period!r}.')
  excluded = geometry.per_axis('exclude', exclude, n, 1)
  if any(p % e for p, e in zip(periods, excluded)) or periods == excluded:
    raise ValueError(
        'exclude must divide period and be smaller; got exclude '
        f'{exclude!r} with period {period!r}.')
  if any(s < 4 * p for s, p in zip(size, periods)):
    raise ValueError(
        f'x must measure at least 4 periods of {periods} on each axis; got '
        f'size {size}.')
  kept = tuple(slice(s - s % p) for s, p in zip(size, periods))
  return x[(slice(None), *kept)], periods, excluded


def squarable(x: jax.Array, *axes: int) -> tuple[jax.Array, jax.Array]:
  """Scales images down where the sums of their squares might overflow.

  Args:
    x: images.
    *axes: axes that share a scale.

  Returns:
    The images, scaled to magnitudes below 2 where they were larger; and the
    divisor, with axes of length 1. It is a power of 2, so nothing is rounded.
  """
  largest = jnp.abs(jax.lax.stop_gradient(x)).max(
      axes, keepdims=True, initial=1)
  scale = jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1] - 1)
  return x / scale, scale


def root(x: jax.Array) -> jax.Array:
  """Square root with gradient zero, instead of infinity, at zero."""
  zero = x == 0
  return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


def hann(length: int) -> np.ndarray:
  """[length] periodic Hann window."""
  return .5 - .5 * np.cos(2 * np.pi * np.arange(length) / length)
