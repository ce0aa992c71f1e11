"""The translation of `lax.conv_general_dilated` into the three operations.

A convolution of lax has a window stride ws, a base dilation ld, a kernel
dilation rd and a low padding lo. On each spatial axis it multiplies the input
at j with the kernel at k and adds the product to the result at t, where

    j * ld = t * ws + k * rd - lo.

The trilinear sum relates a fine position f, a tap and a coarse position i by

    f = i * stride + tap * dilation - low.

So there are four ways to identify lax's three arrays with x (f), w (tap) and
y (i). Each needs one of lax's numbers to be 1 on every axis:

| role               | needs  | f, tap, i       | stride, dilation, low     |
|---|---|---|---|
| conv               | ld = 1 | j, k, t         | ws, rd, lo                |
| conv_transpose     | ws = 1 | t, K - 1 - k, j | ld, rd, (K - 1) * rd - lo |
| kernel gradient of |        |                 |                           |
| - conv_transpose   | rd = 1 | k, T - 1 - t, j | ld, ws, (T - 1) * ws - lo |
| - conv             | ld = 1 | j, t, k         | rd, ws, lo                |

The last two are gradients with respect to the kernel. Their parameters can be
those of the first two; the sizes decide. A kernel gradient's result, which is a
kernel, is smaller than the array that lax uses as its kernel.

With G groups of features or of the batch, channels are ordered by group first.
lax sums over the channels of each group; for a kernel gradient, these are the
batch.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tconv import geometry as geometry_lib
from tconv import trilinear
from tconv.geometry import Geometry


class NotMappable(ValueError):
  """A convolution is none of the three operations; the message says why."""


@dataclasses.dataclass(frozen=True)
class Mapping:
  """A convolution of lax as one of the operations.

  Attributes:
    role: 'conv', 'conv_transpose', 'kernel gradient of conv_transpose' or
      'kernel gradient of conv'.
    geometry: sizes that relate the operation's arrays.
    shapes: shapes of the two operands, as in `trilinear.contract`.
    operands: function of lax's two operands that returns the operation's two.
    apply: function of lax's two operands that returns lax's result.
  """

  role: str
  geometry: Geometry
  shapes: tuple[tuple[int, ...], tuple[int, ...]]
  operands: Callable[[Any, Any], tuple[jax.Array, jax.Array]]
  apply: Callable[[jax.Array, jax.Array], jax.Array]

  @property
  def operation(self) -> str:
    """Name of the operation, as in `trilinear.contract`."""
    return ('conv_kernel_grad' if self.role.startswith('kernel')
            else self.role)


def read(lhs: Any, rhs: Any, out: Any, params: dict[str, Any], *,
         gradients: bool = True) -> Mapping:
  """Reads the parameters of a `conv_general_dilated` equation.

  Args:
    lhs: abstract value of the input; its shape and dtype are used.
    rhs: abstract value of the kernel.
    out: abstract value of the result.
    params: parameters of the equation.
    gradients: whether a convolution may be a kernel gradient. If not, the first
      two roles are read even where the result is smaller than the kernel.

  Returns:
    The operation and the function that applies it.

  Raises:
    NotMappable: the convolution is none of the operations.
  """
  numbers = params['dimension_numbers']
  k, t = (tuple(a.shape[axis] for axis in spec[2:]) for a, spec in (
      (rhs, numbers.rhs_spec), (out, numbers.out_spec)))
  ws, ld, rd = (params[name] for name in (
      'window_strides', 'lhs_dilation', 'rhs_dilation'))
  low = tuple(lo for lo, _ in params['padding'])
  if len(k) > 3:
    raise NotMappable('more than three spatial axes')
  if not all(jnp.issubdtype(a.dtype, jnp.inexact) and a.dtype.itemsize > 1
             for a in (lhs, rhs, out)):
    raise NotMappable(f'the dtype, {lhs.dtype}')
  shapes = (*lhs.shape, *rhs.shape, *out.shape)
  if not all(isinstance(size, int) for size in shapes):
    raise NotMappable('symbolic sizes')
  if 0 in shapes:
    raise NotMappable('an empty array')

  turned = lambda taps, step: tuple(
      (n - 1) * d - lo for n, d, lo in zip(taps, step, low))
  plain = lambda steps: max(steps, default=1) == 1
  gradient = gradients and math.prod(t) < math.prod(k)
  if not plain(ld):
    if gradients and plain(rd) and (gradient or not plain(ws)):
      return _map('kernel gradient of conv_transpose', lhs, rhs, out, params,
                  ld, ws, turned(t, ws))
    if plain(ws):
      return _map('conv_transpose', lhs, rhs, out, params, ld, rd,
                  turned(k, rd))
    raise NotMappable(
        f'window strides {ws}, base dilation {ld} and kernel dilation {rd} at '
        'once')
  if gradient:
    return _map('kernel gradient of conv', lhs, rhs, out, params, rd, ws, low)
  return _map('conv', lhs, rhs, out, params, ws, rd, low)


def _map(role: str, lhs, rhs, out, params, strides, dilation,
         low) -> Mapping:
  """Identifies lax's arrays with those of an operation."""
  numbers, n = params['dimension_numbers'], len(strides)
  gradient, turned = role.startswith('kernel'), role.endswith('transpose')
  inputs, kernel, result = (
      tuple(a.shape[axis] for axis in spec)
      for a, spec in zip((lhs, rhs, out), numbers))
  feature_groups = params['feature_group_count']
  batch_groups = params['batch_group_count']
  groups = feature_groups * batch_groups
  batch, features, channels = result[0], result[1] // groups, kernel[1]

  def arranged(a, order):
    """Transposes, and merges the last axes so that n + 2 axes remain."""
    a = a.transpose(order)
    return a.reshape(*a.shape[:n + 1], math.prod(a.shape[n + 1:]))

  def image(a):  # x or y: [N, *size, (G, C)], or [C, *size, (G, N)].
    a = a.transpose(numbers.lhs_spec).reshape(
        batch_groups, batch, feature_groups, channels, *inputs[2:])
    size = range(4, n + 4)
    return arranged(
        a, (3, *size, 0, 2, 1) if gradient else (1, *size, 0, 2, 3))

  def taps(a):  # w: [*K, C, (G, O)] or [*K, O, (G, C)]; or [C, *K, (G, O)].
    a = a.transpose(numbers.rhs_spec).reshape(
        groups, features, channels, *kernel[2:])
    size = range(3, n + 3)
    if gradient:
      return arranged(a, (2, *size, 0, 1))
    if turned:
      return lax.rev(arranged(a, (*size, 1, 0, 2)), range(n))
    return arranged(a, (*size, 2, 0, 1))

  def back(a):  # To [N, O, *size], and from there to lax's layout.
    size = tuple(range(n))
    if not gradient:
      a = a.transpose(0, n + 1, *range(1, n + 1))
    elif turned:  # From [*T, O, (G, N)].
      a = lax.rev(a, size).reshape(*result[2:], features, groups, batch)
      a = a.transpose(n + 2, n + 1, n, *size)
    else:  # From [*T, N, (G, O)].
      a = a.transpose(n, n + 1, *size)
    return a.reshape(result).transpose(np.argsort(numbers.out_spec))

  fine, tap, coarse = {
      'conv': (inputs, kernel, result),
      'conv_transpose': (result, kernel, inputs),
      'kernel gradient of conv': (inputs, result, kernel),
      'kernel gradient of conv_transpose': (kernel, result, inputs),
  }[role]
  geometry = _geometry(fine[2:], tap[2:], coarse[2:], strides, dilation, low,
                       groups)
  precision = params['precision']
  swap = gradient and turned  # x comes first.
  if swap and precision is not None:
    precision = tuple(precision)[::-1]
  operands = lambda a, b: (taps(b), image(a)) if swap else (image(a), taps(b))
  apply = lambda a, b: back(trilinear.contract(
      'conv_kernel_grad' if gradient else role, *operands(a, b),
      geometry=geometry, precision=precision, dtype=out.dtype))
  shapes = tuple(a.shape for a in jax.eval_shape(
      operands, *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (lhs, rhs))))
  return Mapping(role, geometry, shapes, operands, apply)


def _geometry(fine_size, kernel_size, coarse_size, strides, dilation, low,
              groups) -> Geometry:
  """Makes a geometry; its sizes and low padding determine the high one."""
  effective = geometry_lib.effective_size(kernel_size, dilation)
  padding = tuple(
      (lo, (c - 1) * s + e - f - lo) for lo, f, c, s, e in zip(
          low, fine_size, coarse_size, strides, effective))
  return Geometry(fine_size, coarse_size, kernel_size, tuple(strides),
                  tuple(dilation), padding, groups)
