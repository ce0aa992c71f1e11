"""The spectra of the channels of one image."""

from collections.abc import Mapping

from matplotlib.figure import Figure
import numpy as np

from experiments.report import figures

_SIDE = 2.9  # Inches of a panel.
_CROP = 32  # Side in pixels of the crop, in which single pixels are visible.
_MIDDLE = 1024  # Largest side in pixels of the source of patches, for memory.
_THUMBNAIL = 256  # Largest side of the thumbnail in pixels.


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
    power = figures.patch_spectrum(_middle(channel, _MIDDLE) / scale, period)
    figures.draw_spectrum(axes, power, period)
    axes.set_title(name, size='medium')
  for axes, channel in zip(below[1:], channels.values(), strict=True):
    close = figures.around_grid_bins(channel, period)
    edge = len(close) / 2
    axes.imshow(close, 'RdBu_r', vmin=-20, vmax=20,
                extent=(-edge, edge, edge, -edge))
    axes.set_xlabel('bins from the circles')
  for row, label in (above, 'power, dB'), (below, 'above surroundings, dB'):
    figure.colorbar(row[1].images[0], ax=row[1:], label=label)
  return figure


def _middle(x, side):
  top, left = (max(0, (size - side) // 2) for size in x.shape[:2])
  return x[top:top + side, left:left + side]
