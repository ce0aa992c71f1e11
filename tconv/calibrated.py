"""The kernel with equal phases whose outputs differ least, for given inputs.

The nearest kernel with equal phases is not the one with the nearest outputs:
neighboring inputs are similar, so that some changes of the taps hardly show.
Let W_a [T_a O, C] be the taps of phase a, f the input values that they are
multiplied with, and A_a = E f f^T an average over inputs. V_a = [I ... I] adds
up the taps. This module minimizes the mean square of the change of the output::

    sum_a tr (W'_a - W_a)^T A_a (W'_a - W_a)  with  V_a W'_a = g for all a.

With B_a = V_a A_a^-1 V_a^T, the solution is::

    g = (sum_a B_a^-1)^-1 sum_a B_a^-1 V_a W_a
    W'_a = W_a - A_a^-1 V_a^T B_a^-1 (V_a W_a - g).

A bias that differs by phase, that of a sub-pixel convolution, is one more row
of W_a. Its input is the constant 1, and V_a does not add it to the taps.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp
import numpy as np

from tconv import arrays
from tconv import geometry

# Of the mean eigenvalue of A_a, added to all eigenvalues.
_LEAST_RIDGE = 1e-6
_ELEMENTS = 2**22  # Of the windows that are multiplied at a time.


def equalize(kernel: jax.Array, strides: int | Sequence[int],
             inputs: jax.Array | Sequence[jax.Array | np.ndarray], *,
             kernel_dilation: int | Sequence[int] = 1,
             feature_group_count: int = 1,
             bias: jax.typing.ArrayLike | None = None
             ) -> tuple[jax.Array, np.ndarray | None]:
  """Finds the kernel with equal phases whose outputs differ least.

  The computation is in float64, so gains are equal up to the rounding of the
  result.

  Args:
    kernel: [*K, C / groups, O] floating array with taps on every phase.
    strides: one int or one for each axis.
    inputs: [N, *coarse, O] array, or several, whose sizes may differ.
    kernel_dilation: one int or one for each axis.
    feature_group_count: number of groups of channels.
    bias: [*strides, C] array of a bias that differs by phase.

  Returns:
    Array like `kernel`, and the [C] float64 bias that is equal for all phases,
    or None.

  Raises:
    ValueError: an argument is invalid.
  """
  n = kernel.ndim - 2
  strides = geometry.per_axis('strides', strides, n, 1)
  dilation = geometry.per_axis('kernel_dilation', kernel_dilation, n, 1)
  [groups] = geometry.per_axis('feature_group_count', feature_group_count, 1, 1)
  several = inputs if isinstance(inputs, (list, tuple)) else [inputs]
  values = [_values(kernel, each, groups) for each in several]
  if bias is not None:
    bias = np.asarray(bias, np.float64)
  found, bias = _equalize(np.asarray(kernel, np.float64), strides, dilation,
                          groups, values, bias)
  return jax.device_put(
      jnp.asarray(found, kernel.dtype), kernel.sharding), bias


def _values(kernel: jax.Array, inputs, groups: int) -> np.ndarray:
  """Checks the inputs, and reads their values."""
  if any(isinstance(x, jax.core.Tracer) for x in (kernel, inputs)):
    raise ValueError(
        'inputs must be None where JAX traces a function, as in jax.jit or '
        'jax.grad: with them, equalize_phases needs the values of its arrays.')
  coarse = kernel.shape[-1]
  if coarse % groups:
    raise ValueError(
        f"feature_group_count must divide the kernel's {coarse} input "
        f'channels; got {groups}.')
  values = np.asarray(arrays.read(
      'inputs', inputs, [kernel.ndim], '[N, *coarse, O]'))
  if values.shape[-1] != coarse or not values.size:
    raise ValueError(
        f'inputs must be a [N, *coarse, O] array that is not empty, with O = '
        f'{coarse} channels as in the kernel; got shape {values.shape}.')
  if not np.isfinite(values).all():
    raise ValueError('inputs must be finite; got inf or nan.')
  return values


def _equalize(kernel, strides, dilation, groups, inputs, bias):
  *kernel_size, fine, coarse = kernel.shape
  channels = coarse // groups
  position = [np.arange(k) * d for k, d in zip(kernel_size, dilation)]
  # Tap p contributes to output s m + p % s, from input m - p // s.
  lags = [p // s for p, s in zip(position, strides)]
  used = [np.unique(lag) for lag in lags]
  phase = _number([p % s for p, s in zip(position, strides)], strides)
  place = _number([np.searchsorted(u, lag) for u, lag in zip(used, lags)],
                  [len(u) for u in used])
  moments = _moments(inputs, used, groups, bias is not None)

  taps = kernel.reshape(-1, fine, groups, channels).transpose(2, 0, 3, 1)

  def system(number):
    """W_a [groups, R_a, C / groups], A_a and V_a of a phase."""
    own = phase == number
    weights = taps[:, own].reshape(groups, -1, fine)
    rows = (place[own][:, None] * channels + np.arange(channels)).ravel()
    sums = np.tile(np.eye(channels), own.sum())
    if bias is not None:
      constant = bias.reshape(-1, groups, 1, fine)[number]
      weights = np.concatenate([weights, constant], 1)
      rows = np.append(rows, moments.shape[-1] - 1)
      sums = np.block([[sums, np.zeros((channels, 1))],
                       [np.zeros((1, sums.shape[1])), np.ones((1, 1))]])
    return weights, moments[:, rows[:, None], rows], sums

  found = _solve(system(number) for number in range(np.prod(strides)))
  result = np.empty_like(taps)
  for number, weights in enumerate(found):
    own = phase == number
    if bias is not None:
      weights, bias = weights[:, :-1], weights[:, -1].ravel()
    result[:, own] = weights.reshape(groups, -1, channels, fine)
  return result.transpose(1, 3, 0, 2).reshape(kernel.shape), bias


def _number(indices, size) -> np.ndarray:
  """[T] numbers of the taps' cells in a grid, from indices on each axis."""
  return np.ravel_multi_index(
      np.meshgrid(*indices, indexing='ij'), size).ravel()


def _solve(systems) -> list[np.ndarray]:
  """The nearest weights W'_a [groups, R_a, C] with equal sums, by phase."""
  found = []
  for weights, moments, sums in systems:
    effect = np.linalg.solve(moments, sums.T[None])  # A^-1 V^T
    stiffness = np.linalg.inv(sums @ effect)  # B^-1
    found.append((weights, effect, stiffness, sums @ weights))
  gain = np.linalg.solve(
      sum(stiffness for _, _, stiffness, _ in found),
      sum(stiffness @ total for _, _, stiffness, total in found))
  return [weights - effect @ (stiffness @ (total - gain))
          for weights, effect, stiffness, total in found]


def _moments(inputs: Sequence[np.ndarray], lags: list[np.ndarray], groups: int,
             constant: bool) -> np.ndarray:
  """[groups, n, n] means of products of the values in a window, with a ridge.

  The n values are the O / groups channels of the inputs at each lag, and the
  constant 1 if there is one.
  """
  reach = [lag[-1] - lag[0] + 1 for lag in lags]
  picked = np.ix_(*(lag[-1] - lag for lag in lags))
  total, count = np.zeros(()), 0
  for images in inputs:
    if any(size < r for size, r in zip(images.shape[1:], reach)):
      raise ValueError(
          f'inputs must have a size of at least {tuple(map(int, reach))}, the '
          f"kernel's reach; got shape {images.shape}.")
    for windows in _parts(images, reach):
      values = windows[(..., *picked)].astype(np.float64)
      channels = values.shape[len(lags)]
      values = values.reshape(math.prod(values.shape[:len(lags)]), groups,
                              channels // groups, -1)
      values = values.transpose(1, 0, 3, 2).reshape(groups, len(values), -1)
      if constant:
        values = np.concatenate(
            [values, np.ones((*values.shape[:2], 1))], -1)
      total = total + values.transpose(0, 2, 1) @ values
      count += values.shape[1]
  moments = total / count
  # The fewer windows, the less is known of directions in which they vary
  # little, so the more the change of the kernel itself counts, too.
  size = moments.shape[-1]
  mean = np.trace(moments, axis1=1, axis2=2) / size
  ridge = np.where(mean > 0, max(_LEAST_RIDGE, size / count) * mean, 1)
  return moments + ridge[:, None, None] * np.eye(size)


def _parts(images: np.ndarray, reach: list[int]) -> Iterator[np.ndarray]:
  """Yields all [*m, O, *reach] windows of images, some at a time."""
  axes = tuple(range(1, images.ndim - 1))
  for windows in np.lib.stride_tricks.sliding_window_view(images, reach, axes):
    parts = -(-windows.size // _ELEMENTS)
    yield from np.array_split(windows, min(parts, len(windows)))
