"""The tables of study 3, and what it claims."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import intervals
from experiments.report import page
from experiments.studies import segmentation_models as models

_COLUMNS = {  # Headings and decimals.
    'pooled_iou': ('mIoU, all pixels', 4),
    'iou': ('mIoU by image', 4),
    'resized_iou': ('the same, scores resized', 4),
    'boundary_f': ('boundary F', 4),
    'accuracy': ('accuracy', 4),
    'grid_level_db': ('grid level, dB', 1),
    'truth_grid_level_db': ('of the truth, dB', 1),
    'grid_level_2_db': ('at period 2, dB', 1),
    'phase_nonuniformity': ('rho', 5)}
_CLEAN = 1e-9  # Of rho: less is rounding.
_BASELINE = models.DECODERS[-1]


class Results:
  """The rows of a run."""

  def __init__(self, rows: Sequence[dict[str, Any]]):
    """Takes all rows.

    Args:
      rows: of the results.
    """
    self._values = {}
    for row in rows:
      of_seeds = self._values.setdefault(
          (row['head'], row['decoder'], row['stage']), {})
      of_seeds.setdefault(row['seed'], []).append(row)
    self.heads, self.decoders = (
        list(dict.fromkeys(row[name] for row in rows))
        for name in ('head', 'decoder'))

  def values(self, head: int, decoder: str, measure: str, *,
             stage: str = 'trained') -> np.ndarray:
    """[seeds, images] values."""
    return np.array([[row[measure] for row in rows] for rows in
                     self._values[head, decoder, stage].values()])


def _write(values: np.ndarray, decimals: int, sign: str = '') -> str:
  """The mean of [seeds, images] values, with its interval."""
  mean, low, high = (f'{value:{sign}z.{decimals}f}'
                     for value in intervals.bootstrap(values))
  return f'{mean} [{low}, {high}]'


def headline(results: Results) -> page.Table:
  """The table that is also printed.

  Args:
    results: of the run.

  Returns:
    Means over seeds and images, after training.
  """
  names = ('pooled_iou', 'iou', 'boundary_f', 'grid_level_db',
           'grid_level_2_db')
  return page.Table(
      'After training: means over seeds and images.',
      ('head', 'decoder', *(_COLUMNS[name][0] for name in names)),
      [(str(head), decoder, *(
          f'{results.values(head, decoder, name).mean():z.{_COLUMNS[name][1]}f}'
          for name in names))
       for head in results.heads for decoder in results.decoders])


def every_measure(results: Results, stage: str) -> page.Table:
  """All measures, with their intervals.

  Args:
    results: of the run.
    stage: 'untrained' or 'trained'.

  Returns:
    The table.
  """
  return page.Table(
      f'Every measure, {stage}, with 95 % bootstrap intervals over seeds and '
      'images.',
      ('head', 'decoder', *(heading for heading, _ in _COLUMNS.values())),
      [(str(head), decoder, *(
          _write(results.values(head, decoder, name, stage=stage), decimals)
          for name, (_, decimals) in _COLUMNS.items()))
       for head in results.heads for decoder in results.decoders])


def claims(results: Results) -> page.Table:
  """Says of each claim what was seen.

  Args:
    results: of the run.

  Returns:
    The claims that the run can tell of. One of a difference holds if its whole
    interval is above 0, and does not if it is below; between these, the run
    cannot tell.
  """
  rows = [*_skips(results), *_learning(results), *_grids(results)]
  return page.Table(
      'What is expected, held against this run: differences of the mean '
      'intersection over union by image, with 95 % bootstrap intervals of '
      'differences of the same seed and image; and grids.',
      ('claim', 'seen', 'holds'), rows)


def _difference(claim: str, values: np.ndarray) -> tuple[str, str, str]:
  """A claim that the mean of [seeds, images] values is above 0."""
  _, low, high = intervals.bootstrap(values)
  holds = 'yes' if low > 0 else 'no' if high < 0 else 'cannot tell'
  return claim, _write(values, 4, '+'), holds


def _skips(results):
  """Each skip improves the masks."""
  heads = [head for head in models.HEADS if head in results.heads]
  for decoder in results.decoders:
    for coarse, fine in zip(heads, heads[1:]):
      yield _difference(
          f'{decoder}: head {fine} is better than head {coarse}',
          results.values(fine, decoder, 'iou')
          - results.values(coarse, decoder, 'iou'))


def _learning(results):
  """A learned decoder is at least as good as bilinear interpolation."""
  for head in results.heads:
    if 'learned' not in results.decoders:
      continue
    learned = results.values(head, 'learned', 'iou')
    yield _difference(
        f'head {head}: learned is at least as good as bilinear resize of the '
        'same coarse scores',
        learned - results.values(head, 'learned', 'resized_iou'))
    if _BASELINE in results.decoders:
      yield _difference(
          f'head {head}: learned is at least as good as a network trained with '
          f'{_BASELINE}', learned - results.values(head, _BASELINE, 'iou'))


def _grids(results):
  """Only what is learned without equal phases can paint a grid."""
  for decoder in results.decoders:
    stages = (('untrained', 'trained') if decoder != 'learned'
              else ('untrained',))
    rho = max(results.values(head, decoder, 'phase_nonuniformity',
                             stage=stage).max()
              for head in results.heads for stage in stages)
    yield (f'{decoder}: no grid can be painted'
           + (' before training' if len(stages) == 1 else ''),
           f'rho at most {rho:.1e}', 'yes' if rho < _CLEAN else 'no')
  if 'learned' not in results.decoders:
    return
  for head in results.heads:
    rho = results.values(head, 'learned', 'phase_nonuniformity')
    level = results.values(head, 'learned', 'grid_level_db')
    above = level - results.values(head, 'learned', 'truth_grid_level_db')
    yield (f'head {head}: training gives the learned decoder a grid, above '
           'that of the truth',
           f'rho {rho.mean():.1e}, {_write(above, 1, "+")} dB',
           'yes' if intervals.bootstrap(above).low > 0 else 'no')
