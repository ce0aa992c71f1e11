"""Crops of images beside their spectra.

Images are [H, W] arrays of luminance in [0, 1].
"""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
import numpy as np

from experiments.report import style

_COLUMNS = 4
_PATCH = 64  # Approximate side in pixels of a patch of `patch_spectrum`.
_REACH = 10  # Bins shown on each side of a grid bin.


def patch_spectrum(image: np.ndarray, period: int) -> np.ndarray:
  """Computes the mean power spectrum of patches that overlap by half.

  Args:
    image: [H, W] array, at least 2 periods large.
    period: period of the pattern in pixels.

  Returns:
    [size, size] power in dB, as in `mean_power`. The size is the multiple of
    2 * period nearest to 64 that fits into the image.
  """
  size = 2 * period * min(
      round(_PATCH / (2 * period)) or 1, min(image.shape) // (2 * period))
  patches = np.lib.stride_tricks.sliding_window_view(image, (size, size))
  return mean_power(patches[::size // 2, ::size // 2])


def mean_power(images: np.ndarray) -> np.ndarray:
  """Computes the [H, W] mean power spectrum of [..., H, W] images in dB.

  Frequency zero is at [0, 0], and a line of amplitude 1 has 0 dB.
  """
  power = _power(images)
  return 10 * np.log10(power.mean(tuple(range(power.ndim - 2))) + 1e-12)


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
  power = _power(image[:height, :width])
  steps = np.arange(-_REACH, _REACH + 1)
  near = np.sum([
      power[np.ix_((row * height // period + steps) % height,
                   (column * width // period + steps) % width)]
      for row, column in _lines(period)], axis=0)
  distance = np.maximum.outer(np.abs(steps), np.abs(steps))
  floor = near[(distance >= 2) & (distance <= 5)].mean()
  return 10 * np.log10((near + 1e-30) / (floor + 1e-30))


def crops_and_spectra(images: Mapping[str, np.ndarray], *, top: int, left: int,
                      size: int, period: int) -> Figure:
  """Draws a crop of each image, its spectrum, and a close view of grid bins.

  Args:
    images: [H, W] arrays in [0, 1] by title.
    top: first row of the crop.
    left: first column of the crop.
    size: side of the crop in pixels.
    period: period in pixels of the pattern whose frequencies are marked.

  Returns:
    The figure.
  """
  bands = -(-len(images) // _COLUMNS)
  figure = Figure(figsize=(2.7 * _COLUMNS + .8, 8.3 * bands),
                  layout='constrained')
  axes = figure.subplots(3 * bands, _COLUMNS, squeeze=False)
  for unused in axes.flat:
    unused.set_axis_off()
  for i, (title, image) in enumerate(images.items()):
    row, column = 3 * (i // _COLUMNS), i % _COLUMNS
    crop, spectrum, close = axes[row:row + 3, column]
    crop.imshow(image[top:top + size, left:left + size], 'gray', vmin=0, vmax=1)
    crop.set_title(title)
    draw_spectrum(spectrum, patch_spectrum(image, period), period)
    edge = _REACH + .5
    close.imshow(around_grid_bins(image, period), 'RdBu_r', vmin=-20, vmax=20,
                 extent=(-edge, edge, edge, -edge))
    close.set_axis_on()
    close.set(xlabel='bins from the circles', xticks=(-_REACH, 0, _REACH),
              yticks=(-_REACH, 0, _REACH))
    for axis in spectrum, close:
      axis.tick_params(labelleft=column == 0)
  for row in range(0, 3 * bands, 3):
    for below, label in (1, 'power, dB'), (2, 'above surroundings, dB'):
      figure.colorbar(axes[row + below, 0].images[0], ax=axes[row + below],
                      label=label)
  return figure


def draw_spectrum(axes: Axes, power: np.ndarray, period: int, *,
                  limits: tuple[float, float] = (-110, -40)) -> None:
  """Draws a spectrum, shifted to have no grid bin at an edge, and marks these.

  Args:
    axes: axes to draw in.
    power: [size, size] result of `patch_spectrum`.
    period: period of the pattern in pixels.
    limits: limits of the color scale in dB.
  """
  start = -1 / (2 * period) - .5 / len(power)
  axes.imshow(
      np.roll(power, len(power) // (2 * period), (0, 1)), 'magma',
      vmin=limits[0], vmax=limits[1],
      extent=(start, start + 1, start + 1, start))
  for row, column in _lines(period):
    axes.add_patch(Circle((column / period, row / period), .06, fill=False,
                          color=style.SKY, linewidth=1.5))
  ticks = [k / period for k in range(period)]
  labels = ['0', *(f'{k}/{period}' for k in range(1, period))]
  axes.set_axis_on()
  axes.set_xticks(ticks, labels)
  axes.set_yticks(ticks, labels)
  axes.set_xlabel('cycles per pixel')


def _lines(period: int) -> list[tuple[int, int]]:
  """Returns the grid bins, in units of 1 / period, without the mean."""
  return [(row, column) for row in range(period) for column in range(period)
          if row or column]


def _power(x: np.ndarray) -> np.ndarray:
  """Computes power spectra of [..., H, W] images with a Hann window."""
  window = np.multiply.outer(*(
      .5 - .5 * np.cos(2 * np.pi * np.arange(size) / size)
      for size in x.shape[-2:]))
  window /= window.sum()
  mean = (x * window).sum((-2, -1), keepdims=True)
  return np.abs(np.fft.fft2((x - mean) * window))**2
