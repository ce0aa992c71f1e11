"""Power spectra of images and other signals, and drawings of them.

A pattern of period p appears in a spectrum as lines at the multiples of 1 / p,
the grid bins, which the drawings circle.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import itertools
import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from tconv.audit import style

_PATCH = 64  # Approximate side of a patch of a spectrum; 16 times it for 1-D.
_FLOOR = 1e-14  # Of a power: that of the rounding of float32.
_REACH = 10  # Bins shown on each side of a grid bin.
_SIDE = 2.9  # Inches of a panel.
_CROP = 32  # Side in pixels of the crop, in which single pixels are visible.
_MIDDLE = 1024  # Largest side in pixels of the source of patches, for speed.
_THUMBNAIL = 256  # Largest side of the thumbnail in pixels.


def windowed_power(x: np.ndarray, n: int = 2) -> np.ndarray:
  """Computes power spectra with a Hann window.

  Args:
    x: [..., *size] array.
    n: number of axes of the spectra: the last ones.

  Returns:
    [..., *size] power, without the mean. Frequency zero is at index 0 of each
    axis. An oscillation between -1 and 1 at half the sampling rate has power 1.
  """
  window, axes = np.ones(()), tuple(range(-n, 0))
  for size in x.shape[-n:]:
    window = np.multiply.outer(
        window, .5 - .5 * np.cos(2 * np.pi * np.arange(size) / size))
  window /= window.sum()
  mean = (x * window).sum(axes, keepdims=True)
  return np.abs(np.fft.fftn((x - mean) * window, axes=axes))**2


def power_spectrum(x: np.ndarray, period: Sequence[int]) -> np.ndarray:
  """Computes the mean power spectrum of patches that overlap by half.

  Args:
    x: [..., *size] array, at least 2 periods large. The axes before those of
      the period are averaged over.
    period: period of the pattern, one int for each of the last axes.

  Returns:
    [*patch] power in dB of each frequency, as in `windowed_power`. The patch
    holds an even number of periods, so that lines fall on bins.
  """
  n = len(period)
  about = _PATCH if n > 1 else 16 * _PATCH
  side = [2 * p * min(max(1, round(about / (2 * p))), s // (2 * p))
          for s, p in zip(x.shape[-n:], period)]
  places = [range(0, length - s + 1, s // 2)
            for length, s in zip(x.shape[-n:], side)]
  total = np.zeros(side)
  for corner in itertools.product(*places):
    patch = x[(..., *(slice(c, c + s) for c, s in zip(corner, side)))]
    total += windowed_power(patch, n).reshape(-1, *side).mean(0)
  total /= math.prod(map(len, places))
  return 10 * np.log10(total + _FLOOR * max((x**2).mean(), _FLOOR))


def around_grid_bins(image: np.ndarray, period: int) -> np.ndarray:
  """Computes the spectrum around the grid bins at full resolution.

  Args:
    image: [H, W] array; it is cropped to multiples of the period.
    period: period of the pattern in pixels.

  Returns:
    [21, 21] power in dB, summed over grid bins, which are at the center. The
    mean at a distance of 2 to 5 bins is 0 dB, so that the center is
    `tconv.grid_level`.
  """
  height, width = (size - size % period for size in image.shape)
  power = windowed_power(image[:height, :width])
  steps = np.arange(-_REACH, _REACH + 1)
  near = np.sum([
      power[np.ix_((row * height // period + steps) % height,
                   (column * width // period + steps) % width)]
      for row, column in _lines((period, period))], axis=0)
  distance = np.maximum.outer(np.abs(steps), np.abs(steps))
  floor = near[(distance >= 2) & (distance <= 5)].mean()
  return 10 * np.log10((near + 1e-30) / (floor + 1e-30))


def draw_spectrum(axes: Axes, power: np.ndarray, period: Sequence[int], *,
                  limits: tuple[float, float] = (-110, -40)) -> None:
  """Draws a spectrum and circles its grid bins, none of which is at an edge.

  Args:
    axes: axes to draw in.
    power: [height, width] power in dB, as in `power_spectrum`.
    period: period of the pattern in pixels along each axis.
    limits: limits of the color scale in dB.
  """
  start = [-1 / (2 * p) - .5 / s for s, p in zip(power.shape, period)]
  axes.imshow(
      np.roll(power, [s // (2 * p) for s, p in zip(power.shape, period)],
              (0, 1)), 'magma', vmin=limits[0], vmax=limits[1],
      extent=(start[1], start[1] + 1, start[0] + 1, start[0]))
  rows, columns = np.array(_lines(period)).reshape(-1, 2).T
  axes.plot(columns / period[1], rows / period[0], 'o', fillstyle='none',
            markersize=np.clip(56 / max(period), 3, 18), markeredgewidth=1.5,
            color=style.SKY)
  axes.set_axis_on()
  for axis, p in (axes.xaxis, period[1]), (axes.yaxis, period[0]):
    if p <= 8:
      axis.set_ticks([k / p for k in range(p)],
                     ['0', *(f'{k}/{p}' for k in range(1, p))])
  axes.set_xlabel('cycles per pixel')


def draw_close_view(axes: Axes, image: np.ndarray, period: int) -> None:
  """Draws the result of `around_grid_bins`.

  Args:
    axes: axes to draw in.
    image: [H, W] array.
    period: period of the pattern in pixels.
  """
  edge = _REACH + .5
  axes.imshow(around_grid_bins(image, period), 'RdBu_r', vmin=-20, vmax=20,
              extent=(-edge, edge, edge, -edge))
  axes.set_axis_on()
  axes.set(xlabel='bins from the circles', xticks=(-_REACH, 0, _REACH),
           yticks=(-_REACH, 0, _REACH))


def annotated_spectra(pixels: np.ndarray, channels: Mapping[str, np.ndarray],
                      *, title: str, period: int) -> Figure:
  """Draws an image, its spectra, and a close view of their grid bins.

  Images that exceed [-1, 1] are divided by their largest absolute value.

  Args:
    pixels: [H, W, C] image with C = 1 or 3, at least 4 periods large.
    channels: [H, W] arrays by the titles of their spectra.
    title: title of the figure.
    period: period in pixels of the pattern whose frequencies are marked.

  Returns:
    The figure.
  """
  scale = max(1, np.abs(pixels).max())
  figure = Figure(figsize=((1 + len(channels)) * _SIDE, 2.3 * _SIDE),
                  layout='constrained')
  figure.suptitle(title, parse_math=False)
  above, below = figure.subplots(2, 1 + len(channels))
  step = -(-max(pixels.shape) // _THUMBNAIL)
  crop = _middle(pixels, _CROP)
  for axes, image, name in [
      (above[0], pixels[::step, ::step], 'image'),
      (below[0], crop, f'its middle {crop.shape[1]}x{crop.shape[0]}')]:
    axes.imshow(np.clip(image / scale, 0, 1), 'gray', vmin=0, vmax=1)
    axes.set_title(name, size='medium')
    axes.set_axis_off()
  for axes, (name, channel) in zip(above[1:], channels.items(), strict=True):
    power = power_spectrum(_middle(channel, _MIDDLE) / scale, (period, period))
    draw_spectrum(axes, power, (period, period))
    axes.set_title(name, size='medium')
  for axes, channel in zip(below[1:], channels.values(), strict=True):
    draw_close_view(axes, channel, period)
  for row, label in (above, 'power, dB'), (below, 'above surroundings, dB'):
    figure.colorbar(row[1].images[0], ax=row[1:], label=label)
  return figure


def _middle(x, side):
  top, left = (max(0, (size - side) // 2) for size in x.shape[:2])
  return x[top:top + side, left:left + side]


def _lines(period: Sequence[int]) -> list[tuple[int, int]]:
  """Returns the grid bins, in units of 1 / period, without the mean."""
  return [(row, column) for row in range(period[0])
          for column in range(period[1]) if row or column]
