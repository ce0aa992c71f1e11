"""The report of the segmentation study: tables and figures."""

from collections.abc import Mapping

import ml_collections
import numpy as np

from experiments.harness import page as page_lib
from experiments.harness import step_times
from experiments.harness.study import Run
from experiments.report import charts
from experiments.report import sheets
from experiments.studies.segmentation import claims
from experiments.studies.segmentation import data as data_lib
from experiments.studies.segmentation import metrics
from experiments.studies.segmentation import tables

_SUMMARY = (
    'Networks learned the class of every pixel of {what}. Head 8 scores the '
    'classes on a grid of an eighth of the image; heads 4 and 2 add the scores '
    'of finer grids. The scores are enlarged by transposed convolutions that '
    'start as bilinear interpolation and are learned, frozen, or learned with '
    'equal phases; or by bilinear interpolation itself. mIoU is the mean over '
    'classes of intersection over union, boundary F the F-score of boundaries '
    'within {pixels} pixel(s): 1 is perfect. The grid level measures how far a '
    'pattern of the decoder\'s period stands out of the spectrum of the '
    'logits: about 0 dB is chance, 10 dB is ten times the power around it. rho '
    'is the share of a constant\'s output power that is such a pattern, for '
    'any input.')

Seen = Mapping[tuple[int, str], metrics.Seen]


def page(config: ml_collections.ConfigDict, run: Run, data: data_lib.Data,
         seen: Seen) -> page_lib.Page:
  """Makes the report.

  Args:
    config: config of the study.
    run: what to report on.
    data: data of the study.
    seen: results of trained networks of the first seed on the test images, by
      head and decoder.

  Returns:
    The page.
  """
  headline = tables.headline(run.results)
  what = ('semi-synthetic mosaics of textures' if config.data == 'textures'
          else 'the images of a folder')
  return page_lib.Page(
      'Semantic segmentation', _SUMMARY.format(
          what=what, pixels=metrics.tolerance(config.size)),
      [page_lib.Section('Results', [headline, _masks(config, run, data, seen)]),
       page_lib.Section('Expectations', [claims.table(run.results)]),
       page_lib.Section('Spectra of logits', [
           _spectra(config, run, data, seen, head) for head in config.heads]),
       page_lib.Section('Training', [
           _curves(config, run, seen), *step_times.tables(
               'A training step of a learned decoder', run.timings, ['head'])]),
       page_lib.Section('All numbers', [
           tables.every_metric(run.results, stage)
           for stage in ('trained', 'untrained')])],
      data.credits, [headline])


def _masks(config, run: Run, data: data_lib.Data, seen: Seen
           ) -> page_lib.Figure:
  first = {name: x[:config.pictures] for name, x in data.test.items()}
  return run.save('masks', sheets.sheet({
      'image': list(first['image'].squeeze(-1) if first['image'].shape[-1] == 1
                    else first['image']),
      'truth': list(first['mask']),
      **{'\n'.join((f'head {head},', *decoder.split())):
         list(found.masks[:config.pictures])
         for (head, decoder), found in seen.items()}}),
      f'Test images, true masks ({", ".join(data.classes)} in the order blue, '
      f'orange, green), and those of networks of seed {config.seeds[0]}.')


def _spectra(config, run: Run, data: data_lib.Data, seen: Seen, head: int
             ) -> page_lib.Figure:
  return run.save(f'spectra_{head}', sheets.mean_spectra({
      'truth': _inner(np.eye(len(data.classes))[data.test['mask']]),
      **{decoder: _inner(seen[head, decoder].logits)
         for decoder in config.decoders}}, period=head),
      f'Head {head}: mean spectra of true masks and of logits, of all classes '
      f'and test images, seed {config.seeds[0]}. Circles are at period {head} '
      'and its divisors; lines show as dots in them.')


def _curves(config, run: Run, seen: Seen) -> page_lib.Figure:
  seed = config.seeds[0]
  return run.save('curves', charts.learning_curves(
      {f'head {head}, {decoder}':
       run.curves[f'head {head}, {decoder}, seed {seed}']['cross_entropy']
       for head, decoder in seen}, label='cross entropy of a batch, nats'),
      f'Loss by step, seed {seed}.')


def _inner(images: np.ndarray) -> np.ndarray:
  """All channels as [N, H, W] arrays, without the border."""
  reach = metrics.BORDER
  inner = images[:, reach:-reach, reach:-reach]
  return np.moveaxis(inner, -1, 1).reshape(-1, *inner.shape[1:3])
