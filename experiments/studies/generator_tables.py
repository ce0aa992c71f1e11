"""The tables of study 2."""

from collections.abc import Sequence
import statistics
from typing import Any

from experiments.report import page

_QUALITY = {'accuracy': ('class accuracy', 3),
            'frechet_distance': ('Fréchet distance', 1)}
_GRIDS = {'grid_level_2_db': ('grid level at period 2, dB', 1),
          'grid_level_4_db': ('at period 4 only, dB', 1),
          'grid_amplitude_2': ('amplitude at period 2', 2),
          'grid_amplitude_4': ('at period 4 only', 2)}
_GROWTH = {'amplitude_means_0': ('means x 0', 2),
           'amplitude_means_0.5': ('x 1/2', 2),
           'amplitude_means_1': ('x 1', 2),
           'amplitude_means_2': ('x 2', 2),
           'predicted_amplitude': ('predicted for x 1', 2),
           'color_correlation': ('correlation with mean colour', 2),
           'painted_level_db': ('grid level, dB', 1)}
_GRADIENTS = {'gradient_level_db': ('grid level, dB', 1),
              'gradient_share': ('share of the power', 4),
              'gradient_size_level_db': ('grid level of the size, dB', 1)}
# Parts and stages that stand side by side.
_TRAINED = [('real images', 'real'), ('generator', 'trained')]
_RANGES = 'Means over seeds, with the least and the largest in brackets'


class Results:
  """The rows of a run."""

  def __init__(self, rows: Sequence[dict[str, Any]]):
    """Takes the rows of all results."""
    self._rows = rows

  def names(self, part: str, stage: str) -> list[str]:
    """Names of a part that has been through a stage, each once."""
    return list(dict.fromkeys(
        row['name'] for row in self._rows
        if (row['part'], row['stage']) == (part, stage)))

  def values(self, part: str, name: str, stage: str,
             measure: str) -> list[float]:
    """Of all seeds; empty where it was not measured."""
    values = [
        row.get(measure) for row in self._rows
        if (row['part'], row['name'], row['stage']) == (part, name, stage)]
    return [value for value in values if value is not None]

  def mean(self, part: str, name: str, stage: str, measure: str) -> float:
    """Over all seeds."""
    return statistics.mean(self.values(part, name, stage, measure))

  def cell(self, part: str, name: str, stage: str, measure: str,
           decimals: int) -> str | None:
    """The mean, and the range where there are several seeds."""
    values = self.values(part, name, stage, measure)
    if not values:
      return None
    mean, low, high = (f'{value:z.{decimals}f}' for value in (
        statistics.mean(values), min(values), max(values)))
    return mean if len(values) == 1 else f'{mean} [{low}, {high}]'


def headline(results: Results) -> page.Table:
  """What was generated, beside real images.

  Args:
    results: of the run.

  Returns:
    The table that is also printed.
  """
  levels = {name: column for name, column in _GRIDS.items() if 'level' in name}
  return _table(
      'Trained generators beside real images. Fréchet distances are to the '
      'real images held out: that of those for training is the floor.',
      'images', {**_QUALITY, **levels}, results, _TRAINED)


def grids(results: Results, stage: str) -> page.Table:
  """Grid levels and amplitudes.

  Args:
    results: of the run.
    stage: 'untrained' or 'trained'.

  Returns:
    The table, with real images beside trained generators.
  """
  return _table(
      f'Generators {stage}. Amplitudes are in 8-bit levels. {_RANGES}.',
      'stack', _GRIDS, results,
      _TRAINED if stage == 'trained' else [('generator', stage)])


def growth(results: Results, stage: str) -> page.Table:
  """How the grid follows the means of what the last stage enlarges.

  Args:
    results: of the run.
    stage: 'untrained' or 'trained'.

  Returns:
    The table.
  """
  return _table(
      f'Networks {stage}, before tanh: amplitude at period 2 in 8-bit levels, '
      'if the channel means of what the last stage enlarges are multiplied and '
      'all else is kept; what follows from its phase gains and the means; the '
      'correlation, over images, of the amplitude with the distance of the '
      f'mean colour from grey; and the grid level. {_RANGES}.', 'stack',
      _GROWTH, results, [('generator', stage)])


def gradients(results: Results) -> page.Table:
  """The grids of what a discriminator sends back.

  Args:
    results: of the run.

  Returns:
    The table.
  """
  return _table(
      'Gradient of the discriminator\'s output by the pixels of real images, '
      f'at period 2. {_RANGES}. A trained one is named after the stack that it '
      'was trained against.', 'layers', _GRADIENTS, results,
      [('discriminator', 'untrained'), ('discriminator', 'trained')])


def _table(caption, heading, columns, results, parts):
  """A row for each name; columns that no row has are left out."""
  rows = [(name, *(results.cell(part, name, stage, measure, decimals)
                   for measure, (_, decimals) in columns.items()))
          for part, stage in parts for name in results.names(part, stage)]
  table = [(heading, *(title for title, _ in columns.values())), *rows]
  kept = [column for column in zip(*table) if any(column[1:])]
  return page.Table(caption, [column[0] for column in kept],
                    list(zip(*(column[1:] for column in kept))))
