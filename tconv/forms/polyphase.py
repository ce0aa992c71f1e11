"""The phases of the fine grid stand side by side as channels: stride 1.

Fine positions that agree modulo the stride meet the same taps. Each such phase
is a dense convolution of the coarse array with every s-th tap. With the phases
as channels, all of them are one convolution with stride 1, and an interleaving
that costs no arithmetic. Also known as sub-pixel convolution or kernel
segregation. A dilated kernel is written out first.

References:
  Shi et al., `Is the deconvolution layer the same as a convolutional layer?
  <https://arxiv.org/abs/1609.07009>`_, 2016.
"""

import functools
import math

import jax
from jax import lax
import jax.numpy as jnp

from tconv.forms import layout
from tconv.forms import overlap_add
from tconv.forms import vjp
from tconv.geometry import Geometry


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution: all phases by one dense convolution, then woven.

  Args:
    y: [N, *coarse, O] array.
    kernel: [*K, C / groups, O] kernel of the forward convolution.
    geometry: sizes that relate the two grids.
    precision: as in `jax.lax.dot_general`.
    preferred_element_type: dtype to accumulate in and to return.

  Returns:
    [N, *fine, C] array.
  """
  return _weave(
      overlap_add.conv(
          y, _segregate(kernel, geometry), _dense(geometry),
          precision=precision, preferred_element_type=preferred_element_type),
      geometry)


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry, *,
         precision=None, preferred_element_type=None) -> jax.Array:
  """Convolves: the phases of `x` as channels, then stride 1.

  Args:
    x: [N, *fine, C] array.
    kernel: [*K, C / groups, O] kernel.
    geometry: sizes that relate the two grids.
    precision: as in `conv_transpose`.
    preferred_element_type: as in `conv_transpose`.

  Returns:
    [N, *coarse, O] array.
  """
  return overlap_add.conv_transpose(
      _unweave(x, geometry), _segregate(kernel, geometry), _dense(geometry),
      precision=precision, preferred_element_type=preferred_element_type)


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry, *,
                     precision=None, preferred_element_type=None) -> jax.Array:
  """Gives the kernel, phase by phase.

  Args:
    x: [N, *fine, C] array.
    y: [N, *coarse, O] array.
    geometry: sizes that relate the two grids.
    precision: as in `conv_transpose`.
    preferred_element_type: as in `conv_transpose`.

  Returns:
    [*K, C / groups, O] array.
  """
  segregated = overlap_add.conv_kernel_grad(
      y, _unweave(x, geometry), _dense(geometry), precision=precision,
      preferred_element_type=preferred_element_type)
  channels = x.shape[-1] // geometry.feature_group_count
  return vjp.pull_back(
      functools.partial(_segregate, geometry=geometry),
      (*geometry.kernel_size, channels, y.shape[-1]), segregated)


def _shifts(geometry: Geometry) -> tuple[int, ...]:
  """Taps of a phase on each axis."""
  return tuple(-(-e // s) for e, s in zip(
      geometry.effective_kernel_size, geometry.strides))


def _reach(geometry: Geometry) -> tuple[tuple[int, int], ...]:
  """The outputs of a phase that reach the fine grid, first and past the last.

  Output q of phase a is the fine position q * s + a - low.
  """
  return tuple(
      (lo // s, -(-(lo + f) // s)) for (lo, _), f, s in zip(
          geometry.padding, geometry.fine_size, geometry.strides))


def _dense(geometry: Geometry) -> Geometry:
  """The convolution from the coarse array to its phases."""
  ones = (1,) * geometry.num_axes
  shifts, reach = _shifts(geometry), _reach(geometry)
  return Geometry(
      geometry.coarse_size, tuple(stop - start for start, stop in reach),
      shifts, ones, ones,
      tuple((m - 1 - start, stop - c) for m, (start, stop), c in zip(
          shifts, reach, geometry.coarse_size)), geometry.feature_group_count)


def _segregate(kernel: jax.Array, geometry: Geometry) -> jax.Array:
  """Writes [*K, C / groups, O] as [*shifts, O / groups, phases * C].

  Tap m * s + a becomes tap m of phase a.
  """
  n, groups = geometry.num_axes, geometry.feature_group_count
  shifts = _shifts(geometry)
  kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [
      *((0, m * s - e, d - 1) for m, s, e, d in zip(
          shifts, geometry.strides, geometry.effective_kernel_size,
          geometry.dilation)),
      (0, 0, 0), (0, 0, 0)])
  kernel = kernel.reshape(
      *(size for pair in zip(shifts, geometry.strides) for size in pair),
      *kernel.shape[-2:])
  kernel = kernel.transpose(
      *range(0, 2 * n, 2), *range(1, 2 * n, 2), 2 * n, 2 * n + 1)
  kernel = kernel.reshape(
      *shifts, math.prod(geometry.strides) * kernel.shape[-2],
      kernel.shape[-1])
  return layout.flip(layout.swap_channels(kernel, groups))


def _weave(phases: jax.Array, geometry: Geometry) -> jax.Array:
  """[N, *q, (groups, *phases, C / groups)] -> [N, *fine, C]."""
  n, groups = geometry.num_axes, geometry.feature_group_count
  batch, *sizes, features = phases.shape
  phases = phases.reshape(
      batch, *sizes, groups, *geometry.strides,
      features // groups // math.prod(geometry.strides))
  woven = phases.transpose(
      0, *(axis for i in range(n) for axis in (1 + i, n + 2 + i)),
      n + 1, 2 * n + 2)
  woven = woven.reshape(
      batch, *(q * s for q, s in zip(sizes, geometry.strides)),
      groups * phases.shape[-1])
  starts = tuple(lo - start * s for (lo, _), (start, _), s in zip(
      geometry.padding, _reach(geometry), geometry.strides))
  return lax.slice(
      woven, (0, *starts, 0),
      (batch, *(start + f for start, f in zip(starts, geometry.fine_size)),
       woven.shape[-1]))


def _unweave(x: jax.Array, geometry: Geometry) -> jax.Array:
  """Undoes `_weave`; zero where that crops."""
  sizes = (stop - start for start, stop in _reach(geometry))
  return vjp.pull_back(
      functools.partial(_weave, geometry=geometry),
      (x.shape[0], *sizes, x.shape[-1] * math.prod(geometry.strides)), x)
