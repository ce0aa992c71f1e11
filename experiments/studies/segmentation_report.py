"""The report of study 3: what came out, in tables and figures."""

from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any

import ml_collections
import numpy as np

from experiments import costs
from experiments import training
from experiments import workdir as workdir_lib
from experiments.report import charts
from experiments.report import page
from experiments.report import sheets
from experiments.studies import segmentation_data as data_lib
from experiments.studies import segmentation_measures as measures
from experiments.studies import segmentation_tables as tables

_SUMMARY = (
    'Networks learned the class of every pixel of {what}. Head 8 scores the '
    'classes on a grid of an eighth of the image; heads 4 and 2 add the scores '
    'of finer grids. The scores are enlarged by transposed convolutions that '
    'start as bilinear interpolation and are learned, frozen, or learned with '
    'equal phases; or by bilinear interpolation itself. mIoU is the mean over '
    'classes of intersection over union, boundary F the F-score of boundaries '
    'within {pixels} pixel(s): 1 is perfect. The grid level says how far a '
    'pattern of the decoder\'s period stands out of the spectrum of the '
    'logits: about 0 dB is chance, 10 dB is ten times the power of its '
    'surroundings. rho is the share of a constant\'s output power that is such '
    'a pattern, for any input.')

Shown = Mapping[tuple[int, str], measures.Seen]


def report(config: ml_collections.ConfigDict, workdir: pathlib.Path,
           data: data_lib.Data, rows: Sequence[dict[str, Any]],
           timings: Sequence[dict[str, float]], shown: Shown,
           command: str) -> None:
  """Prints the headline, and writes figures and `report.html`.

  Args:
    config: of the study.
    workdir: folder to write to, with the `metrics.jsonl` of the training.
    data: of the study.
    rows: the results.
    timings: of training steps.
    shown: what trained networks of the first seed see in the test images, by
      head and decoder.
    command: that started the run.
  """
  results = tables.Results(rows)
  table = tables.headline(results)
  page.print_table(table)
  drawn = _figures(config, workdir, data, shown)
  what = ('semi-synthetic mosaics of textures' if config.data == 'textures'
          else 'the images of a folder')
  page.write_page(
      workdir / 'report.html', title='The class of every pixel',
      summary=_SUMMARY.format(
          what=what, pixels=measures.tolerance(config.size)),
      sections=[
          page.Section('Results', [table, drawn['masks']]),
          page.Section('What was expected', [tables.claims(results)]),
          page.Section('Spectra of logits', drawn['spectra']),
          page.Section('Training', [drawn['curves'], *costs.tables(
              'A training step of a learned decoder', timings, ['head'])]),
          page.Section('All numbers', [
              tables.every_measure(results, stage)
              for stage in ('trained', 'untrained')])],
      command=command, environment=workdir_lib.environment(),
      credits=data.credits)
  print(f'report: {workdir / "report.html"}')


def _figures(config, workdir, data, shown) -> dict[str, Any]:
  """Draws the figures: masks, a list of spectra, and curves."""

  def save(name, figure, caption):
    path = workdir / 'figures' / f'{name}.png'
    figure.savefig(path, dpi=110)
    return page.Figure(path, caption)

  first = {name: x[:config.pictures] for name, x in data.test.items()}
  seed = config.seeds[0]
  masks = save('masks', sheets.sheet({
      'image': list(first['image'].squeeze(-1) if first['image'].shape[-1] == 1
                    else first['image']),
      'truth': list(first['mask']),
      **{'\n'.join((f'head {head},', *decoder.split())):
         list(seen.masks[:config.pictures])
         for (head, decoder), seen in shown.items()}}),
      f'Test images, true masks ({", ".join(data.classes)} in the order blue, '
      f'orange, green), and those of networks of seed {seed}.')
  spectra = [save(f'spectra_{head}', sheets.mean_spectra({
      'truth': _inner(np.eye(len(data.classes))[data.test['mask']]),
      **{decoder: _inner(shown[head, decoder].logits)
         for decoder in config.decoders}}, period=head),
      f'Head {head}: mean spectra of true masks and of logits, of all classes '
      f'and test images, seed {seed}. Circles are at period {head} and its '
      'divisors; lines show as dots in them.') for head in config.heads]
  history = training.history(workdir)
  curves = save('curves', charts.learning_curves(
      {f'head {head}, {decoder}':
       history[f'head {head}, {decoder}, seed {seed}']['cross_entropy']
       for head, decoder in shown}, label='cross entropy of a batch, nats'),
       f'Steps against the loss, seed {seed}.')
  return {'masks': masks, 'spectra': spectra, 'curves': curves}


def _inner(images: np.ndarray) -> np.ndarray:
  """Makes [N, H, W] stacks of all channels, without the border."""
  reach = measures.BORDER
  inner = images[:, reach:-reach, reach:-reach]
  return np.moveaxis(inner, -1, 1).reshape(-1, *inner.shape[1:3])
