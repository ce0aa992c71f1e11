"""The report of the generator study: tables and figures."""

from collections.abc import Mapping
import functools
import textwrap

import jax
import ml_collections
import numpy as np

from experiments.harness import page as page_lib
from experiments.harness import step_times
from experiments.harness.study import Run
from experiments.report import charts
from experiments.report import sheets
from experiments.studies.generator import claims
from experiments.studies.generator import data as data_lib
from experiments.studies.generator import model
from experiments.studies.generator import tables

_SUMMARY = (
    'Generators in the style of DCGAN make images from random values, by '
    'stages that double the size. They differ in these stages only. The grid '
    'level measures how far lines of a period stand out of the spectrum: about '
    '0 dB is chance, 10 dB is ten times the power around them. Lines at period '
    '2 come from the last stage; lines at period 4 only, from the one before.'
    )
_JUDGE = (
    ' A classifier, trained here on the same images, scores the generated '
    'ones: the accuracy is the share that it assigns to their class, and its '
    'features give the Fréchet distance.')
_COLUMNS = 16  # Pictures in a row.
_LARGE = 8  # In a row in which single pixels are to be seen.
_PERIOD = 4  # Of the marks in the spectra, with those of its divisor 2.

# Breaks a long name.
_title = functools.partial(textwrap.fill, width=16)

Shown = Mapping[str, Mapping[str, jax.Array]]


def page(config: ml_collections.ConfigDict, run: Run, data: data_lib.Data,
         shown: Shown) -> page_lib.Page:
  """Makes the report.

  Args:
    config: config of the study.
    run: what to report on.
    data: data of the study.
    shown: images of the 'untrained' and the 'trained' stacks, by name.

  Returns:
    The page.
  """
  results = run.results
  stacks = {model.stack_name(stages): stages
            for stages in (*config.stacks, *config.untrained_stacks)}
  headline, published = tables.headline(results), claims.table(results, stacks)
  sections = [
      page_lib.Section('Results', [headline, *_samples(run, data, shown)]),
      page_lib.Section('Published claims', [published]),
      page_lib.Section('Spectra', [
          tables.grids(results, 'trained'), *_spectra(run, data, shown)]),
      page_lib.Section('Before training', [
          tables.grids(results, 'untrained'), _untrained(run, shown)]),
      page_lib.Section('The grid and the means', [
          tables.growth(results, stage) for stage in ('untrained', 'trained')]),
      page_lib.Section('Gradients of discriminators', [
          tables.gradients(results)]),
      page_lib.Section('Training', [*_curves(run), *step_times.tables(
          'A training step of both networks', run.timings, ['stack'])])]
  return page_lib.Page(
      f'Generating images: {config.data}',
      _SUMMARY + (_JUDGE if data.classes else ''), sections, data.credits,
      [headline, published])


def _samples(run: Run, data: data_lib.Data, shown: Shown):
  """Images of each class, and of each stack."""
  labels = data.held_out.get('label')
  if labels is not None:
    name, images = next(iter(shown['trained'].items()))
    yield run.save('classes', sheets.sheet(
        {str(label): _pictures(images[labels == label][:_COLUMNS])
         for label in range(data.classes)}),
        f'Images of {name}, one row for each class.')
  yield run.save('stacks', sheets.sheet(
      {_title(name): _pictures(images[:_COLUMNS])
       for name, images in _beside_real(data, shown).items()}),
      'Real images, and those of the trained stacks from the same random '
      'values.')


def _beside_real(data: data_lib.Data, shown: Shown):
  return {'real images': data.held_out['image'], **shown['trained']}


def _spectra(run: Run, data: data_lib.Data, shown: Shown):
  """Mean spectra after training and before."""
  for name, stacks, caption in (
      ('spectra', _beside_real(data, shown),
       'Mean spectra of real images and of the trained stacks. Circles are at '
       'periods 4 and 2; lines show as dots in them.'),
      ('spectra_untrained', shown['untrained'],
       'Mean spectra of the same stacks and of others before training.')):
    yield run.save(name, sheets.mean_spectra(
        {_title(stack): _grey(images) for stack, images in stacks.items()},
        period=_PERIOD), caption)


def _untrained(run: Run, shown: Shown) -> page_lib.Figure:
  return run.save('untrained', sheets.sheet(
      {_title(name): [_stretched(picture)
                      for picture in _pictures(images[:_LARGE])]
       for name, images in shown['untrained'].items()}),
      'Images before training, each stretched from black to white.')


def _curves(run: Run):
  """Losses of both networks."""
  for player in 'generator', 'discriminator':
    yield run.save(f'{player}_losses', charts.learning_curves(
        {name: losses[player] for name, losses in run.curves.items()
         if player in losses}, label=f'loss of the {player}, nats'),
        f'Loss of the {player} by step.')


def _pictures(images) -> list[np.ndarray]:
  """[H, W] or [H, W, 3] pictures in [0, 1], of images in [-1, 1]."""
  pictures = np.asarray(images) / 2 + .5
  return list(pictures[..., 0] if pictures.shape[-1] == 1 else pictures)


def _stretched(picture: np.ndarray) -> np.ndarray:
  return (picture - picture.min()) / max(np.ptp(picture), 1e-6)


def _grey(images) -> np.ndarray:
  """[N, H, W] means of the colors, in [0, 1]."""
  return np.asarray(images).mean(-1) / 2 + .5
