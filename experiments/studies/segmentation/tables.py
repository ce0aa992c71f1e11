"""The tables of the segmentation study."""

from experiments.harness import results as results_lib
from experiments.harness.results import Results
from experiments.harness.results import Table

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


def headline(results: Results) -> Table:
  """The most important metrics, after training; also printed."""
  names = ('pooled_iou', 'iou', 'boundary_f', 'grid_level_db',
           'grid_level_2_db')
  return Table(
      'After training: means over seeds and images.',
      ('head', 'decoder', *(_COLUMNS[name][0] for name in names)),
      [(str(head), decoder, *(
          f'{trained.values(name).mean():z.{_COLUMNS[name][1]}f}'
          for name in names))
       for head, decoder, trained in _networks(results, 'trained')])


def every_metric(results: Results, stage: str) -> Table:
  """All metrics with their intervals, of a stage of training."""
  return Table(
      f'Every metric, {stage}, with 95 % bootstrap intervals over seeds and '
      'images.',
      ('head', 'decoder', *(heading for heading, _ in _COLUMNS.values())),
      [(str(head), decoder, *(
          results_lib.bootstrap(rows.values(name)).text(decimals)
          for name, (_, decimals) in _COLUMNS.items()))
       for head, decoder, rows in _networks(results, stage)])


def _networks(results: Results, stage: str):
  """Head, decoder and rows of each kind of network."""
  for head in results.distinct('head'):
    for decoder in results.distinct('decoder'):
      yield head, decoder, results.where(
          head=head, decoder=decoder, stage=stage)
