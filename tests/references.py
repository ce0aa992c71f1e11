"""Convolutions by NumPy loops over the trilinear sum, independent of JAX.

T(x, w, y) = sum over n, i, k, c, o of
    x[n, i * s + k * d - p, c] * w[k, c, o] * y[n, i, o]
"""

import numpy as np


def integers(seed, shape, dtype=np.float32):
  """Small whole numbers, whose products and sums are exact in any order."""
  return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def _terms(x, w, y, geometry):
  """Yields views x [N, C], w [C, O], y [N, O] of each group and product."""
  g = geometry
  groups = g.feature_group_count
  fine, coarse = x.shape[-1] // groups, y.shape[-1] // groups
  for i in np.ndindex(*g.coarse_size):
    for k in np.ndindex(*g.kernel_size):
      at = tuple(a * s + b * d - lo for a, b, s, d, (lo, _) in zip(
          i, k, g.strides, g.dilation, g.padding))
      if all(0 <= f < size for f, size in zip(at, g.fine_size)):
        for group in range(groups):
          c = slice(group * fine, (group + 1) * fine)
          o = slice(group * coarse, (group + 1) * coarse)
          yield (x[(slice(None), *at, c)], w[(*k, slice(None), o)],
                 y[(slice(None), *i, o)])


def conv(x, w, geometry):
  """[N, *coarse, O] from x [N, *fine, C] and w [*K, C / groups, O]."""
  y = np.zeros((x.shape[0], *geometry.coarse_size, w.shape[-1]),
               np.result_type(x, w))
  for a, b, c in _terms(x, w, y, geometry):
    c += a @ b
  return y


def conv_transpose(y, w, geometry):
  """[N, *fine, C] from y [N, *coarse, O] and w [*K, C / groups, O]."""
  channels = w.shape[-2] * geometry.feature_group_count
  x = np.zeros((y.shape[0], *geometry.fine_size, channels),
               np.result_type(y, w))
  for a, b, c in _terms(x, w, y, geometry):
    a += c @ b.T
  return x


def conv_kernel_grad(x, y, geometry):
  """[*K, C / groups, O] from x [N, *fine, C] and y [N, *coarse, O]."""
  channels = x.shape[-1] // geometry.feature_group_count
  w = np.zeros((*geometry.kernel_size, channels, y.shape[-1]),
               np.result_type(x, y))
  for a, b, c in _terms(x, w, y, geometry):
    b += a.T @ c
  return w
