"""Rounding of a kernel to 16 bits that keeps its phase gains equal.

Rounding tap by tap to float16 or bfloat16 changes the sum of each phase
differently, which brings a grid back. Here the smallest tap of each phase
compensates for the rounding of the others, so that the sums are exactly equal.
The smallest tap has the finest spacing of representable values, so its own
rounding error is the smallest.
"""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np


def round_equal(taps: jax.Array, gain: jax.Array, phase: np.ndarray,
                dtype: jax.typing.DTypeLike) -> jax.Array:
  """Rounds taps to a dtype such that all phases have the same sum.

  Args:
    taps: [T, C, O] float32 array. Its sum over each phase is `gain`.
    gain: [1, 1, C, O] float32 array.
    phase: [T] ints, the phase of each tap. Every phase from 0 to P - 1 occurs.
    dtype: floating dtype of at most 16 bits.

  Returns:
    [T, C, O] array of `dtype`. For each pair of channels all phases have
    exactly the same sum, if none has more than 64 taps. The derivative is that
    of the identity, as if nothing were rounded.
  """
  info = jnp.finfo(dtype)

  def unit(x):  # The unit in the last place of x; never 0.
    _, exponent = jnp.frexp(x)
    last = jnp.ldexp(jnp.ones_like(x), exponent - 1 - info.nmant)
    return jnp.maximum(jnp.where(x == 0, 0, last), least)

  least = float(max(info.smallest_subnormal, np.finfo(np.float32).tiny))
  order = np.argsort(phase, kind='stable')
  counts = np.bincount(phase)
  most = int(counts.max())
  # [P, n] positions in `order`; phases with fewer taps are filled with zeros.
  place = np.cumsum(counts) - counts
  place = place[:, None] + np.arange(most)
  own = np.arange(most) < counts[:, None]
  exact = lax.stop_gradient(taps)[order[np.where(own, place, 0)]]
  own = own[..., None, None]
  exact = jnp.where(own, exact, 0)  # [P, n, C, O]

  size = jnp.where(own, jnp.abs(exact), jnp.inf)
  smallest = (np.arange(most)[None, :, None, None]
              == jnp.argmin(size, 1, keepdims=True))
  # The largest value that the smallest tap may become, and its unit there.
  reach = jnp.where(smallest, jnp.abs(exact), unit(exact))
  reach = jnp.where(own, reach, 0).sum(1, keepdims=True)
  finest = unit(reach + most * unit(reach)).max(0, keepdims=True)
  steps = jnp.maximum(unit(exact), finest)
  rounded = jnp.where(smallest, 0, jnp.round(exact / steps) * steps)
  total = jnp.round(lax.stop_gradient(gain) / finest) * finest
  rest = total - rounded.sum(1, keepdims=True)
  rounded = jnp.where(smallest, rest, rounded)

  flat = np.flatnonzero(own)  # The place of each tap, in `order`.
  rounded = rounded.reshape(-1, *taps.shape[1:])[flat[np.argsort(order)]]
  # The difference is zero, but carries the derivative.
  return (rounded + (taps - lax.stop_gradient(taps))).astype(dtype)
