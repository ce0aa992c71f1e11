"""Work row by row, so that a buffer of patches stays small.

A row is everything at one position of the first spatial axis, for all images of
the batch. Rows are what an array is cut into because the batch may be spread
over devices, and because nothing that is computed for one row is computed again
for the next.
"""

from collections.abc import Callable
import dataclasses
import itertools
from typing import Any

from jax import lax

from tconv.geometry import Geometry


def fold(body: Callable[[Any, Geometry, Any, Any], Any], carry,
         geometry: Geometry, rows: int):
  """Applies a function to one block of coarse rows after another.

  Args:
    body: of the carry, the geometry of a block and of all fine rows that it
      touches, and the first row of either; gives the next carry. Rows are ints
      or, within a loop, scalar arrays.
    carry: what the first call gets.
    geometry: sizes that relate the whole grids; 0 <= padding < k_eff.
    rows: coarse rows of a block; the last one may have fewer.

  Returns:
    What the last call gave.
  """
  stride, (low, _) = geometry.strides[0], geometry.padding[0]
  # All blocks that touch no border are alike: one loop does for them.
  for block, firsts in itertools.groupby(
      range(0, geometry.coarse_size[0], rows),
      lambda first: _block(geometry, first, rows)):
    first, *others = firsts
    start = max(first * stride - low, 0)
    if not others:
      carry = body(carry, block, first, start)
      continue
    carry = lax.fori_loop(
        0, 1 + len(others),
        lambda i, carry, block=block, first=first, start=start: body(
            carry, block, first + i * rows, start + i * rows * stride), carry)
  return carry


def _block(geometry: Geometry, first: int, rows: int) -> Geometry:
  """The geometry of some coarse rows, and of the fine rows that they touch."""
  stride, (low, _) = geometry.strides[0], geometry.padding[0]
  rows = min(rows, geometry.coarse_size[0] - first)
  start = first * stride - low
  stop = start + (rows - 1) * stride + geometry.effective_kernel_size[0]
  outside = max(-start, 0), max(stop - geometry.fine_size[0], 0)
  return dataclasses.replace(
      geometry, padding=(outside, *geometry.padding[1:]),
      coarse_size=(rows, *geometry.coarse_size[1:]),
      fine_size=(stop - start - sum(outside), *geometry.fine_size[1:]))
