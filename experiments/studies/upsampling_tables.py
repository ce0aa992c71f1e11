"""The tables of study 1."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import intervals
from experiments.data import photographs
from experiments.report import page
from experiments.studies import upsamplers

TRUTH = 'ground truth'
_INTERVALS = (
    'In brackets: 95 % bootstrap intervals over seeds and images. Images '
    'differ much in PSNR; the table of cures does not suffer from that.')
_COLUMNS = {  # Of the table of all measures: headings and decimals.
    'psnr_db': ('PSNR, dB', 2), 'ssim': ('SSIM', 4),
    'grid_level_db': ('grid level, dB', 1),
    'grid_amplitude': ('grid amplitude', 3),
    'predicted_amplitude': ('predicted from the kernel', 3),
    'grid_rows': ('in rows', 3), 'grid_columns': ('in columns', 3),
    'grid_diagonals': ('in diagonals', 3), 'imaging': ('imaging', 3),
    'grid_share': ('share of the error', 5),
    'excess_grid_energy': ('excess energy', 4),
    'log_spectral_distance_db': ('log spectral distance, dB', 2),
    'high_frequency_bias_db': ('high-frequency bias, dB', 2),
    'phase_nonuniformity': ('rho, any input', 4),
    'input_nonuniformity': ('rho, this input', 6),
    'variance_ratio': ('noise gain, max / min', 2),
    'penalty': ('penalty', 5)}


class Results:
  """The rows of one scale and the stages to look at."""

  def __init__(self, rows: Sequence[dict[str, Any]], scale: int,
               stages: Sequence[str] = ('fixed', 'trained')):
    """Picks the rows.

    Args:
      rows: of all results.
      scale: factor.
      stages: 'untrained', 'trained', 'fixed'.
    """
    self.rows = [row for row in rows
                 if row['scale'] == scale and row['stage'] in stages]
    self.names = list(dict.fromkeys(row['upsampler'] for row in self.rows))

  def values(self, name: str, measure: str) -> np.ndarray:
    """[seeds, images] values; those of the truth are the same in all rows."""
    if name == TRUTH:
      name, measure = self.names[0], f'truth_{measure}'
    flat = [row[measure] for row in self.rows if row['upsampler'] == name]
    return np.reshape(flat, (-1, len(photographs.TEST)))

  def interval(self, name: str, measure: str) -> intervals.Interval | None:
    """Mean over seeds and images; None where the truth has no such measure."""
    if name == TRUTH and f'truth_{measure}' not in self.rows[0]:
      return None
    return intervals.bootstrap(self.values(name, measure))

  def cell(self, name: str, measure: str, decimals: int) -> str | None:
    interval = self.interval(name, measure)
    return None if interval is None else f'{interval.mean:z.{decimals}f}'


def _write(interval: intervals.Interval | None, decimals: int) -> str | None:
  if interval is None:
    return None
  mean, low, high = (f'{value:z.{decimals}f}' for value in interval)
  return f'{mean} [{low}, {high}]'


def headline(results: Results) -> page.Table:
  """The table that is also printed.

  Args:
    results: of one scale.

  Returns:
    The means over images and seeds.
  """
  columns = ('psnr_db', 'ssim', 'grid_level_db', 'grid_amplitude')
  return page.Table(
      f'Means over {", ".join(photographs.TEST)}.',
      ('upsampler', *(_COLUMNS[c][0] for c in columns)),
      [(name, *(results.cell(name, c, _COLUMNS[c][1]) for c in columns))
       for name in (TRUTH, *results.names)])


def cures(results: Results) -> page.Table:
  """What each cure changes, against the plain layer of the same kernel.

  Args:
    results: of one scale.

  Returns:
    Differences with their intervals, seed by seed and image by image.
  """
  rows = []
  for name in results.names:
    plain, cure = _plain(name)
    if cure and plain in results.names:
      rows.append((plain, cure, *(
          _write(intervals.bootstrap(
              results.values(name, measure) - results.values(plain, measure)),
                 decimals)
          for measure, decimals in (
              ('grid_level_db', 1), ('psnr_db', 3), ('grid_amplitude', 3)))))
  return page.Table(
      'What cures change, with 95 % bootstrap intervals over seeds and images, '
      'by differences of the same seed and image.',
      ('upsampler', 'cure', 'grid level, dB', 'PSNR, dB', 'grid amplitude'),
      rows)


def _plain(name: str) -> tuple[str, str | None]:
  """The plain layer that an upsampler is to be compared with, and the cure."""
  if name == 'sub-pixel ICNR':
    return 'sub-pixel', 'ICNR'
  for cure in upsamplers.CURES:
    if name.endswith(f' {cure}'):
      return name.removesuffix(f' {cure}'), cure
  return name, None


def costs(results: Results, timings: Mapping[str, float]) -> page.Table:
  """Means with intervals, how sure the grid is, and what an upsampler costs.

  Args:
    results: of one scale.
    timings: ms for the image of the figure, by name.

  Returns:
    The table.
  """
  rows = []
  for name in (TRUTH, *results.names):
    sure = results.values(name, 'grid_p_value').ravel() < .05
    rows.append((
        name, _write(results.interval(name, 'psnr_db'), 2),
        _write(results.interval(name, 'grid_level_db'), 1),
        f'{sure.sum()} of {sure.size}',
        results.cell(name, 'parameters', 0),
        results.cell(name, 'multiply_adds', 0),
        None if name == TRUTH else f'{timings[name]:.1f}'))
  return page.Table(
      _INTERVALS,
      ('upsampler', 'PSNR, dB', 'grid level, dB', 'grid seen at p < .05',
       'parameters', 'multiply-adds per pixel', 'ms per image'), rows)


def by_image(results: Results) -> page.Table:
  """PSNR and grid level of each image, beside those of its ground truth.

  Args:
    results: of one scale.

  Returns:
    Means over seeds.
  """
  cells = lambda name: (
      None if results.interval(name, measure) is None
      else f'{results.values(name, measure).mean(0)[i]:z.{decimals}f}'
      for i in range(len(photographs.TEST))
      for measure, decimals in (('psnr_db', 2), ('grid_level_db', 1)))
  return page.Table(
      'Each image: PSNR and grid level, dB.',
      ('upsampler', *(column for image in photographs.TEST
                      for column in (f'{image} PSNR', f'{image} grid'))),
      [(name, *cells(name)) for name in (TRUTH, *results.names)])


def every_measure(results: Results, caption: str) -> page.Table:
  """All measures.

  Args:
    results: of one scale.
    caption: of the table.

  Returns:
    Means over images and seeds.
  """
  return page.Table(
      caption, ('upsampler', *(heading for heading, _ in _COLUMNS.values())),
      [(name, *(results.cell(name, measure, decimals)
                for measure, (_, decimals) in _COLUMNS.items()))
       for name in (TRUTH, *results.names)])
