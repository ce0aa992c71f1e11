"""One dense convolution of stride 1, whose channels are the result's phases.

Fine positions that are equal modulo the stride form a *phase* and use the same
taps: every s-th one. So each phase is a dense convolution of the coarse array.
With the phases as channels, all of them are one dense convolution of stride 1,
followed by an interleaving that costs no arithmetic. This is also known as
sub-pixel convolution or kernel segregation. A dilated kernel is first filled up
with zeros.

Further options of `conv_transpose`:
  dense: module of the form that computes the dense convolution; `overlap_add`
    by default, the platform's own convolution on a GPU.
  split: whether to split the kernel into parts, and to add up their results,
    where filling up the phases would cost more than a fifth of the work.
Options of `conv` and `conv_kernel_grad` are those of `overlap_add`.

References:
  Shi et al., `Is the deconvolution layer the same as a convolutional layer?
  <https://arxiv.org/abs/1609.07009>`_, 2016.
"""

from collections.abc import Iterator
import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from tconv.forms import layout
from tconv.forms import overlap_add
from tconv.forms import vjp
from tconv.geometry import Geometry
from tconv.geometry import Pads


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None,
                   dense: Any = overlap_add,
                   split: bool = False) -> jax.Array:
  """Transposes a convolution: computes all phases at once and interleaves them.

  If the stride does not divide the kernel size, phases have different numbers
  of taps. All of them are then filled up with zeros to the largest number.
  """
  options = {'precision': precision,
             'preferred_element_type': preferred_element_type, 'dense': dense}
  if split and _filling(geometry) > 1.2:
    return functools.reduce(jnp.add, (
        layout.extend(
            conv_transpose(y, kernel[taps], part, **options),
            tuple((-lo, -hi) for lo, hi in added))
        for taps, part, added in _parts(geometry)))
  del options['dense']
  return _weave(
      dense.conv(y, _segregate(kernel, geometry), _dense(geometry), **options),
      geometry)


def conv(x: jax.Array, kernel: jax.Array, geometry: Geometry,
         **options) -> jax.Array:
  """Convolves with stride 1, after making the phases of `x` channels."""
  return overlap_add.conv_transpose(
      _unweave(x, geometry), _segregate(kernel, geometry), _dense(geometry),
      **options)


def conv_kernel_grad(x: jax.Array, y: jax.Array, geometry: Geometry,
                     **options) -> jax.Array:
  """Computes the kernel gradient, with the phases of `x` as channels."""
  segregated = overlap_add.conv_kernel_grad(
      y, _unweave(x, geometry), _dense(geometry), **options)
  channels = x.shape[-1] // geometry.feature_group_count
  return vjp.pull_back(
      functools.partial(_segregate, geometry=geometry),
      (*geometry.kernel_size, channels, y.shape[-1]), segregated)


def _shifts(geometry: Geometry) -> tuple[int, ...]:
  """Number of taps of a phase on each axis, zeros included."""
  return tuple(-(-e // s) for e, s in zip(
      geometry.effective_kernel_size, geometry.strides))


def _phases(geometry: Geometry) -> tuple[int, ...]:
  """Number of phases with taps on each axis."""
  return tuple(map(min, geometry.effective_kernel_size, geometry.strides))


def _filling(geometry: Geometry) -> float:
  """Ratio of the taps of all phases, zeros included, to those of the kernel."""
  return math.prod(m * p / k for m, p, k in zip(
      _shifts(geometry), _phases(geometry), geometry.kernel_size))


def _parts(geometry: Geometry) -> Iterator[
    tuple[tuple[slice, ...], Geometry, Pads]]:
  """Splits a kernel into parts whose phases have equal numbers of taps.

  Args:
    geometry: sizes that relate the two grids, with a kernel that is not
      dilated.

  Yields:
    The taps of a part, its geometry, and the (low, high) numbers of positions
    by which its fine grid is larger.
  """
  pieces = [  # (first tap, number of taps): whole strides, and the rest.
      [(start, size) for start, size in ((0, k - k % s), (k - k % s, k % s))
       if size] for k, s in zip(geometry.kernel_size, geometry.strides)]
  for part in itertools.product(*pieces):
    padding = tuple(
        (lo - start, hi - (k - start - size)) for (lo, hi), k, (start, size)
        in zip(geometry.padding, geometry.kernel_size, part))
    yield (tuple(slice(start, start + size) for start, size in part),
           *dataclasses.replace(
               geometry, kernel_size=tuple(size for _, size in part),
               padding=padding).trimmed())


def _reach(geometry: Geometry) -> tuple[tuple[int, int], ...]:
  """The range of outputs that lie on the fine grid, (first, last + 1) per axis.

  Output q of phase a is fine position q * s + a - low.
  """
  return tuple(
      (lo // s, -(-(lo + f) // s)) for (lo, _), f, s in zip(
          geometry.padding, geometry.fine_size, geometry.strides))


def _dense(geometry: Geometry) -> Geometry:
  """The geometry of the dense convolution from the coarse array to phases."""
  ones = (1,) * geometry.num_axes
  shifts, reach = _shifts(geometry), _reach(geometry)
  return Geometry(
      geometry.coarse_size, tuple(stop - start for start, stop in reach),
      shifts, ones, ones,
      tuple((m - 1 - start, stop - c) for m, (start, stop), c in zip(
          shifts, reach, geometry.coarse_size)), geometry.feature_group_count)


def _segregate(kernel: jax.Array, geometry: Geometry) -> jax.Array:
  """Rearranges [*K, C / groups, O] to [*shifts, O / groups, phases * C].

  Tap m * s + a becomes tap m of phase a.
  """
  n, groups = geometry.num_axes, geometry.feature_group_count
  shifts, phases = _shifts(geometry), _phases(geometry)
  kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [
      *((0, m * p - e, d - 1) for m, p, e, d in zip(
          shifts, phases, geometry.effective_kernel_size, geometry.dilation)),
      (0, 0, 0), (0, 0, 0)])
  kernel = kernel.reshape(
      *(size for pair in zip(shifts, phases) for size in pair),
      *kernel.shape[-2:])
  kernel = kernel.transpose(
      *range(0, 2 * n, 2), *range(1, 2 * n, 2), 2 * n, 2 * n + 1)
  kernel = kernel.reshape(
      *shifts, math.prod(phases) * kernel.shape[-2], kernel.shape[-1])
  return layout.flip(layout.swap_channels(kernel, groups))


def _weave(phases: jax.Array, geometry: Geometry) -> jax.Array:
  """Interleaves [N, *q, (groups, *phases, C / groups)] to [N, *fine, C]."""
  n, groups = geometry.num_axes, geometry.feature_group_count
  batch, *sizes, features = phases.shape
  written = _phases(geometry)
  phases = phases.reshape(
      batch, *sizes, groups, *written, features // groups // math.prod(written))
  if written != geometry.strides:  # Phases without taps are zero.
    phases = lax.pad(phases, jnp.zeros((), phases.dtype), [
        *((0, 0, 0),) * (n + 2),
        *((0, s - p, 0) for s, p in zip(geometry.strides, written)),
        (0, 0, 0)])
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
  """Undoes `_weave`; gives zeros where `_weave` crops."""
  sizes = (stop - start for start, stop in _reach(geometry))
  return vjp.pull_back(
      functools.partial(_weave, geometry=geometry),
      (x.shape[0], *sizes, x.shape[-1] * math.prod(_phases(geometry))), x)
