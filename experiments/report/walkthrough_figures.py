"""Figures of the walkthrough: grids of small numbers.

Every function takes [rows, columns] NumPy arrays and returns a figure. Colors
are those of `style`, or run from light to dark, so that readers with any color
vision can distinguish them. All numbers are written out.
"""

from collections.abc import Callable

import matplotlib
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
import numpy as np

from tconv.audit import style

INK, LINE, MARK = '#222222', '#999999', style.VERMILION
EMPTY, PLAIN = '#ffffff', '#e6e6e6'
STAMPS = (style.SKY, style.ORANGE, '#2fb58c', '#e09bc1')


def matrix(image: np.ndarray, kernel: np.ndarray, c: np.ndarray,
           output: np.ndarray) -> Figure:
  """Draws a convolution as a sliding kernel and as a [4, 16] matrix `c`."""
  figure, axes = _canvas(21.5, 16.2)
  taps, plain = _light_to_dark(11), lambda value: PLAIN
  _write(axes, 0, 0, 'A kernel slides over an image ...', size=14)
  _cells(axes, (1, 2), image, plain, 'image x, 4x4')
  _write(axes, 6.5, 4, '*', size=18)
  _cells(axes, (8, 2.5), kernel, taps, 'kernel w, 3x3')
  _write(axes, 12.5, 4, '=', size=18)
  _cells(axes, (14, 3), output, plain, 'output y, 2x2')
  _write(axes, 0, 7.6, '... and the same as a matrix: y = C x', size=14)
  _cells(axes, (1, 9.4), image.reshape(1, 16), plain, 'x as 16 numbers')
  _cells(axes, (1, 11.9), c, taps, 'C, 4x16: nine taps in every row', zero='')
  _write(axes, 18, 13.9, '=', size=18)
  _cells(axes, (19, 11.9), output.reshape(4, 1), plain, 'y')
  # The first output, and its sources: nine positions, one row of C.
  for corner, size in [((1, 2), (3, 3)), ((14, 3), (1, 1)),
                       ((1, 11.9), (16, 1)), ((19, 11.9), (1, 1))]:
    _frame(axes, corner, size)
  return figure


def one_to_nine(coarse: np.ndarray, stamps: np.ndarray,
                fine: np.ndarray) -> Figure:
  """Draws how each coarse value contributes to nine fine positions.

  Args:
    coarse: [2, 2] input of the transposed convolution.
    stamps: [4, 4, 4] contributions of the four coarse values.
    fine: [4, 4] sum of the contributions.

  Returns:
    The figure.
  """
  figure, axes = _canvas(28.5, 14)
  _write(axes, 0, 0, 'One to nine: each coarse value stamps the kernel, times '
         'itself, onto nine fine positions', size=14)
  order = np.arange(4).reshape(2, 2)
  _cells(axes, (0.5, 3), coarse, STAMPS.__getitem__, 'y, 2x2', shade_by=order)
  _write(axes, 3.9, 4, r'$\rightarrow$', size=18)
  for index, (y, stamp) in enumerate(zip(coarse.flat, stamps, strict=True)):
    left = 5.5 + 6 * index
    _cells(axes, (left, 2), stamp, lambda stamp: (EMPTY, *STAMPS)[stamp],
           f'{y} times w', zero='', shade_by=(stamp != 0) * (index + 1))
    if index:
      _write(axes, left - 1, 4, '+', size=18)
  _write(axes, 0, 7.5, 'Where stamps meet, they add', size=14)
  meeting = np.count_nonzero(stamps, axis=0)
  _write(axes, 4.5, 11.5, '=', size=18)
  _cells(axes, (5.5, 9.5), fine, _light_to_dark(6), 'C$^T$ y, 4x4',
         shade_by=meeting)
  _cells(axes, (11.5, 9.5), meeting, _light_to_dark(6), 'how many stamps meet')
  return figure


def zero_insertion(coarse: np.ndarray, padded: np.ndarray, turned: np.ndarray,
                   fine: np.ndarray) -> Figure:
  """Draws a transpose of stride 2 as a convolution with inserted zeros.

  Args:
    coarse: [2, 2] input.
    padded: [7, 7] input with zeros inserted and padded.
    turned: [3, 3] kernel, rotated by 180 degrees.
    fine: [5, 5] output.

  Returns:
    The figure.
  """
  figure, axes = _canvas(25, 10.2)
  value = lambda value: STAMPS[0] if value else EMPTY
  _write(axes, 0, 0, 'Stride 2 as an ordinary convolution: zeros between the '
         'values, zeros around, kernel turned', size=14)
  _cells(axes, (0.5, 4.5), coarse, value, 'y, 2x2')
  _write(axes, 3.5, 5.5, r'$\rightarrow$', size=18)
  _cells(axes, (4.5, 2), padded, value, 'y among zeros, 7x7')
  _write(axes, 12.5, 5.5, '*', size=18)
  _cells(axes, (13.5, 4), turned, _light_to_dark(11), 'w turned, 3x3')
  _write(axes, 17.5, 5.5, '=', size=18)
  _cells(axes, (18.5, 3), fine, lambda value: PLAIN, 'C$^T$ y, 5x5')
  _frame(axes, (6.5, 4), (3, 3))
  _frame(axes, (20.5, 5), (1, 1))
  products = ' + '.join(f'{y}*{w}' for y, w in zip(
      padded[2:5, 2:5].flat, turned.flat, strict=True) if y)
  _write(axes, 4.5, 9.8, f'in the middle {products} = {fine[2, 2]:g}; '
         'all other products are with a zero')
  return figure


def overlap(counts: dict[int, np.ndarray], stride: int) -> Figure:
  """Draws the number of taps at each fine position, on one axis and on two.

  Args:
    counts: [fine, fine] counts of a square kernel, by number of taps.
    stride: fine steps between stamps.

  Returns:
    The figure.
  """
  figure, axes = _canvas(12.5 * len(counts), 24)
  dark = _light_to_dark(6)
  for index, (taps, count) in enumerate(counts.items()):
    left, size = 12.5 * index, len(count)
    coarse = (size - taps) // stride + 1
    even = 'even' if taps % stride == 0 else 'uneven'
    _write(axes, left, 0, f'k = {taps}, s = {stride}: {even} overlap', size=14)
    _write(axes, left, 1.4, f'{coarse} stamps of {taps} taps, {stride} apart')
    for stamp in range(coarse):
      axes.add_patch(Rectangle((left + stamp * stride, 2.1 + stamp), taps, 0.8,
                               facecolor=STAMPS[stamp % 4], edgecolor=INK))
    # A corner has one stamp only, so that row 0 counts a single axis.
    _cells(axes, (left, 8.8), count[:1], dark, 'how many land, on one axis')
    _cells(axes, (left, 11.8), count, dark, 'and on two')
  return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
  """Makes axes measured in cells, with the origin at the top left."""
  figure = Figure(figsize=((width + 1) * 0.42, (height + 1) * 0.42))
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set(xlim=(-0.5, width + 0.5), ylim=(height + 0.5, -0.5))
  axes.axis('off')
  return figure, axes


def _cells(axes: Axes, corner: tuple[float, float], values: np.ndarray,
           shade: Callable, title: str, zero: str = '0',
           shade_by: np.ndarray | None = None) -> None:
  """Draws [rows, columns] numbers in squares colored by `shade`."""
  left, top = corner
  shade_by = values if shade_by is None else shade_by
  for (row, column), value in np.ndenumerate(values):
    face = shade(shade_by[row, column])
    axes.add_patch(Rectangle((left + column, top + row), 1, 1, facecolor=face,
                             edgecolor=LINE, linewidth=0.8))
    dark = np.dot(colors.to_rgb(face), (0.3, 0.6, 0.1)) < 0.5
    axes.text(left + column + 0.5, top + row + 0.5,
              f'{value:g}' if value else zero, ha='center',
              va='center_baseline', color='white' if dark else INK)
  _write(axes, left, top - 0.6, title)


def _frame(axes: Axes, corner: tuple[float, float],
           size: tuple[float, float]) -> None:
  axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=MARK,
                           linewidth=3, zorder=3))


def _write(axes: Axes, x: float, y: float, text: str, size: float = 11) -> None:
  sign = len(text) == 1 or text.startswith('$')
  axes.text(x, y, text, fontsize=size, color=INK, va='center',
            ha='center' if sign else 'left')


def _light_to_dark(darkest: float) -> Callable[[float], str]:
  """Returns a color map from white for zero to dark for `darkest`."""
  scale = matplotlib.colormaps['YlGnBu']
  return lambda value: colors.to_hex(scale(value / darkest)) if value else EMPTY
