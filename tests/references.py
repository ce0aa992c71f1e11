"""Convolutions by NumPy loops over the trilinear sum, independent of JAX.

T(x, w, y) = sum over n, i, k, c, o of
    x[n, i * s + k * d - p, c] * w[k, c, o] * y[n, i, o]
"""

import numpy as np


def integers(seed, shape, dtype=np.float32):
  """Small whole numbers, whose products and sums are exact in any order."""
  return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def _terms(fine, coarse, kernel_size, strides, dilation, padding):
  """Yields (fine position, tap, coarse position) of every term inside."""
  for i in np.ndindex(*coarse):
    for k in np.ndindex(*kernel_size):
      at = tuple(a * s + b * d - lo for a, b, s, d, (lo, _) in zip(
          i, k, strides, dilation, padding))
      if all(0 <= f < size for f, size in zip(at, fine)):
        yield at, k, i


def _group_pairs(groups, fine_channels, coarse_channels):
  """Yields (slice of C, slice of O) of each group."""
  c, o = fine_channels // groups, coarse_channels // groups
  for g in range(groups):
    yield slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)


def conv(x, w, geometry):
  """[N, *coarse, O] from x [N, *fine, C] and w [*K, C / groups, O]."""
  y = np.zeros((x.shape[0], *geometry.coarse_size, w.shape[-1]),
               np.result_type(x, w))
  for f, k, i in _terms(*_facts(geometry)):
    for c, o in _group_pairs(
        geometry.feature_group_count, x.shape[-1], w.shape[-1]):
      y[(slice(None), *i, o)] += x[(slice(None), *f, c)] @ w[(*k, ..., o)]
  return y


def conv_transpose(y, w, geometry):
  """[N, *fine, C] from y [N, *coarse, O] and w [*K, C / groups, O]."""
  groups = geometry.feature_group_count
  channels = w.shape[-2] * groups
  x = np.zeros((y.shape[0], *geometry.fine_size, channels),
               np.result_type(y, w))
  for f, k, i in _terms(*_facts(geometry)):
    for c, o in _group_pairs(groups, channels, w.shape[-1]):
      x[(slice(None), *f, c)] += y[(slice(None), *i, o)] @ w[(*k, ..., o)].T
  return x


def conv_kernel_grad(x, y, geometry):
  """[*K, C / groups, O] from x [N, *fine, C] and y [N, *coarse, O]."""
  groups = geometry.feature_group_count
  w = np.zeros((*geometry.kernel_size, x.shape[-1] // groups, y.shape[-1]),
               np.result_type(x, y))
  for f, k, i in _terms(*_facts(geometry)):
    for c, o in _group_pairs(groups, x.shape[-1], y.shape[-1]):
      w[(*k, ..., o)] += x[(slice(None), *f, c)].T @ y[(slice(None), *i, o)]
  return w


def _facts(geometry):
  return (geometry.fine_size, geometry.coarse_size, geometry.kernel_size,
          geometry.strides, geometry.dilation, geometry.padding)
