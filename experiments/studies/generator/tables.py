"""The tables of the generator study.

Every function takes the rows of a run. Cells are means over seeds, with the
least and the largest in brackets if there are several.
"""

import numpy as np

from experiments.harness import results as results_lib
from experiments.harness.results import Results
from experiments.harness.results import Table

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
           'color_correlation': ('correlation with mean color', 2),
           'painted_level_db': ('grid level, dB', 1)}
_GRADIENTS = {'gradient_level_db': ('grid level, dB', 1),
              'gradient_share': ('share of the power', 4),
              'gradient_size_level_db': ('grid level of the size, dB', 1)}
# Parts and stages that stand side by side.
_TRAINED = [('real images', 'real'), ('generator', 'trained')]
_RANGES = 'Means over seeds, with the least and the largest in brackets'


def names(results: Results, part: str, stage: str) -> list[str]:
  """Names of a part at a stage, in order of appearance.

  Parts are 'generator', 'discriminator' and 'real images'; stages are
  'untrained', 'trained' and 'real'.
  """
  return results.where(part=part, stage=stage).distinct('name')


def mean(results: Results, part: str, name: str, stage: str,
         metric: str) -> float:
  """Mean of a metric over seeds."""
  return float(results.values(
      metric, part=part, name=name, stage=stage).mean())


def _cell(values: np.ndarray, decimals: int) -> str | None:
  """The mean over seeds, and the range if there are several."""
  if not values.size:
    return None
  if values.size == 1:
    return f'{values.item():z.{decimals}f}'
  return results_lib.Interval(
      values.mean(), values.min(), values.max()).text(decimals)


def headline(results: Results) -> Table:
  """Trained generators beside real images; this table is also printed."""
  levels = {name: column for name, column in _GRIDS.items() if 'level' in name}
  return _table(
      'Trained generators beside real images. Fréchet distances are to the '
      'real images held out: that of those for training is the floor.',
      'images', {**_QUALITY, **levels}, results, _TRAINED)


def grids(results: Results, stage: str) -> Table:
  """Grid levels and amplitudes of a stage; real images if it is trained."""
  return _table(
      f'Generators {stage}. Amplitudes are in 8-bit levels. {_RANGES}.',
      'stack', _GRIDS, results,
      _TRAINED if stage == 'trained' else [('generator', stage)])


def growth(results: Results, stage: str) -> Table:
  """How the grid follows the means of the last stage's input."""
  return _table(
      f'Networks {stage}, before tanh: amplitude at period 2 in 8-bit levels, '
      'if the channel means of what the last stage enlarges are multiplied and '
      'all else is kept; what follows from its phase gains and the means; the '
      'correlation, over images, of the amplitude with the distance of the '
      f'mean color from grey; and the grid level. {_RANGES}.', 'stack',
      _GROWTH, results, [('generator', stage)])


def gradients(results: Results) -> Table:
  """Grids in the input gradients of discriminators."""
  return _table(
      'Gradient of the discriminator\'s output by the pixels of real images, '
      f'at period 2. {_RANGES}. A trained one is named after the stack that it '
      'was trained against.', 'layers', _GRADIENTS, results,
      [('discriminator', 'untrained'), ('discriminator', 'trained')])


def _table(caption, heading, columns, results, parts):
  """A row for each name; columns that no row has are left out."""
  rows = [(name, *(
      _cell(results.values(metric, part=part, name=name, stage=stage), decimals)
      for metric, (_, decimals) in columns.items()))
          for part, stage in parts for name in names(results, part, stage)]
  table = [(heading, *(title for title, _ in columns.values())), *rows]
  kept = [column for column in zip(*table) if any(column[1:])]
  return Table(caption, [column[0] for column in kept],
                    list(zip(*(column[1:] for column in kept))))
