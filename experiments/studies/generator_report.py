"""The report of study 2: what came out, in tables and figures."""

from collections.abc import Mapping
from collections.abc import Sequence
import functools
import pathlib
import textwrap
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments import costs
from experiments import training
from experiments import workdir as workdir_lib
from experiments.report import charts
from experiments.report import page
from experiments.report import sheets
from experiments.studies import generator_data as data_lib
from experiments.studies import generator_facts as facts
from experiments.studies import generator_learning as learning
from experiments.studies import generator_tables as tables

_SUMMARY = (
    'Generators after DCGAN make images of random values, by stages that '
    'double the size. They differ in these stages only. The grid level says '
    'how far lines of a period stand out of the spectrum: about 0 dB is '
    'chance, 10 dB is ten times the power of the surroundings. Lines at period '
    '2 are made by the last stage; those at period 4 only, by the one before.')
_JUDGE = (
    ' A classifier, trained here on the same images, says how many of the '
    'generated ones it takes for their class, and its features give the '
    'Fréchet distance.')
_COLUMNS = 16  # Pictures in a row.
_LARGE = 8  # In a row in which single pixels are to be seen.
_PERIOD = 4  # Of the marks in the spectra, with those of its divisor 2.

# Breaks a long name.
_title = functools.partial(textwrap.fill, width=16)

Shown = Mapping[str, Mapping[str, jax.Array]]


def report(config: ml_collections.ConfigDict, workdir: pathlib.Path,
           data: data_lib.Data, rows: Sequence[dict[str, Any]],
           timings: Sequence[dict[str, Any]], shown: Shown,
           command: str) -> None:
  """Prints the headline, and writes figures and `report.html`.

  Args:
    config: of the study.
    workdir: folder to write to, with the `metrics.jsonl` of the training.
    data: what was learned from.
    rows: the results.
    timings: of steps.
    shown: images of the 'untrained' and 'trained' stacks by their names.
    command: that started the run.
  """
  results = tables.Results(rows)
  stacks = {learning.stack_name(stages): stages
            for stages in (*config.stacks, *config.untrained_stacks)}
  headline, published = tables.headline(results), facts.table(results, stacks)
  for table in headline, published:
    page.print_table(table)
  drawn = _figures(workdir, data, shown)
  sections = [
      page.Section('Results', [headline, *drawn['samples']]),
      page.Section('Published facts', [published]),
      page.Section('Spectra', [
          tables.grids(results, 'trained'), *drawn['spectra']]),
      page.Section('Before training', [
          tables.grids(results, 'untrained'), *drawn['untrained']]),
      page.Section('The grid and the means', [
          tables.growth(results, stage) for stage in ('untrained', 'trained')]),
      page.Section('Gradients of discriminators', [tables.gradients(results)]),
      page.Section('Training', [
          *drawn['curves'], *costs.tables(
              'A training step of both networks', timings, ['stack'])])]
  page.write_page(
      workdir / 'report.html', title=f'Generating images: {config.data}',
      summary=_SUMMARY + (_JUDGE if data.classes else ''), sections=sections,
      command=command, environment=workdir_lib.environment(),
      credits=data.credits)
  print(f'report: {workdir / "report.html"}')


def _figures(workdir: pathlib.Path, data: data_lib.Data,
             shown: Shown) -> dict[str, list[page.Figure]]:
  """Draws the figures of each section."""
  drawn = {}

  def save(section, name, figure, caption):
    path = workdir / 'figures' / f'{name}.png'
    figure.savefig(path, dpi=150)
    drawn.setdefault(section, []).append(page.Figure(path, caption))

  real, labels = data.held_out['image'], data.held_out.get('label')
  trained = {'real images': real, **shown['trained']}
  if labels is not None:
    name, images = next(iter(shown['trained'].items()))
    save('samples', 'classes', sheets.sheet(
        {str(label): _pictures(images[labels == label][:_COLUMNS])
         for label in range(data.classes)}),
         f'Images of {name}, a row for each class that was asked for.')
  save('samples', 'stacks', sheets.sheet(
      {_title(name): _pictures(images[:_COLUMNS])
       for name, images in trained.items()}),
       'Real images and those of the trained stacks, from the same random '
       'values.')
  save('spectra', 'spectra', sheets.mean_spectra(
      {_title(name): _grey(images) for name, images in trained.items()},
      period=_PERIOD),
       'Mean spectra of real images and of the trained stacks. Circles are at '
       'periods 4 and 2; lines show as dots in them.')
  save('spectra', 'spectra_untrained', sheets.mean_spectra(
      {_title(name): _grey(images)
       for name, images in shown['untrained'].items()}, period=_PERIOD),
       'Mean spectra of the same stacks and of others before training.')
  save('untrained', 'untrained', sheets.sheet(
      {_title(name): [_stretched(picture)
                      for picture in _pictures(images[:_LARGE])]
       for name, images in shown['untrained'].items()}),
       'Images before training, each stretched from black to white.')
  history = training.history(workdir)
  for player in 'generator', 'discriminator':
    save('curves', f'{player}_losses', charts.learning_curves(
        {name: losses[player] for name, losses in history.items()
         if player in losses}, label=f'loss of the {player}, nats'),
         f'Steps against the loss of the {player}.')
  return drawn


def _pictures(images) -> list[np.ndarray]:
  """[H, W] or [H, W, 3] pictures in [0, 1], of images in [-1, 1]."""
  pictures = np.asarray(images) / 2 + .5
  return list(pictures[..., 0] if pictures.shape[-1] == 1 else pictures)


def _stretched(picture: np.ndarray) -> np.ndarray:
  return (picture - picture.min()) / max(np.ptp(picture), 1e-6)


def _grey(images) -> np.ndarray:
  """[N, H, W] means of the colours, in [0, 1]."""
  return np.asarray(images).mean(-1) / 2 + .5
