"""The arithmetic of convolution: sizes, strides and padding.

A strided convolution maps a *fine* grid (its input) to a *coarse* grid (its
output). On every spatial axis their sizes are related by::

    fine = (coarse - 1) * stride + (kernel - 1) * dilation + 1 - low - high

where `low` and `high` count the zeros that the convolution adds at the two ends
of the fine grid; a negative count crops. `Geometry` holds these numbers. This
module translates every notation of padding into explicit numbers, so the
modules below the public functions never see a padding string.

Sizes of grids may be symbols of `jax.export.symbolic_shape`. A condition that
cannot be decided for a symbol is assumed to hold, and a convolution of symbolic
size is assumed to have at least one output.

References:
  Dumoulin and Visin, `A guide to convolution arithmetic for deep learning
  <https://arxiv.org/abs/1603.07285>`_, 2016.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import operator
from typing import Any

from jax import core
from jax import export
from jax.extend.core import InconclusiveDimensionOperation

Size = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]

PADDING_NAMES = ('SAME', 'VALID', 'CIRCULAR')


@dataclasses.dataclass(frozen=True)
class Geometry:
  """The numbers that relate a fine grid, a kernel and a coarse grid.

  Attributes:
    fine_size: [*fine], size of the grid that the convolution reads.
    coarse_size: [*coarse], size of the grid that the convolution writes.
    kernel_size: number of taps on each axis.
    strides: fine positions between neighboring coarse positions.
    dilation: fine positions between neighboring taps.
    padding: exact (low, high) numbers of zeros around the fine grid; negative
      numbers crop.
    feature_group_count: number of groups of channels.
  """

  fine_size: Size
  coarse_size: Size
  kernel_size: Size
  strides: Size
  dilation: Size
  padding: Pads
  feature_group_count: int = 1

  def __post_init__(self):
    expected = tuple(
        (c - 1) * s + e - lo - hi
        for c, s, e, (lo, hi) in zip(
            self.coarse_size, self.strides, self.effective_kernel_size,
            self.padding, strict=True))
    if expected != self.fine_size:
      raise ValueError(
          f'fine_size must be {expected} for this geometry; got {self}.')

  @property
  def num_axes(self) -> int:
    return len(self.fine_size)

  @property
  def effective_kernel_size(self) -> Size:
    """Number of fine positions from the first tap to the last, inclusive."""
    return effective_size(self.kernel_size, self.dilation)

  def trimmed(self) -> tuple['Geometry', Pads]:
    """Moves unusual padding out of the operation and into the fine grid.

    Negative padding crops the fine grid, and padding of k_eff or more adds
    zeros to it. Forms support neither (`tconv.forms`).

    Returns:
      A geometry with int padding, 0 <= low, high < k_eff on every axis, and
      the (low, high) numbers of positions by which its fine grid is larger than
      this one. Negative numbers are to be cropped; positive ones are zeros.
    """
    own = lambda pad, e: (
        min(max(pad, 0), e - 1) if isinstance(pad, int) else 0)
    padding = tuple(
        (own(lo, e), own(hi, e))
        for (lo, hi), e in zip(self.padding, self.effective_kernel_size))
    # Where the kernel is larger than the image, XLA exchanges the two. It then
    # mistakes an axis with these numbers for one of groups and aborts.
    padding = tuple(
        (0, 0) if (k, s, pads) == (2, 2, (1, 1)) else pads
        for k, s, pads in zip(self.kernel_size, self.strides, padding))
    added = tuple(
        (lo - own_lo, hi - own_hi)
        for (lo, hi), (own_lo, own_hi) in zip(self.padding, padding))
    fine_size = tuple(
        f + lo + hi for f, (lo, hi) in zip(self.fine_size, added))
    return dataclasses.replace(
        self, fine_size=fine_size, padding=padding), added


def effective_size(kernel_size: Size, dilation: Size) -> Size:
  """Extent of a dilated kernel: (k - 1) * d + 1 on each axis."""
  return tuple((k - 1) * d + 1
               for k, d in zip(kernel_size, dilation, strict=True))


def per_axis(name: str, value: int | Sequence[int], num_axes: int,
             minimum: int, *, symbolic: bool = False) -> Size:
  """Reads one int, or one for each axis, as a tuple of ints.

  Args:
    name: name of the argument, for the error message.
    value: one int for all axes, or a sequence with one for each.
    num_axes: number of spatial axes.
    minimum: smallest valid value.
    symbolic: whether symbols of `jax.export.symbolic_shape` are valid too.

  Returns:
    `num_axes` ints, or symbols.

  Raises:
    ValueError: wrong number of values, a value that is not an int, or one below
      `minimum`.
  """
  values = value if isinstance(value, Iterable) else (value,) * num_axes
  read: Callable[[Any], Any] = lambda v: (
      v if symbolic and export.is_symbolic_dim(v) else operator.index(v))
  try:
    result = tuple(map(read, values))
  except TypeError:
    result = None
  if result is None or len(result) != num_axes or any(
      _is_below(v, minimum) for v in result):
    raise ValueError(
        f'{name} must be one int >= {minimum}, or a sequence of {num_axes} of '
        f'them; got {value!r}.')
  return result


def explicit_padding(padding: Padding, num_axes: int) -> Pads | str:
  """Reads `padding` as (low, high) pairs, or as one of `PADDING_NAMES`.

  Args:
    padding: a name, one int, one int for each axis, or a (low, high) pair for
      each axis.
    num_axes: number of spatial axes.

  Returns:
    `num_axes` (low, high) pairs, or the name.

  Raises:
    ValueError: unknown name, wrong number of values, or values that are not
      ints.
  """
  if isinstance(padding, str):
    if padding.upper() in PADDING_NAMES:
      return padding.upper()
  else:
    each = padding if isinstance(padding, Iterable) else (padding,) * num_axes
    try:
      pads = tuple(
          (operator.index(lo), operator.index(hi)) for lo, hi in (
              p if isinstance(p, Iterable) else (p, p) for p in each))
    except (TypeError, ValueError):
      pads = None
    if pads is not None and len(pads) == num_axes:
      return pads
  raise ValueError(
      f'padding must be one of {", ".join(PADDING_NAMES)}, an int, or a '
      f'sequence of {num_axes} ints or (low, high) pairs; got {padding!r}.')


def circular_pads(kernel_size: Size, dilation: Size) -> Pads:
  """How many positions 'CIRCULAR' padding repeats at each end of the fine grid.

  This is the rule of `flax.linen.Conv`. For every stride the kernel is
  centered, and a kernel of even extent takes one more position at the high end.
  """
  return tuple(((e - 1) // 2, e // 2)
               for e in effective_size(kernel_size, dilation))


def conv_geometry(
    fine_size: Size, kernel_size: Size, strides: Size, padding: Padding,
    dilation: Size, feature_group_count: int = 1) -> Geometry:
  """The geometry of a convolution of a given fine grid.

  Args:
    fine_size: [*fine], size of the convolution's input.
    kernel_size: number of taps on each axis.
    strides: stride on each axis.
    padding: anything `explicit_padding` reads except 'CIRCULAR', which callers
      replace by 'VALID' on an input that they have padded periodically.
    dilation: kernel dilation on each axis.
    feature_group_count: number of groups of channels.

  Returns:
    The geometry. Its high padding is exact: fine positions at the end that no
    tap reaches count as cropped.

  Raises:
    ValueError: `padding` is invalid, or leaves an empty result.
  """
  effective = effective_size(kernel_size, dilation)
  pads = explicit_padding(padding, len(fine_size))
  if pads == 'SAME':
    coarse_size = tuple(-(-f // s) for f, s in zip(fine_size, strides))
    low = _same_low(fine_size, coarse_size, strides, effective)
  else:
    numbers = ((0, 0),) * len(fine_size) if isinstance(pads, str) else pads
    coarse_size = tuple(
        (f + lo + hi - e) // s + 1
        for f, (lo, hi), e, s in zip(fine_size, numbers, effective, strides))
    low = tuple(lo for lo, _ in numbers)
  _check_not_empty(padding, fine_size, effective, coarse_size)
  coarse_size = tuple(core.max_dim(c, 1) for c in coarse_size)
  return _geometry(fine_size, coarse_size, kernel_size, strides, dilation, low,
                   feature_group_count)


def conv_transpose_geometry(
    coarse_size: Size, kernel_size: Size, strides: Size, padding: Padding,
    dilation: Size, feature_group_count: int = 1, *,
    output_padding: int | Sequence[int] = 0,
    output_size: int | Sequence[int] | None = None) -> Geometry:
  """The geometry of a transposed convolution of a given coarse grid.

  Args:
    coarse_size: [*coarse], size of the transposed convolution's input.
    kernel_size: number of taps on each axis.
    strides: stride on each axis.
    padding: padding of the forward convolution, as in `conv_geometry`.
    dilation: kernel dilation on each axis.
    feature_group_count: number of groups of channels.
    output_padding: number of fine positions to add at the high end; only for
      padding in numbers.
    output_size: fine size, one of those that the forward convolution takes to
      `coarse_size`; None for the default of `padding`.

  Returns:
    The geometry.

  Raises:
    ValueError: invalid or empty size, or options that exclude each other.
  """
  num_axes = len(coarse_size)
  effective = effective_size(kernel_size, dilation)
  pads = explicit_padding(padding, num_axes)
  extra = per_axis('output_padding', output_padding, num_axes, 0)
  if any(extra) and (isinstance(pads, str) or output_size is not None):
    raise ValueError(
        'output_padding needs padding in numbers, without output_size; got '
        f'output_padding {output_padding!r} with padding {padding!r} and '
        f'output_size {output_size!r}. To choose the size of the result of '
        f'inputs of size {coarse_size}, pass output_size instead.')
  limits = tuple(max(s, d) for s, d in zip(strides, dilation))
  if any(e >= limit for e, limit in zip(extra, limits)):
    raise ValueError(
        'output_padding must be smaller than max(strides, kernel_dilation) = '
        f'{limits}; got {output_padding!r}.')

  # On each axis, `stride` consecutive fine sizes are valid. These are the
  # smallest one and the default. 'CIRCULAR' has the sizes of 'SAME'.
  full = pads in ('SAME', 'CIRCULAR')
  numbers = ((0, 0),) * num_axes if isinstance(pads, str) else pads
  smallest = tuple(
      (c - 1) * s + (1 if full else e - lo - hi)
      for c, s, e, (lo, hi) in zip(coarse_size, strides, effective, numbers))
  if isinstance(pads, str):
    default = tuple(
        (c - 1) * s + (s if full else max(e, s))
        for c, s, e in zip(coarse_size, strides, effective))
  else:
    default = tuple(f + e for f, e in zip(smallest, extra))
  if output_size is None:
    fine_size = default
  else:
    fine_size = per_axis(
        'output_size', output_size, num_axes, 1, symbolic=True)
    valid = tuple(
        (core.max_dim(f, 1), f + s - 1) for f, s in zip(smallest, strides))
    _check_not_empty(padding, coarse_size, effective, tuple(
        largest for _, largest in valid))
    if any(_is_below(f, lo) or _is_below(hi, f)
           for f, (lo, hi) in zip(fine_size, valid)):
      raise ValueError(
          f'output_size must lie within {valid} (inclusive; a range for each '
          f'axis) for inputs of size {coarse_size}; got {output_size!r}.')
  _check_not_empty(padding, coarse_size, effective, fine_size)
  if full:
    low = _same_low(fine_size, coarse_size, strides, effective)
  else:
    low = tuple(lo for lo, _ in numbers)
  return _geometry(fine_size, coarse_size, kernel_size, strides, dilation, low,
                   feature_group_count)


def _same_low(fine_size: Size, coarse_size: Size, strides: Size,
              effective: Size) -> Size:
  """Low padding of 'SAME': as in TensorFlow, an odd zero goes to the end."""
  return tuple(
      core.max_dim((c - 1) * s + e - f, 0) // 2
      for f, c, s, e in zip(fine_size, coarse_size, strides, effective))


def _check_not_empty(padding: Padding, size: Size, effective: Size,
                     result: Size) -> None:
  if any(_is_below(r, 1) for r in result):
    raise ValueError(
        f'padding {padding!r} leaves an empty result: inputs of size {size} '
        f'and a kernel that spans {effective} give {result}; every axis must '
        'be at least 1.')


def _is_below(a: int, b: int) -> bool:
  """Whether a < b; False if that is undecided for symbols."""
  try:
    return a < b
  except InconclusiveDimensionOperation:
    return False


def _geometry(fine_size: Size, coarse_size: Size, kernel_size: Size,
              strides: Size, dilation: Size, low: Size,
              feature_group_count: int) -> Geometry:
  """Makes a geometry; its sizes and low padding determine the high one."""
  effective = effective_size(kernel_size, dilation)
  padding = tuple(
      (lo, (c - 1) * s + e - f - lo)
      for lo, f, c, s, e in zip(
          low, fine_size, coarse_size, strides, effective))
  return Geometry(fine_size, coarse_size, kernel_size, strides, dilation,
                  padding, feature_group_count)
