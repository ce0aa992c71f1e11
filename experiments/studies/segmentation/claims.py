"""What the segmentation study is expected to show, and what it shows."""

from collections.abc import Iterator

import numpy as np

from experiments.harness import results as results_lib
from experiments.harness.results import Claim
from experiments.harness.results import Results
from experiments.harness.results import Table
from experiments.studies.segmentation import model

_CLEAN = 1e-9  # Of rho: less is rounding.
_BASELINE = model.DECODERS[-1]


def table(results: Results) -> Table:
  """Tests each claim on the rows of a run.

  A claim about a difference holds if the whole interval is above 0, and does
  not if it is below 0; otherwise, the run cannot tell.
  """
  return results_lib.claims_table(
      'Expectations, tested on this run: differences of the mean intersection '
      'over union by image, with 95 % bootstrap intervals of differences of '
      'the same seed and image; and grids.',
      [*_skips(results), *_learning(results), *_grids(results)])


def _values(results: Results, head: int, decoder: str, metric: str,
            stage: str = 'trained') -> np.ndarray:
  """[seeds, images] values."""
  return results.values(metric, head=head, decoder=decoder, stage=stage)


def _difference(text: str, values: np.ndarray) -> Claim:
  """A claim that the mean of [seeds, images] values is above 0."""
  interval = results_lib.bootstrap(values)
  holds = ('yes' if interval.low > 0 else
           'no' if interval.high < 0 else 'cannot tell')
  return Claim(text, interval.text(4, '+'), holds)


def _skips(results: Results) -> Iterator[Claim]:
  """Each skip connection improves the masks."""
  heads = [h for h in model.HEADS if h in results.distinct('head')]
  for decoder in results.distinct('decoder'):
    for coarse, fine in zip(heads, heads[1:]):
      yield _difference(
          f'{decoder}: head {fine} is better than head {coarse}',
          _values(results, fine, decoder, 'iou')
          - _values(results, coarse, decoder, 'iou'))


def _learning(results: Results) -> Iterator[Claim]:
  """A learned decoder is at least as good as bilinear interpolation."""
  decoders = results.distinct('decoder')
  if 'learned' not in decoders:
    return
  for head in results.distinct('head'):
    learned = _values(results, head, 'learned', 'iou')
    yield _difference(
        f'head {head}: learned is at least as good as bilinear resize of the '
        'same coarse scores',
        learned - _values(results, head, 'learned', 'resized_iou'))
    if _BASELINE in decoders:
      yield _difference(
          f'head {head}: learned is at least as good as a network trained with '
          f'{_BASELINE}', learned - _values(results, head, _BASELINE, 'iou'))


def _grids(results: Results) -> Iterator[Claim]:
  """Only a decoder that is learned without equal phases can leave a grid."""
  heads, decoders = results.distinct('head'), results.distinct('decoder')
  for decoder in decoders:
    stages = (('untrained', 'trained') if decoder != 'learned'
              else ('untrained',))
    rho = results.values('phase_nonuniformity', decoder=decoder, stage=stages
                         ).max()
    yield Claim(f'{decoder}: no grid is possible'
                + (' before training' if len(stages) == 1 else ''),
                f'rho at most {rho:.1e}', 'yes' if rho < _CLEAN else 'no')
  if 'learned' not in decoders:
    return
  for head in heads:
    rho = _values(results, head, 'learned', 'phase_nonuniformity')
    above = results_lib.bootstrap(
        _values(results, head, 'learned', 'grid_level_db')
        - _values(results, head, 'learned', 'truth_grid_level_db'))
    yield Claim(
        f'head {head}: training gives the learned decoder a grid above that of '
        'the truth', f'rho {rho.mean():.1e}, {above.text(1, "+")} dB',
        'yes' if above.low > 0 else 'no')
