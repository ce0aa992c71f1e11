"""Measures patterns of a given period in any images.

    python -m experiments.measure --images='photos/*.png' --period=2

Prints a table and writes it with full precision to OUT/measures.csv. It has a
row for each channel (grey, or R, G, B and their BT.709 luminance) of each
image. The spectra of photos/NAME.png are drawn in OUT/spectra/NAME.png.png.

The level is how far the pattern stands out of the image's spectrum, and the
p-value is the probability of such a level by chance. The amplitude is the rms
of the pattern in 8-bit levels, 1/255 of white. Imaging is the rms of such
patterns measured patch by patch, including those that cancel over the image.
Photographs may have patterns of their own: demosaicing leaves some of period 2,
and JPEG some of period 8.

Reads BMP, GIF, JPEG, PNG, TIFF and WebP of any depth, without alpha. White is
the largest integer of a depth, and 1 for floats, which may go beyond [0, 1].
Files that cannot be read completely, images smaller than 4 periods or 16
pixels, and images with NaN are skipped with a message.

The exit status is 0 if all images were measured, and 1 otherwise.
"""

from collections.abc import Sequence
import csv
import functools
import glob
import os
import pathlib
import shlex
import sys

from absl import app
from absl import flags
from absl import logging
import jax
import numpy as np
import rich.console
import rich.progress

from experiments.harness import workdir
from experiments.harness.results import Table
from tconv.audit import images
from tconv.audit import metrics as metrics_lib
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


def run(patterns: Sequence[str], *, period: int, out: pathlib.Path) -> bool:
  """Measures all matching images, one at a time, and writes the results.

  Args:
    patterns: patterns of file names, where '**' matches any folders. Files in
      the folder of the spectra never match.
    period: period of the pattern in pixels.
    out: output folder, created if missing.

  Returns:
    Whether all images were measured and none was skipped.

  Raises:
    RunError: a pattern matches no file.
    OSError: the results cannot be written.
  """
  screen = rich.console.Console(stderr=True, markup=False, highlight=False)
  folder = out / 'spectra'
  paths = _find(patterns, folder)
  base = os.path.commonpath(
      [os.path.dirname(os.path.abspath(path)) for path in paths])
  folder.mkdir(parents=True, exist_ok=True)
  table = []
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
      table.append([caption, '\n'.join(cells),
                    *map('\n'.join, zip(*cells.values(), strict=True))])
      target = folder / f'{inside}.png'
      target.parent.mkdir(parents=True, exist_ok=True)
      spectra.annotated_spectra(
          pixels, {_TITLE.format(name, *cells[name]): c
                   for name, c in channels.items()},
          title=f'{caption}, period {period}', period=period).savefig(target)
  rich.console.Console(markup=False).print(Table(
      f'Patterns of period {period}: level (about 0 dB is none) and p-value '
      'say whether there is one; amplitude and imaging, in 8-bit levels, '
      "cannot tell it from an image's own content",
      ['image', 'channel', *(heading for heading, _ in _MEASURES.values())],
      table).screen())
  screen.print(f'Measured {len(table)} of {len(paths)} images: {out}',
               soft_wrap=True)
  return len(table) == len(paths)


def _find(patterns, folder):
  """Returns the matching files, sorted, without spectra of earlier runs."""
  own, found = os.path.realpath(folder), set()
  for pattern in patterns:
    matches = {
        path for path in glob.glob(pattern, recursive=True)
        if not os.path.isdir(path)
        and not os.path.realpath(path).startswith(own + os.sep)}
    if not matches:
      raise workdir.RunError(f'--images matches no file: {pattern!r}')
    found |= matches
  return sorted(found)


def _cells(measures):
  return [f'{measure:{style}}' for measure, (_, style) in zip(
      measures, _MEASURES.values(), strict=True)]


def _plain(path):
  """Returns a file name for display, escaped unless it is printable ASCII."""
  return path if path.isascii() and path.isprintable() else ascii(path)[1:-1]


def main(argv: list[str], patterns: list[str], period: int, out: str) -> int:
  """Runs the command and returns its exit status."""
  if argv[1:]:
    raise app.UsageError(
        f'unexpected arguments: {shlex.join(argv[1:])}; is the pattern of '
        '--images in quotes?')
  try:
    complete = run(patterns, period=period, out=pathlib.Path(out))
  except workdir.RunError as error:
    sys.exit(f'error: {error}')
  except OSError as error:
    sys.exit(f'error: --out cannot be written: {error}')
  return 0 if complete else 1


if __name__ == '__main__':
  _IMAGES = flags.DEFINE_multi_string(
      'images', None, 'Pattern of file names, in quotes; ** matches any '
      'folders. Can be given several times.', required=True)
  _PERIOD = flags.DEFINE_integer(
      'period', 2, 'Period of the pattern in pixels.', lower_bound=2)
  _OUT = flags.DEFINE_string(
      'out', 'runs/measure', 'Output folder, created if missing.')
  flags.register_validator('out', bool, '--out must name a folder')
  logging.set_verbosity(logging.WARNING)
  app.run(lambda argv: main(argv, _IMAGES.value, _PERIOD.value, _OUT.value))
