"""How often `grid_test` sees a pattern where none is, and finds one that is.

    python -m experiments.calibration --out=docs/calibration.md

Measures it on white noise and on crops of photographs, in luminance, with and
without a pattern painted over them. Takes about three minutes on two cores. In
the page it replaces the table and the versions below; the text around them is
written by hand, and to be read again.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from importlib import metadata
import pathlib
import re

from absl import app
from absl import flags
from absl import logging
import jax
import numpy as np
import rich.console
import rich.progress

from experiments.data import photographs
from tconv import spectrum

SIZES = (64, 128, 256)
PERIODS = (2, 3, 4)
AMPLITUDES = (0., .5, 1., 2.)  # Root mean squares in 8-bit levels.
SIGNIFICANCES = (.05, .01)
NOISES = 2500  # Whose rates have a standard error of .44 points, or less.
NOISE_LEVEL = 10.  # Of white noise, in 8-bit levels.
_BATCH = 250
# The part of the page that is measured.
_MEASURED = re.compile(r'^(\| images .*?^Measured with .*?\n)', re.M | re.S)

# Kind, size, period, number of images; by amplitude, the rate of rejection at
# each significance.
Row = tuple[str, int, int, int, list[list[float]]]


def crops(names: Sequence[str], size: int) -> np.ndarray:
  """Cuts photographs into squares that do not overlap.

  Args:
    names: of photographs.
    size: of a crop in pixels; what is left over at the ends is not used.

  Returns:
    [N, size, size, 1] luminance in [0, 1].
  """
  squares = []
  for name in names:
    image = photographs.load(name)
    h, w = (s // size for s in image.shape[:2])
    blocks = image[:h * size, :w * size].reshape(h, size, w, size, 1)
    squares.append(blocks.swapaxes(1, 2).reshape(-1, size, size, 1))
  return np.concatenate(squares)


def white_noise(count: int, size: int, seed: int) -> np.ndarray:
  """[count, size, size, 1] Gaussian noise of `NOISE_LEVEL` around mid-grey."""
  noise = np.random.default_rng(seed).normal(size=(count, size, size, 1))
  return (.5 + NOISE_LEVEL / 255 * noise).astype(np.float32)


def patterns(count: int, period: int, size: int, seed: int) -> np.ndarray:
  """Draws patterns that repeat, with a random value at each phase.

  Args:
    count: how many.
    period: in pixels.
    size: of an image in pixels.
    seed: what they depend on.

  Returns:
    [count, size, size, 1] patterns of zero mean and, over a period, a root mean
    square of one 8-bit level.
  """
  tiles = np.random.default_rng(seed).normal(size=(count, period, period, 1))
  tiles -= tiles.mean((1, 2), keepdims=True)
  tiles /= 255 * np.sqrt((tiles**2).mean((1, 2), keepdims=True))
  phases = np.arange(size) % period
  return tiles[:, phases][:, :, phases].astype(np.float32)


def p_values(images: np.ndarray, period: int, amplitude: float,
             seed: int) -> np.ndarray:
  """[N] p-values of [N, size, size, 1] images with a pattern painted over."""
  test = jax.jit(spectrum.grid_test, static_argnums=1)
  painted = images + amplitude * patterns(
      len(images), period, images.shape[1], seed)
  return np.concatenate([
      test(painted[i:i + _BATCH], period)[:, 0]
      for i in range(0, len(images), _BATCH)])


def measure(kind: str, images: np.ndarray) -> Iterator[Row]:
  """Measures how often the test rejects, with and without patterns.

  Args:
    kind: what the images are called.
    images: [N, size, size, 1] without any pattern, in [0, 1].

  Yields:
    A row of the table for each period.
  """
  for period in PERIODS:
    rates = []
    for seed, amplitude in enumerate(AMPLITUDES):
      p = p_values(images, period, amplitude, seed)
      rates.append([float((p <= s).mean()) for s in SIGNIFICANCES])
    yield kind, images.shape[1], period, len(images), rates


def table_of(rows: Sequence[Row]) -> str:
  """The rows in Markdown, with rates in per cent."""
  names = ['images', 'size', 'period', 'number', 'no pattern', *(
      f'rms {a:g}' for a in AMPLITUDES[1:])]
  lines = [names, ['---'] * len(names)]
  for *facts, rates in rows:
    cells = [' / '.join(f'{100 * r:.1f}' for r in pair) for pair in rates]
    lines.append([*map(str, facts), *cells])
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def run(out: str, console: rich.console.Console) -> None:
  """Measures, prints the table, and writes it down with what it means.

  Args:
    out: Markdown file whose table is replaced; none if empty.
    console: where to print.
  """
  sources = {
      'white noise': lambda size: white_noise(NOISES, size, seed=size),
      'test photographs': lambda size: crops(photographs.TEST, size),
      'training photographs': lambda size: crops(photographs.TRAIN, size)}
  jobs = [(kind, size) for kind in sources for size in SIZES]
  rows = []
  for kind, size in rich.progress.track(
      jobs, 'Measuring', console=console, disable=not console.is_terminal):
    rows += measure(kind, sources[kind](size))
  versions = ', '.join(f'{name} {metadata.version(name)}' for name in (
      'jax', 'numpy', 'scikit-image', 'scikit-learn'))
  table = f'{table_of(rows)}\n\nMeasured with {versions}.\n'
  console.print(table, soft_wrap=True, markup=False, highlight=False)
  if out:
    page = pathlib.Path(out)
    start, _, end = _MEASURED.split(page.read_text(encoding='utf-8'))
    page.write_text(start + table + end, encoding='utf-8')


if __name__ == '__main__':
  _OUT = flags.DEFINE_string(
      'out', '', 'Markdown file whose table is replaced.')
  logging.set_verbosity(logging.WARNING)
  app.run(lambda _: run(_OUT.value, rich.console.Console()))
