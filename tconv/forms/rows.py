"""Loops over blocks of rows, which keep a buffer of patches small.

A row is everything at one position of the first spatial axis, for all images of
the batch. Arrays are split into rows and not into images, because the batch
may be sharded over devices.
"""

from collections.abc import Callable
import dataclasses
import itertools
import math
from typing import Any

from jax import lax
import jax.numpy as jnp

from tconv.geometry import Geometry


def fold(body: Callable[[Any, Geometry, Any, Any], Any], carry,
         geometry: Geometry, rows: int):
  """Applies a function to one block of coarse rows after another.

  The function sees the geometry of each block, which differs at the borders.
  It is compiled once for blocks that touch no border, and for each other block.

  Args:
    body: function `body(carry, block, first, start)` that returns the next
      carry. `block` is the geometry of some coarse rows and of the fine rows
      that they touch; `first` and `start` are the first coarse and fine row, as
      ints or, within a loop, scalar arrays.
    carry: carry of the first call.
    geometry: sizes that relate the whole grids, with 0 <= padding < k_eff.
    rows: number of coarse rows in a block; the last block may have fewer.

  Returns:
    The carry that the last call returned.
  """
  stride, (low, _) = geometry.strides[0], geometry.padding[0]
  # Blocks that touch no border have equal geometries: one loop serves them all.
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


def loop(body: Callable[[Any, Any, Any], Any], carry, size: int, rows: int):
  """Applies a function to equal blocks of rows; it is compiled once.

  If the number of rows in a block does not divide the number of all, the last
  block begins with rows of the one before.

  Args:
    body: function `body(carry, first, again)` that returns the next carry.
      `first` is the first row of a block, and `again` the number of its rows
      that the block before contains too, both as scalar arrays.
    carry: carry of the first call.
    size: number of all rows.
    rows: number of rows in a block, at most `size`.

  Returns:
    The carry that the last call returned.
  """

  def step(index, carry):
    first = jnp.minimum(index * rows, size - rows)
    return body(carry, first, index * rows - first)

  return lax.fori_loop(0, -(-size // rows), step, carry)


def count(size: int, geometry: Geometry, block: int, *, smallest: int
          ) -> int | None:
  """Chooses the number of coarse rows in a block.

  Args:
    size: bytes of the buffer for one coarse position.
    geometry: sizes that relate the whole grids.
    block: bytes of the buffer for a block; a single row may need more.
    smallest: bytes of the whole buffer up to which blocks are not needed.

  Returns:
    The number; None if blocks are not needed, or impossible because there are
    no rows or their size is unknown.
  """
  coarse = geometry.coarse_size
  if not coarse or not all(isinstance(n, int) for n in (size, *coarse)):
    return None
  row = size * math.prod(coarse[1:])
  if coarse[0] * row <= smallest:
    return None
  most = max(1, block // row)
  # If the number divides the size, `fold` compiles no smaller block at the end,
  # and `loop` repeats no rows.
  return next((n for n in range(most, most // 2, -1) if coarse[0] % n == 0),
              most)


def _block(geometry: Geometry, first: int, rows: int) -> Geometry:
  """The geometry of some coarse rows and of the fine rows that they touch."""
  stride, (low, _) = geometry.strides[0], geometry.padding[0]
  rows = min(rows, geometry.coarse_size[0] - first)
  start = first * stride - low
  stop = start + (rows - 1) * stride + geometry.effective_kernel_size[0]
  outside = max(-start, 0), max(stop - geometry.fine_size[0], 0)
  return dataclasses.replace(
      geometry, padding=(outside, *geometry.padding[1:]),
      coarse_size=(rows, *geometry.coarse_size[1:]),
      fine_size=(stop - start - sum(outside), *geometry.fine_size[1:]))
