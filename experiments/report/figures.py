"""Crops of images beside their spectra.

Images are [H, W] arrays of luminance in [0, 1].
"""

from collections.abc import Mapping

from matplotlib.figure import Figure
import numpy as np

from tconv.audit import spectra

_COLUMNS = 4


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
    spectra.draw_spectrum(
        spectrum, spectra.power_spectrum(image, (period, period)),
        (period, period))
    spectra.draw_close_view(close, image, period)
    for axis in spectrum, close:
      axis.tick_params(labelleft=column == 0)
  for row in range(0, 3 * bands, 3):
    for below, label in (1, 'power, dB'), (2, 'above surroundings, dB'):
      figure.colorbar(axes[row + below, 0].images[0], ax=axes[row + below],
                      label=label)
  return figure
