"""Figures of the tutorials: grids of small numbers, stacks of layers, images.

Every function takes NumPy arrays and returns a figure. Colors are those of
`style`, or run from light to dark, so that readers with any color vision can
distinguish them. All numbers are written out. Words are few, because the pages
in all languages share the figures.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import matplotlib
from matplotlib import colors
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
import numpy as np

from tconv.audit import style

INK, LINE, MARK = '#222222', '#999999', style.VERMILION
EMPTY, PLAIN = '#ffffff', '#e6e6e6'
STAMPS = (style.SKY, style.ORANGE, '#2fb58c', '#e09bc1')

# Otherwise, notebooks show the figures of pyplot only.
pyplot.switch_backend(matplotlib.get_backend())


def matrix(image: np.ndarray, kernel: np.ndarray, c: np.ndarray,
           output: np.ndarray) -> Figure:
  """Draws a convolution as a matrix product: y = C x, with [4, 16] C."""
  figure, axes = _canvas(24.5, 13.6)
  taps, plain = _light_to_dark(11), lambda value: PLAIN
  _cells(axes, (.5, 1.5), image, plain, 'x')
  _write(axes, 5.3, 3.5, '*', size=18)
  _cells(axes, (6.1, 2), kernel, taps, 'w')
  _write(axes, 9.9, 3.5, '=', size=18)
  _cells(axes, (10.7, 2.5), output, plain, 'y')
  _cells(axes, (.5, 8.1), c, taps, 'C', zero='')
  _cells(axes, (.5, 12.6), image.reshape(1, 16), plain, '')
  _write(axes, 17.2, 13.1, 'x, row after row')
  _write(axes, 17.2, 10.1, 'x  =', size=14)
  _cells(axes, (19.5, 8.1), output.reshape(4, 1), plain, 'y')
  # The first output, and its sources: nine positions, one row of C.
  for corner, size in [((.5, 1.5), (3, 3)), ((10.7, 2.5), (1, 1)),
                       ((.5, 8.1), (16, 1)), ((19.5, 8.1), (1, 1))]:
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
  figure, axes = _canvas(28.5, 11.5)
  order = np.arange(4).reshape(2, 2)
  _cells(axes, (.5, 2), coarse, STAMPS.__getitem__, 'y', shade_by=order)
  _write(axes, 3.9, 3, r'$\rightarrow$', size=18)
  for index, (y, stamp) in enumerate(zip(coarse.flat, stamps, strict=True)):
    left = 5.5 + 6 * index
    _cells(axes, (left, 1), stamp, lambda stamp: (EMPTY, *STAMPS)[stamp],
           f'{y} w', zero='', shade_by=(stamp != 0) * (index + 1))
    if index:
      _write(axes, left - 1, 3, '+', size=18)
  meeting = np.count_nonzero(stamps, axis=0)
  _write(axes, 4.5, 9, '=', size=18)
  _cells(axes, (5.5, 7), fine, _light_to_dark(6), 'C$^T$ y', shade_by=meeting)
  _cells(axes, (11.5, 7), meeting, _light_to_dark(6), 'number of stamps')
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
  figure, axes = _canvas(25, 8)
  value = lambda value: STAMPS[0] if value else EMPTY
  _cells(axes, (.5, 3.5), coarse, value, 'y')
  _write(axes, 3.5, 4.5, r'$\rightarrow$', size=18)
  _cells(axes, (4.5, 1), padded, value, '')
  _write(axes, 12.5, 4.5, '*', size=18)
  _cells(axes, (13.5, 3), turned, _light_to_dark(11), 'w, turned')
  _write(axes, 17.5, 4.5, '=', size=18)
  _cells(axes, (18.5, 2), fine, lambda value: PLAIN, 'C$^T$ y')
  _frame(axes, (6.5, 3), (3, 3))
  _frame(axes, (20.5, 4), (1, 1))
  return figure


def overlap(counts: Mapping[int, np.ndarray], stride: int) -> Figure:
  """Draws the number of taps at each fine position, on one axis and on two.

  Args:
    counts: [fine, fine] counts of a square kernel, by number of taps.
    stride: fine steps between stamps.

  Returns:
    The figure.
  """
  figure, axes = _canvas(12.5 * len(counts), 21.5)
  dark = _light_to_dark(6)
  for index, (taps, count) in enumerate(counts.items()):
    left, size = 12.5 * index, len(count)
    _write(axes, left, 0, f'k = {taps}, s = {stride}', size=14)
    for stamp in range((size - taps) // stride + 1):
      axes.add_patch(Rectangle((left + stamp * stride, 1 + stamp), taps, .8,
                               facecolor=STAMPS[stamp % 4], edgecolor=INK))
    # A corner has one stamp only, so that row 0 counts a single axis.
    _cells(axes, (left, 7), count[:1], dark, '')
    _cells(axes, (left, 9.5), count, dark, '')
  return figure


def images(pictures: Mapping[str, np.ndarray], columns: int = 4) -> Figure:
  """Draws [H, W] images in [0, 1], each pixel as a square, side by side."""
  rows = -(-len(pictures) // columns)
  figure = Figure(figsize=(2.6 * columns, 2.9 * rows), layout='constrained')
  axes = figure.subplots(rows, columns, squeeze=False)
  for axis in axes.flat:
    axis.axis('off')
  for axis, (title, picture) in zip(axes.flat, pictures.items()):
    axis.imshow(picture, 'gray', vmin=0, vmax=1, interpolation='nearest')
    axis.set_title(title)
  return figure


def stack(sizes: Sequence[tuple[int, int]]) -> Figure:
  """Draws the arrays between the layers of a network as boxes.

  Args:
    sizes: side in pixels and number of channels of each array. Boxes are as
      high as the root of the side, and as wide as the root of the channels.

  Returns:
    The figure.
  """
  figure = Figure(figsize=(9, 3))
  axes = figure.add_axes((0, 0, 1, 1))
  left = 0.
  for index, (side, channels) in enumerate(sizes):
    height, width = side**.5, channels**.5 / 6
    axes.add_patch(Rectangle((left, -height / 2), width, height,
                             facecolor=STAMPS[0], edgecolor=INK))
    axes.text(left + width / 2, -height / 2 - .5, f'{side}x{side}\n{channels}',
              ha='center', va='top', color=INK)
    left += width
    if index + 1 < len(sizes):
      axes.text(left + 1, 0, r'$\rightarrow$', fontsize=18, ha='center',
                va='center', color=INK)
    left += 2
  tallest = max(side for side, _ in sizes)**.5 / 2
  axes.set(xlim=(-.5, left - 1.5), ylim=(-tallest - 2.5, tallest + .5))
  axes.axis('off')
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
