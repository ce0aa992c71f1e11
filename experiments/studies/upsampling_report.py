"""The report of study 1: what came out, in tables and figures."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any

import ml_collections
import numpy as np

from experiments import artifacts
from experiments import costs
from experiments import intervals
from experiments import training
from experiments import workdir as workdir_lib
from experiments.data import photographs
from experiments.report import charts
from experiments.report import figures
from experiments.report import page
from experiments.studies import upsampling_measures as measures
from experiments.studies import upsampling_tables as tables
from tconv import spectrum

_SUMMARY = (
    'Photographs were shrunk and enlarged again. PSNR and SSIM say how near '
    'that came to the photograph: higher is nearer. The grid level says how '
    'far a pattern that repeats with the scale stands out of the spectrum: '
    'about 0 dB is chance, 10 dB is ten times the power of its surroundings, '
    'and far below 0 dB the upsampler cancels such a pattern. The grid '
    'amplitude is how strong the pattern is, in levels of 8 bits. The learned '
    'upsamplers differ in their last layer only. A border as wide as the scale '
    'is left out of every measure.')
_CROPS = (
    'From the top: a part of {image}; the spectrum of the whole image, with '
    'circles at the frequencies of a pattern that repeats every {scale} '
    'pixels; and these places enlarged and added up. A red dot in the middle '
    'is such a pattern, and its colour is the grid level; white is chance; '
    'blue lines are frequencies that the upsampler cancels.')


def report(config: ml_collections.ConfigDict, workdir: pathlib.Path,
           rows: Sequence[dict[str, Any]], timings: Sequence[dict[str, Any]],
           shown: Mapping[int, Mapping[str, measures.Picture]],
           command: str) -> None:
  """Prints the headline, and writes figures and `report.html`.

  Args:
    config: of the study.
    workdir: folder to write to, with the `metrics.jsonl` of the training.
    rows: the results.
    timings: 'ms_per_image' of each 'upsampler' and 'scale', and times of steps
      where `costs.compare` was asked.
    shown: of each scale the pictures of the figures, by name, the ground truth
      first.
    command: that started the run.
  """
  sections = []
  for scale in config.scales:
    results = tables.Results(rows, scale)
    table = tables.headline(results)
    print(f'Enlarged by {scale}:')
    page.print_table(table)
    drawn = _figures(config, workdir, results, shown[scale], scale)
    changes = tables.cures(results)
    untrained = tables.Results(rows, scale, ['untrained'])
    title = (f'x{scale}: ' if len(config.scales) > 1 else '') + '{}'
    times = {row['upsampler']: row['ms_per_image']
             for row in timings if row['scale'] == scale}
    steps = [row for row in timings
             if row['scale'] == scale and 'ms_per_step_tconv' in row]
    parts = {
        'Results': [table, drawn['crops'], drawn['psnr']],
        'Cures': [changes] if changes.rows else [],
        'The cause, in the kernel': [drawn['phases']],
        'Spectra': [drawn['spectra']],
        'Training': [drawn['curves'], *costs.tables(
            'A training step', steps, ['upsampler'])
        ] if 'curves' in drawn else [],
        'All numbers': [
            tables.costs(results, times), tables.by_image(results),
            tables.every_measure(
                results, 'Every measure, means over images and seeds. '
                'Amplitudes are in 8-bit levels.')],
        'Before training': [
            tables.every_measure(untrained, 'Every measure, before training.')
        ] if untrained.rows else []}
    sections += [page.Section(title.format(name), blocks)
                 for name, blocks in parts.items() if blocks]
  page.write_page(
      workdir / 'report.html', title='Enlarging photographs by ' + ', '.join(
          map(str, config.scales)), summary=_SUMMARY, sections=sections,
      command=command, environment=workdir_lib.environment(),
      credits=photographs.CREDITS)
  print(f'report: {workdir / "report.html"}')


def _figures(config, workdir, results, shown, scale) -> dict[str, page.Figure]:
  """Draws the figures of a scale."""
  def save(name, figure, caption):
    path = workdir / 'figures' / f'{name}_x{scale}.png'
    figure.savefig(path, dpi=100)
    drawn[name] = page.Figure(path, caption)

  drawn = {}
  chosen = [n for n in shown if n in (tables.TRUTH, *config.figure.upsamplers)]
  image = photographs.TEST.index(config.figure.image)
  seen = lambda name, measure: results.values(name, measure)[0, image]
  save('crops', figures.crops_and_spectra(
      {_title(name, seen): shown[name].image[..., 0] for name in chosen},
      top=config.figure.top, left=config.figure.left, size=config.figure.size,
      period=scale), _CROPS.format(image=config.figure.image, scale=scale))
  of_images = np.mean([results.values(name, 'psnr_db').mean(0)
                       for name in results.names], 0)
  points = {
      name: (intervals.bootstrap(results.values(name, 'grid_level_db')),
             intervals.bootstrap(results.values(name, 'psnr_db') - of_images
                                 + of_images.mean()))
      for name in results.names}
  save('psnr', charts.psnr_against_grid_level(
      points, truth_level=results.values(tables.TRUTH, 'grid_level_db').mean()),
       'How near each upsampler comes to the photographs, against the grid '
       'that it paints: the best are at the top, at or left of the dashed '
       'line. Bars are 95 % intervals; those of PSNR are without what all '
       'upsamplers gain or lose on an image.')
  inner = {name: picture.image[None, scale:-scale, scale:-scale]
           for name, picture in shown.items()}
  measured = lambda name: artifacts.LEVELS * np.asarray(
      spectrum.phase_means(inner[name], scale)[0, ..., 0])
  save('phases', charts.phase_maps(
      {name: (picture.phases, measured(name))
       for name, picture in shown.items() if picture.phases is not None}),
       'Means of the pixels at each position of the period: as they follow '
       f'from the kernel, and as they are in {config.figure.image}. What '
       'differs is the photograph\'s own.')
  power = {name: np.asarray(spectrum.radial_spectrum(x)[:, 0])
           for name, x in inner.items()}
  truth = power.pop(tables.TRUTH)
  save('spectra', charts.radial_spectra(
      power, truth, period=scale, size=min(inner[tables.TRUTH].shape[1:3])),
       f'Spectra of {config.figure.image}, enlarged, over that of the '
       'photograph.')
  curves = _learning_curves(workdir, scale)
  if curves:  # Not of interpolations alone.
    save('curves', charts.learning_curves(
        curves, label='mean squared error of a batch'),
         'Training, first seed: steps against the error of the patches.')
  return drawn


def _title(name: str, seen: Callable[[str, str], float]) -> str:
  if name == tables.TRUTH:
    return f'{name}\ngrid {seen(name, "grid_level_db"):z.1f} dB'
  return (f'{name}\ngrid {seen(name, "grid_level_db"):z.1f} dB\n'
          f'PSNR {seen(name, "psnr_db"):.2f} dB')


def _learning_curves(workdir: pathlib.Path, scale: int):
  """Steps and errors of the first training of each upsampler."""
  curves = {}
  for run, metrics in training.history(workdir).items():
    if run.startswith(f'x{scale} '):
      name = run.removeprefix(f'x{scale} ').rpartition(', seed ')[0]
      curves.setdefault(name, metrics['mse'])
  return curves
