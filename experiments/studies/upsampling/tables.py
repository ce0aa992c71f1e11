"""The tables of the upsampling study.

Every function takes the rows of one scale, after training unless it says
otherwise. Values are means over seeds and images.
"""

from collections.abc import Mapping

import numpy as np

from experiments import upsamplers
from experiments.data import photographs
from experiments.harness import results as results_lib
from experiments.harness.results import Results
from experiments.harness.results import Table

TRUTH = 'ground truth'
_INTERVALS = (
    'In brackets: 95 % bootstrap intervals over seeds and images. Images '
    'differ much in PSNR; the table of cures compares the same images and does '
    'not suffer from that.')
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


def names(results: Results) -> list[str]:
  """Names of the upsamplers, in order of appearance."""
  return results.distinct('upsampler')


def values(results: Results, name: str, metric: str) -> np.ndarray:
  """[seeds, images] values of an upsampler, or of the ground truth (`TRUTH`).

  The result is empty where the truth has no such metric.
  """
  if name == TRUTH:  # Its metrics are the same in all rows.
    name, metric = names(results)[0], f'truth_{metric}'
  return results.values(metric, upsampler=name)


def _mean(results: Results, name: str, metric: str, decimals: int
          ) -> str | None:
  found = values(results, name, metric)
  return f'{found.mean():z.{decimals}f}' if found.size else None


def _interval(results: Results, name: str, metric: str, decimals: int
              ) -> str | None:
  found = values(results, name, metric)
  return results_lib.bootstrap(found).text(decimals) if found.size else None


def headline(results: Results) -> Table:
  """The most important metrics; this table is also printed."""
  columns = ('psnr_db', 'ssim', 'grid_level_db', 'grid_amplitude')
  return Table(
      f'Enlarged by {results.distinct("scale")[0]}: means over '
      f'{", ".join(photographs.TEST)}.',
      ('upsampler', *(_COLUMNS[c][0] for c in columns)),
      [(name, *(_mean(results, name, c, _COLUMNS[c][1]) for c in columns))
       for name in (TRUTH, *names(results))])


def cures(results: Results) -> Table:
  """Differences between each cure and the same upsampler without it.

  Differences are taken of the same seed and image.
  """
  rows = []
  for name in names(results):
    upsampler = upsamplers.REGISTRY[name]
    if upsampler.cure and upsampler.base in names(results):
      rows.append((upsampler.base, upsampler.cure, *(
          results_lib.bootstrap(
              values(results, name, metric)
              - values(results, upsampler.base, metric)).text(decimals)
          for metric, decimals in (
              ('grid_level_db', 1), ('psnr_db', 3), ('grid_amplitude', 3)))))
  return Table(
      'What cures change, with 95 % bootstrap intervals over seeds and images, '
      'by differences of the same seed and image.',
      ('upsampler', 'cure', 'grid level, dB', 'PSNR, dB', 'grid amplitude'),
      rows)


def costs(results: Results, timings: Mapping[str, float]) -> Table:
  """Intervals, the certainty of the grid, and what an upsampler costs.

  `timings` are milliseconds for the image of the figure, by upsampler.
  """
  rows = []
  for name in (TRUTH, *names(results)):
    sure = values(results, name, 'grid_p_value').ravel() < .05
    rows.append((
        name, _interval(results, name, 'psnr_db', 2),
        _interval(results, name, 'grid_level_db', 1),
        f'{sure.sum()} of {sure.size}',
        _mean(results, name, 'parameters', 0),
        _mean(results, name, 'multiply_adds', 0),
        None if name == TRUTH else f'{timings[name]:.1f}'))
  return Table(
      _INTERVALS,
      ('upsampler', 'PSNR, dB', 'grid level, dB', 'grid seen at p < .05',
       'parameters', 'multiply-adds per pixel', 'ms per image'), rows)


def by_image(results: Results) -> Table:
  """PSNR and grid level of each image, means over seeds."""
  def cells(name):
    for i in range(len(photographs.TEST)):
      for metric, decimals in (('psnr_db', 2), ('grid_level_db', 1)):
        found = values(results, name, metric)
        yield f'{found.mean(0)[i]:z.{decimals}f}' if found.size else None

  return Table(
      'Each image: PSNR and grid level, dB.',
      ('upsampler', *(column for image in photographs.TEST
                      for column in (f'{image} PSNR', f'{image} grid'))),
      [(name, *cells(name)) for name in (TRUTH, *names(results))])


def every_metric(results: Results, caption: str) -> Table:
  """All metrics, of any stage of training."""
  return Table(
      caption, ('upsampler', *(heading for heading, _ in _COLUMNS.values())),
      [(name, *(_mean(results, name, metric, decimals)
                for metric, (_, decimals) in _COLUMNS.items()))
       for name in (TRUTH, *names(results))])
