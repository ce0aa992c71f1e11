"""Rounding a kernel to few bits so that its phase gains stay equal.

Tap by tap, float16 and bfloat16 round the taps of each phase to another sum, up
to half a unit in the last place of each tap, and a grid comes back. Here one
tap of each phase, the smallest, makes up for what the others were rounded by,
so that the sums are exactly equal. Its rounding is as fine as can be: the
smaller a tap, the finer the values that it can take.
"""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np


def round_equal(taps: jax.Array, gain: jax.Array, phase: np.ndarray,
                dtype: jax.typing.DTypeLike) -> jax.Array:
  """Rounds taps to a dtype such that those of each phase have the same sum.

  Args:
    taps: [T, C, O] array in float32, whose sums over each phase are `gain`.
    gain: [1, 1, C, O] array in float32.
    phase: [T] ints from 0 to P - 1: the phase of each tap. None is left out.
    dtype: a floating dtype of at most 16 bits.

  Returns:
    [T, C, O] array of `dtype`. All phases of a pair of channels have the same
    sum, exactly, if there are at most 64 taps in each. The derivative is that
    of `taps`, as if nothing were rounded.
  """
  info = jnp.finfo(dtype)

  def unit(x):  # In the last place of x, and never 0.
    _, exponent = jnp.frexp(x)
    last = jnp.ldexp(jnp.ones_like(x), exponent - 1 - info.nmant)
    return jnp.maximum(jnp.where(x == 0, 0, last), least)

  least = float(max(info.smallest_subnormal, np.finfo(np.float32).tiny))
  order = np.argsort(phase, kind='stable')
  counts = np.bincount(phase)
  most = int(counts.max())
  # [P, n] positions in `order`; a phase of fewer taps is filled up with zeros.
  place = np.cumsum(counts) - counts
  place = place[:, None] + np.arange(most)
  own = np.arange(most) < counts[:, None]
  exact = lax.stop_gradient(taps)[order[np.where(own, place, 0)]]
  own = own[..., None, None]
  exact = jnp.where(own, exact, 0)  # [P, n, C, O]

  size = jnp.where(own, jnp.abs(exact), jnp.inf)
  smallest = (np.arange(most)[None, :, None, None]
              == jnp.argmin(size, 1, keepdims=True))
  # What the smallest tap may become, and the unit that it then needs.
  reach = jnp.where(smallest, jnp.abs(exact), unit(exact))
  reach = jnp.where(own, reach, 0).sum(1, keepdims=True)
  finest = unit(reach + most * unit(reach)).max(0, keepdims=True)
  steps = jnp.maximum(unit(exact), finest)
  rounded = jnp.where(smallest, 0, jnp.round(exact / steps) * steps)
  total = jnp.round(lax.stop_gradient(gain) / finest) * finest
  rest = total - rounded.sum(1, keepdims=True)
  rounded = jnp.where(smallest, rest, rounded)

  flat = np.flatnonzero(own)  # Where each tap, in `order`, stands.
  rounded = rounded.reshape(-1, *taps.shape[1:])[flat[np.argsort(order)]]
  # The difference is zero, and has the derivative.
  return (rounded + (taps - lax.stop_gradient(taps))).astype(dtype)
