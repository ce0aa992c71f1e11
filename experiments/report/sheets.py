"""Sheets of small images, and mean spectra of many images."""

from collections.abc import Mapping
from collections.abc import Sequence

from matplotlib import colors
from matplotlib.figure import Figure
import numpy as np

from tconv.audit import spectra
from tconv.audit import style

_CLASSES = np.array([colors.to_rgb(name) for name in style.CLASSES])
_GAP = 2  # Pixels between pictures.
_COLUMNS = 4
_WIDTH = 9  # Inches of a row of pictures.


def sheet(rows: Mapping[str, Sequence[np.ndarray]]) -> Figure:
  """Draws rows of images of equal size.

  Args:
    rows: images by title of the row: [H, W] grey or [H, W, 3] colors in [0, 1],
      or [H, W] integer masks of classes.

  Returns:
    The figure.
  """
  strips = {title: np.concatenate(
      [np.pad(_colors(picture), ((0, 0), (0, _GAP), (0, 0)), constant_values=1)
       for picture in pictures], 1) for title, pictures in rows.items()}
  height, width = np.max([strip.shape[:2] for strip in strips.values()], 0)
  figure = Figure(figsize=(_WIDTH + 1.6, (_WIDTH / width * height + .08)
                           * len(strips)), layout='compressed')
  for axes, (title, strip) in zip(
      figure.subplots(len(strips), 1, squeeze=False).flat, strips.items()):
    axes.imshow(strip, interpolation='nearest')
    axes.set(xticks=(), yticks=(), frame_on=False)
    axes.set_ylabel(title, rotation=0, ha='right', va='center')
  return figure


def _colors(picture: np.ndarray) -> np.ndarray:
  """Returns [H, W, 3] colors of an image or a mask."""
  if np.issubdtype(picture.dtype, np.integer):
    return _CLASSES[picture % len(_CLASSES)]
  if picture.ndim == 2:
    picture = picture[..., None]
  return np.clip(np.broadcast_to(picture, (*picture.shape[:2], 3)), 0, 1)


def mean_power(images: np.ndarray) -> np.ndarray:
  """Computes the [H, W] mean power spectrum of [..., H, W] images in dB.

  Frequency zero is at [0, 0], and a line of amplitude 1 has 0 dB.
  """
  power = spectra.windowed_power(images)
  return 10 * np.log10(power.mean(tuple(range(power.ndim - 2))) + 1e-12)


def mean_spectra(images: Mapping[str, np.ndarray], *, period: int) -> Figure:
  """Draws the mean power spectrum of each stack of images.

  Args:
    images: [N, H, W] arrays by title, with H = W a multiple of 2 * period.
    period: period in pixels whose frequencies, which include those of its
      divisors, are marked.

  Returns:
    The figure, with one color scale for all spectra.
  """
  powers = {title: mean_power(stack)
            for title, stack in images.items()}
  every = np.concatenate([power.ravel() for power in powers.values()])
  limits = (float(np.quantile(every, .02)), float(every.max()))
  columns = min(_COLUMNS, len(powers))
  rows = -(-len(powers) // columns)
  figure = Figure(figsize=(2.9 * columns + .8, 3.6 * rows),
                  layout='compressed')
  axes = figure.subplots(rows, columns, squeeze=False)
  for unused in axes.flat:
    unused.set_axis_off()
  for place, (title, power) in zip(axes.flat, powers.items()):
    spectra.draw_spectrum(place, power, (period, period), limits=limits)
    place.set_title(title)
  figure.colorbar(axes[0, 0].images[0], ax=axes, label='power, dB')
  return figure
