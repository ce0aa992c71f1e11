"""Measures the rates of false positives and of detection of `grid_test`.

    python -m experiments.calibration --out=docs/calibration.md

The images are white noise and crops of photographs, in luminance, with and
without a pattern added to them. Takes about three minutes on two cores. In the
page, only the table and the versions below it are replaced; check that the text
around them still fits.
"""

from collections.abc import Iterator
from collections.abc import Sequence

from absl import app
from absl import flags
from absl import logging
import jax
import numpy as np
import rich.console
import rich.progress

from experiments import commands
from experiments.data import photographs
from experiments.harness.results import Table
from tconv import spectrum

SIZES = (64, 128, 256)
PERIODS = (2, 3, 4)
AMPLITUDES = (0., .5, 1., 2.)  # Rms in 8-bit levels.
SIGNIFICANCES = (.05, .01)
# Number of noise images. The standard error of a rate near 5 % is .44 points.
NOISES = 2500
NOISE_LEVEL = 10.  # Rms of white noise in 8-bit levels.
_BATCH = 250

# Kind, size, period, number of images, and for each amplitude the rates of
# rejection at each significance.
Row = tuple[str, int, int, int, list[list[float]]]


def crops(names: Sequence[str], size: int) -> np.ndarray:
  """Cuts photographs into [N, size, size, 1] squares that do not overlap."""
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
  """Draws periodic patterns with a random value at each phase.

  Args:
    count: number of patterns.
    period: period in pixels.
    size: side of an image in pixels.
    seed: random seed.

  Returns:
    [count, size, size, 1] patterns whose mean over a period is 0 and whose rms
    is one 8-bit level.
  """
  tiles = np.random.default_rng(seed).normal(size=(count, period, period, 1))
  tiles -= tiles.mean((1, 2), keepdims=True)
  tiles /= 255 * np.sqrt((tiles**2).mean((1, 2), keepdims=True))
  phases = np.arange(size) % period
  return tiles[:, phases][:, :, phases].astype(np.float32)


def p_values(images: np.ndarray, period: int, amplitude: float,
             seed: int) -> np.ndarray:
  """Returns [N] p-values of [N, size, size, 1] images with added patterns."""
  test = jax.jit(spectrum.grid_test, static_argnums=1)
  painted = images + amplitude * patterns(
      len(images), period, images.shape[1], seed)
  return np.concatenate([
      test(painted[i:i + _BATCH], period)[:, 0]
      for i in range(0, len(images), _BATCH)])


def measure(kind: str, images: np.ndarray) -> Iterator[Row]:
  """Measures how often the test rejects [N, size, size, 1] images in [0, 1].

  Args:
    kind: name of the images in the table.
    images: images without a pattern, to which patterns are added.

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
  """Formats rows in Markdown, with rates in per cent."""
  names = ['images', 'size', 'period', 'number', 'no pattern', *(
      f'rms {a:g}' for a in AMPLITUDES[1:])]
  return Table('', names, [
      (*map(str, facts), *(
          ' / '.join(f'{100 * r:.1f}' for r in pair) for pair in rates))
      for *facts, rates in rows]).markdown().lstrip()


def run(out: str, console: rich.console.Console) -> None:
  """Measures, prints the table, and replaces that of a page.

  Args:
    out: path of the Markdown page; empty to print only.
    console: console to print on.
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
  versions = commands.listed(commands.versions(
      'jax', 'numpy', 'scikit-image', 'scikit-learn'))
  table = f'{table_of(rows)}\n\nMeasured with {versions}.'
  console.print(table, soft_wrap=True, markup=False, highlight=False)
  if out:
    commands.replace_part(out, '| images ', 'Measured with ', table)


if __name__ == '__main__':
  _OUT = flags.DEFINE_string(
      'out', '', 'Markdown page whose table is replaced.')
  logging.set_verbosity(logging.WARNING)
  app.run(lambda _: run(_OUT.value, rich.console.Console()))
