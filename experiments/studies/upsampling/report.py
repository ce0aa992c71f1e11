"""The report of the upsampling study: tables and figures."""

from collections.abc import Mapping
from collections.abc import Sequence

import ml_collections
import numpy as np

from experiments.data import photographs
from experiments.harness import page as page_lib
from experiments.harness import results as results_lib
from experiments.harness import step_times
from experiments.harness.results import Results
from experiments.harness.study import Run
from experiments.report import charts
from experiments.report import figures
from experiments.studies.upsampling import metrics
from experiments.studies.upsampling import tables
from tconv import spectrum
from tconv.audit.metrics import LEVELS

_SUMMARY = (
    'Photographs were shrunk and enlarged again. PSNR and SSIM measure how '
    'close the result is to the photograph; higher is closer. The grid level '
    'measures how far a pattern that repeats with the scale stands out of the '
    'spectrum: about 0 dB is chance, 10 dB is ten times the power around it, '
    'and far below 0 dB means that the upsampler cancels such a pattern. The '
    'grid amplitude is the strength of the pattern in 8-bit levels. The '
    'learned networks differ in their upsampling layer only. A border as wide '
    'as the scale is left out of every metric.')
_CROPS = (
    'From the top: a part of {image}; the spectrum of the whole image, with '
    'circles at the frequencies of a pattern that repeats every {scale} '
    'pixels; and these places enlarged and added up. A red dot in the middle '
    'is such a pattern, and its color is the grid level; white is chance; '
    'blue lines are frequencies that the upsampler cancels.')


def page(config: ml_collections.ConfigDict, run: Run,
         truths: Mapping[int, metrics.Picture],
         pictures: Mapping[tuple[int, str], metrics.Picture]
         ) -> page_lib.Page:
  """Makes the report.

  Args:
    config: config of the study.
    run: what to report on.
    truths: ground truth of the figures' image, by scale.
    pictures: the same image enlarged, by scale and upsampler.

  Returns:
    The page.
  """
  headlines, sections = [], []
  for scale in config.scales:
    results = run.results.where(scale=scale, stage=('fixed', 'trained'))
    shown = {tables.TRUTH: truths[scale], **{
        name: picture for (s, name), picture in pictures.items() if s == scale}}
    headlines.append(tables.headline(results))
    sections += [
        page_lib.Section(
            f'x{scale}: {title}' if len(config.scales) > 1 else title, blocks)
        for title, blocks in _sections(
            config, run, results, headlines[-1], shown, scale) if blocks]
  return page_lib.Page(
      'Enlarging photographs by ' + ', '.join(map(str, config.scales)),
      _SUMMARY, sections, photographs.CREDITS, headlines)


def _sections(config, run, results, headline, shown, scale):
  """Titles and blocks of the sections of a scale."""
  save = lambda name, figure, caption: run.save(
      f'{name}_x{scale}', figure, caption)
  inner = {name: picture.image[None, scale:-scale, scale:-scale]
           for name, picture in shown.items()}
  timings = [row for row in run.timings if row['scale'] == scale]
  changes = tables.cures(results)
  untrained = run.results.where(scale=scale, stage='untrained')
  yield 'Results', [
      headline, _crops(config, results, shown, scale, save),
      _psnr(results, save)]
  yield 'Cures', [changes] if changes.rows else []
  yield 'The cause, in the kernel', [
      _phases(config, shown, inner, scale, save)]
  yield 'Spectra', [_spectra(config, inner, scale, save)]
  yield 'Training', _training(run, timings, scale, save)
  yield 'All numbers', [
      tables.costs(results, {
          row['upsampler']: row['ms_per_image'] for row in timings}),
      tables.by_image(results), tables.every_metric(
          results, 'Every metric, means over images and seeds. Amplitudes are '
          'in 8-bit levels.')]
  yield 'Before training', [tables.every_metric(
      untrained, 'Every metric, before training.')] if untrained.rows else []


def _crops(config, results, shown, scale, save) -> page_lib.Figure:
  image = photographs.TEST.index(config.figure.image)

  def title(name):
    seen = lambda metric: tables.values(results, name, metric)[0, image]
    lines = [name, f'grid {seen("grid_level_db"):z.1f} dB']
    if name != tables.TRUTH:
      lines.append(f'PSNR {seen("psnr_db"):.2f} dB')
    return '\n'.join(lines)

  return save('crops', figures.crops_and_spectra(
      {title(name): shown[name].image[..., 0] for name in shown
       if name in (tables.TRUTH, *config.figure.upsamplers)},
      top=config.figure.top, left=config.figure.left, size=config.figure.size,
      period=scale), _CROPS.format(image=config.figure.image, scale=scale))


def _psnr(results: Results, save) -> page_lib.Figure:
  names = tables.names(results)
  values = lambda name, metric: tables.values(results, name, metric)
  # What all upsamplers gain or lose on an image is taken off.
  of_images = np.mean([values(name, 'psnr_db').mean(0) for name in names], 0)
  points = {
      name: (results_lib.bootstrap(values(name, 'grid_level_db')),
             results_lib.bootstrap(
                 values(name, 'psnr_db') - of_images + of_images.mean()))
      for name in names}
  return save('psnr', charts.psnr_against_grid_level(
      points, truth_level=values(tables.TRUTH, 'grid_level_db').mean()),
      'PSNR of each upsampler against the grid that it leaves: the best are at '
      'the top, at or left of the dashed line. Bars are 95 % intervals; those '
      'of PSNR are without what all upsamplers gain or lose on an image.')


def _phases(config, shown, inner, scale, save) -> page_lib.Figure:
  measured = lambda name: LEVELS * np.asarray(
      spectrum.phase_means(inner[name], scale)[0, ..., 0])
  return save('phases', charts.phase_maps(
      {name: (picture.phases, measured(name))
       for name, picture in shown.items() if picture.phases is not None}),
      'Means of the pixels at each position of the period: predicted from the '
      f'kernel, and measured in {config.figure.image}. The photograph itself '
      'makes the difference.')


def _spectra(config, inner, scale, save) -> page_lib.Figure:
  power = {name: np.asarray(spectrum.radial_spectrum(x)[:, 0])
           for name, x in inner.items()}
  truth = power.pop(tables.TRUTH)
  return save('spectra', charts.radial_spectra(
      power, truth, period=scale, size=min(inner[tables.TRUTH].shape[1:3])),
      f'Spectra of {config.figure.image}, enlarged, over that of the '
      'photograph.')


def _training(run, timings, scale, save
              ) -> Sequence[page_lib.Figure | results_lib.Table]:
  """Learning curves and times of steps; nothing if nothing was trained."""
  curves = {}
  for label, of_run in run.curves.items():
    if label.startswith(f'x{scale} '):
      name = label.removeprefix(f'x{scale} ').rpartition(', seed ')[0]
      curves.setdefault(name, of_run['mse'])  # The first seed comes first.
  if not curves:
    return []
  return [save('curves', charts.learning_curves(
      curves, label='mean squared error of a batch'),
      'Training with the first seed: error of the patches by step.'),
          *step_times.tables('A training step', timings, ['upsampler'])]
