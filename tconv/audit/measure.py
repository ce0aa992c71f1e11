"""Measures patterns of a given period in any images.

`tconv measure` runs this. Its help, in `cli.py`, explains the results.
"""

from collections.abc import Sequence
import csv
import functools
import os
import pathlib

import jax
import numpy as np
from rich import table as rich_table
from rich import text as rich_text
import rich.console
import rich.progress

from tconv.audit import images
from tconv.audit import metrics as metrics_lib
from tconv.audit import model
from tconv.audit import spectra

_PATCH = 16  # Side in pixels of the patches of `grid_metrics`.
# Heading and format of each metric on the screen.
_MEASURES = {
    'grid_level_db': ('level, dB', '.1f'), 'grid_p_value': ('p-value', '.2g'),
    'grid_amplitude': ('amplitude', '.3f'), 'imaging': ('imaging', '.3f')}
_TITLE = '{}\n{} dB, p-value {}\namplitude {}, imaging {}'


def channels_of(pixels: np.ndarray) -> dict[str, np.ndarray]:
  """Splits an image of 1 or 3 channels.

  Args:
    pixels: [H, W, C] float32 image.

  Returns:
    [H, W] arrays by name: 'grey', or 'R', 'G', 'B' and 'luminance'.
  """
  if pixels.shape[-1] == 1:
    return {'grey': pixels[..., 0]}
  return {**dict(zip('RGB', np.moveaxis(pixels, -1, 0), strict=True)),
          'luminance': images.luminance(pixels)[..., 0]}


def measure(channel: np.ndarray, period: int) -> list[float]:
  """Measures one channel.

  Args:
    channel: [H, W] float32 array.
    period: period of the pattern in pixels.

  Returns:
    Level, p-value, amplitude and imaging of `metrics.grid_metrics`.

  Raises:
    images.ImageError: the channel is too small, or its values are too large.
  """
  height, width = channel.shape
  smallest = max(4 * period, _PATCH)
  if min(height, width) < smallest:
    raise images.ImageError(
        f'too small: {width}x{height}, needs at least {smallest}x{smallest}')
  metrics = _compiled(channel.shape, period)(channel[None, ..., None])
  measures = [float(metrics[name][0, 0]) for name in _MEASURES]
  if not np.isfinite(measures).all():
    raise images.ImageError('values too large to be squared in float32')
  return measures


@functools.lru_cache(maxsize=8)
def _compiled(size, period):
  """Compiles the metrics for one size; few are kept, to bound memory."""
  del size  # Only a key of the cache.
  return jax.jit(functools.partial(metrics_lib.grid_metrics, period=period))


def run(paths: Sequence[str], *, period: int, out: pathlib.Path) -> bool:
  """Measures images, one at a time, and writes the results.

  Args:
    paths: paths of the images. Files in the folder of the spectra are left out.
    period: period of the pattern in pixels.
    out: output folder, created if missing.

  Returns:
    Whether all images were measured and none was skipped.

  Raises:
    AuditError: all files are spectra of earlier runs.
    OSError: the results cannot be written.
  """
  screen = rich.console.Console(stderr=True, markup=False, highlight=False)
  folder = out / 'spectra'
  own = os.path.realpath(folder) + os.sep
  paths = sorted({
      path for path in paths if not os.path.realpath(path).startswith(own)})
  if not paths:
    raise model.AuditError(f'no image but the spectra in {folder}')
  base = os.path.commonpath(
      [os.path.dirname(os.path.abspath(path)) for path in paths])
  folder.mkdir(parents=True, exist_ok=True)
  rows = []
  # File names that are not valid UTF-8 are written byte by byte.
  with open(out / 'measures.csv', 'w', newline='', encoding='utf-8',
            errors='surrogateescape') as file:
    writer = csv.writer(file)
    writer.writerow(
        ['file', 'channel', 'width', 'height', 'depth', *_MEASURES])
    for path in rich.progress.track(
        paths, 'Measuring', console=screen, disable=not screen.is_terminal):
      try:
        pixels, depth = images.read(path)
        channels = channels_of(pixels)
        results = {name: measure(c, period) for name, c in channels.items()}
      except images.ImageError as error:
        screen.print(f'skipped {_plain(path)}: {error}', soft_wrap=True)
        continue
      height, width, _ = pixels.shape
      for name, measures in results.items():
        writer.writerow([path, name, width, height, depth, *measures])
      inside = os.path.relpath(path, base)
      caption = f'{_plain(inside)}\n{width}x{height}, {depth}'
      cells = {name: _cells(measures) for name, measures in results.items()}
      rows.append([caption, '\n'.join(cells),
                   *map('\n'.join, zip(*cells.values(), strict=True))])
      target = folder / f'{inside}.png'
      target.parent.mkdir(parents=True, exist_ok=True)
      spectra.annotated_spectra(
          pixels, {_TITLE.format(name, *cells[name]): c
                   for name, c in channels.items()},
          title=f'{caption}, period {period}', period=period).savefig(target)
  rich.console.Console(markup=False).print(_table(rows, period))
  screen.print(f'Measured {len(rows)} of {len(paths)} images: {out}',
               soft_wrap=True)
  return len(rows) == len(paths)


def _table(rows, period):
  table = rich_table.Table(
      title=f'Patterns of period {period}: level (about 0 dB is none) and '
      'p-value say whether there is one; amplitude and imaging, in 8-bit '
      "levels, cannot tell it from an image's own content",
      title_justify='left')
  table.add_column('image', overflow='fold')
  for name in 'channel', *(heading for heading, _ in _MEASURES.values()):
    table.add_column(name, justify='right', overflow='fold')
  for row in rows:
    table.add_row(*map(rich_text.Text, row))
  return table


def _cells(measures):
  return [f'{measure:{style}}' for measure, (_, style) in zip(
      measures, _MEASURES.values(), strict=True)]


def _plain(path):
  """Returns a file name for display, escaped unless it is printable ASCII."""
  return path if path.isascii() and path.isprintable() else ascii(path)[1:-1]
