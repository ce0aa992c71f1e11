"""Where elements go when a program reshapes and transposes an array.

A *view* is an array that holds the elements of another one, its source, in
another arrangement. Each axis of it runs over *factors*: parts of the axes of
the source. Reshaping splits factors and joins axes; transposing permutes axes.
So a pixel shuffle is recognized by what it does, in whatever steps and in
whatever order of the channels:

    source  [N, H, W, 2 * 2 * C]
    reshape [N, H, W, 2, 2, C], transpose [N, H, 2, W, 2, C]
    reshape [N, H * 2, W * 2, C]: an axis runs over H, then part of the channels
"""

from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import numpy as np


class Factor(NamedTuple):
  """A part of an axis of the source: positions 0, stride, ... of `size`."""
  axis: int
  stride: int
  size: int


Axis = tuple[Factor, ...]  # The first factor is the slowest.
Axes = tuple[Axis, ...]


class Shuffle(NamedTuple):
  """A view that moves channels into blocks of the spatial grid.

  Attributes:
    batch: factors of the batch.
    coarse: factors of each spatial axis of the source.
    block: channels that are moved into each spatial axis.
    channels: the other channels.
  """
  batch: Axis
  coarse: Axes
  block: Axes
  channels: Axis

  @property
  def scale(self) -> tuple[int, ...]:
    return tuple(map(_size, self.block))

  @property
  def fine(self) -> Axes:
    """Factors of each axis of the result, [N, *fine, C]."""
    return (self.batch, *(c + b for c, b in zip(self.coarse, self.block)),
            self.channels)


def whole(shape: Sequence[int]) -> Axes:
  """The view that is the source itself."""
  return tuple((Factor(axis, 1, size),) if size > 1 else ()
               for axis, size in enumerate(shape))


def moved(axes: Axes, eqn: Any) -> Axes | None:
  """The view that an equation makes of another one.

  Args:
    axes: view that is the first operand of the equation.
    eqn: an equation.

  Returns:
    The view; None if the equation does more than to rearrange.
  """
  shape = eqn.outvars[0].aval.shape
  match eqn.primitive.name:
    case 'transpose':
      return tuple(axes[axis] for axis in eqn.params['permutation'])
    case 'reshape' if eqn.params['dimensions'] is None:
      return _reshaped(axes, shape)
    case 'squeeze' | 'expand_dims':
      return _reshaped(axes, shape)
    case 'broadcast_in_dim' if math.prod(shape) == math.prod(map(_size, axes)):
      return _reshaped(axes, shape)
    case 'convert_element_type' | 'copy' | 'copy_p' | 'name':
      return axes
  return None


def shuffle(axes: Axes, batch: int, channel: int) -> Shuffle | None:
  """Reads a view as a pixel shuffle.

  Args:
    axes: the view.
    batch: axis of the batch in the source.
    channel: axis of the channels in the source.

  Returns:
    The pixel shuffle, with its spatial axes in the order of the source's; None
    if the view is none.
  """
  spatial, others = [], []
  for axis in axes:
    coarse = tuple(f for f in axis if f.axis not in (batch, channel))
    block = axis[len(coarse):]
    if not coarse:
      others.append(axis)
    elif all(f in coarse for f in axis[:len(coarse)]) and all(
        f.axis == channel for f in block):
      spatial.append((coarse, block))
    else:
      return None
  # One axis has the batch, another one the channels. Either may have size 1.
  first = [axis for axis in others if any(f.axis == batch for f in axis)]
  rest = [axis for axis in others if axis not in first and axis]
  if (len(others) != 2 or len(first) > 1 or len(rest) > 1
      or not 1 <= len(spatial) <= 3 or not any(b for _, b in spatial)
      or any(f.axis != batch for axis in first for f in axis)):
    return None
  spatial.sort(key=lambda pair: (pair[0][0].axis, -pair[0][0].stride))
  coarse, block = zip(*spatial)
  return Shuffle(first[0] if first else (), coarse, block,
                 rest[0] if rest else ())


def channels_of(axes: Axes, channel: int) -> np.ndarray:
  """The channel of the source at each position, for the factors that have one.

  Args:
    axes: a view.
    channel: axis of the channels in the source.

  Returns:
    Array of ints with as many axes as the view. An axis without channels has
    size 1, and one with channels and others is as large as the former.
  """
  grid = np.zeros((1,) * len(axes), int)
  for number, axis in enumerate(axes):
    positions = np.zeros((), int)
    for f in axis:
      if f.axis == channel:
        positions = np.add.outer(positions, np.arange(f.size) * f.stride)
    shape = [1] * len(axes)
    shape[number] = -1
    grid = grid + positions.reshape(shape)
  return grid


def arrange(array: Any, axes: Axes, order: Axes) -> Any:
  """Rearranges an array that is a view.

  Args:
    array: the view, an array of NumPy or JAX.
    axes: its factors.
    order: the same factors as they are to be arranged.

  Returns:
    Array with an axis for each element of `order`.
  """
  given = [f for axis in axes for f in axis]
  wanted = [f for axis in order for f in axis]
  array = array.reshape([f.size for f in given])
  array = array.transpose([given.index(f) for f in wanted])
  return array.reshape(list(map(_size, order)))


def split(shape: Sequence[int], axes: Axes) -> Axes:
  """The source as a view whose axes are split as in another view.

  Args:
    shape: shape of the source.
    axes: the other view; axes of the source that it lacks are not split.

  Returns:
    The view.
  """
  result = []
  for number, axis in enumerate(whole(shape)):
    parts = [f for other in axes for f in other if f.axis == number]
    result.append(tuple(sorted(parts, key=lambda f: -f.stride)) or axis)
  return tuple(result)


def _size(axis: Axis) -> int:
  return math.prod(f.size for f in axis)


def _reshaped(axes: Axes, shape: Sequence[int]) -> Axes | None:
  """Groups the factors anew; None if that would cut one in uneven parts."""
  factors = [f for axis in axes for f in axis][::-1]  # The next one is last.
  result = []
  for size in shape:
    axis = []
    while size > 1:
      f = factors.pop()
      if f.size % size and size % f.size:
        return None
      if f.size > size:  # The slower part stays here.
        rest = f.size // size
        factors.append(f._replace(size=rest))
        f = Factor(f.axis, f.stride * rest, size)
      size //= f.size
      if axis and axis[-1].axis == f.axis and (
          axis[-1].stride == f.stride * f.size):
        f = Factor(f.axis, f.stride, f.size * axis.pop().size)
      axis.append(f)
    result.append(tuple(axis))
  return tuple(result)
