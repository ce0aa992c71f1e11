"""Published claims about grids in generated images, tested on a run.

References:
  Odena, Dumoulin and Olah, `Deconvolution and checkerboard artifacts
  <https://doi.org/10.23915/distill.00003>`_, 2016.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import functools

from experiments import upsamplers
from experiments.harness import results as results_lib
from experiments.harness.results import Claim
from experiments.harness.results import Results
from experiments.harness.results import Table
from experiments.studies.generator import model
from experiments.studies.generator import tables

# Lines that stand out by so many dB count as seen, and fewer as not seen.
SEEN_DB = 5
# Pooled convolutions must have so many times less of a grid than strided ones.
TIMES = 3
# An amplitude follows the means if twice the means make about twice as much of
# it, and none of them leave little.
DOUBLED, LEFT_OVER = (1.9, 2.1), .1
CORRELATED = .5

Stacks = Mapping[str, Sequence[str]]


def table(results: Results, stacks: Stacks) -> Table:
  """Tests each published claim that the run can test.

  `stacks` are the stages of each stack, by its name.
  """
  resize = lambda stage: isinstance(
      upsamplers.REGISTRY[stage], upsamplers.Resized)
  plain = lambda stage: upsamplers.REGISTRY[stage].is_plain
  chosen = lambda fits: [
      name for name, stages in stacks.items() if fits(stages)]
  transposed = chosen(lambda stages: all(map(plain, stages)))
  resized = chosen(lambda stages: all(map(resize, stages)))
  mixed = chosen(
      lambda stages: plain(stages[-2]) and resize(stages[-1]))
  trained = [name for name in transposed
             if name in tables.names(results, 'generator', 'trained')]
  claims = [
      *_lines(results, 'Untrained stacks of transposed convolutions show lines '
              'at period 2.', transposed, 'untrained', {2: True}),
      *_lines(results, 'They show lines at period 4 only.', transposed,
              'untrained', {4: True}),
      *_lines(results, 'A resize convolution after transposed ones shows their '
              'lines at period 4 only, and none at period 2.', mixed,
              'untrained', {2: False, 4: True}),
      *_lines(results, 'Resize convolutions alone show neither.', resized,
              'untrained', {2: False, 4: False}),
      *_follows_means(results, transposed),
      *_follows_color(results, transposed),
      *_gradient_share(results),
      *_gradient_size(results),
      *_outlasts_training(results, trained)]
  return results_lib.claims_table(
      f'Claims of Odena et al. Lines count as seen from {SEEN_DB} dB, in the '
      'mean over images and seeds.', claims)


def _claim(text, seen, holds) -> list[Claim]:
  """A claim, if anything was seen."""
  return [Claim(text, '; '.join(seen), 'yes' if holds else 'no')
          ] if seen else []


def _lines(results, text, names, stage, expected):
  """Lines at some periods, and none at others."""
  seen, holds = [], True
  for name in names:
    levels = {period: tables.mean(results, 'generator', name, stage,
                                   f'grid_level_{period}_db')
              for period in expected}
    seen.append(f'{name}: ' + ', '.join(
        f'{level:z.1f} dB at {period}' for period, level in levels.items()))
    holds &= all((level >= SEEN_DB) == expected[period]
                 for period, level in levels.items())
  return _claim(text, seen, holds)


def _follows_means(results, names):
  seen, holds = [], True
  for name in names:
    without, same, doubled = (
        tables.mean(results, 'generator', name, 'untrained',
                    f'amplitude_means_{scale}')
        for scale in (0, 1, 2))
    seen.append(f'{name}: {without / same:.2f} and {doubled / same:.2f}')
    holds &= (without <= LEFT_OVER * same
              and DOUBLED[0] <= doubled / same <= DOUBLED[1])
  return _claim(
      'The amplitude grows with the mean of what is enlarged: with none of it '
      f'there is no grid (up to {LEFT_OVER} of it), with twice as much, twice '
      f'the grid ({DOUBLED[0]} to {DOUBLED[1]}).', seen, holds)


def _follows_color(results, names):
  seen = {name: tables.mean(results, 'generator', name, 'untrained',
                             'color_correlation') for name in names}
  return _claim(
      'Images whose mean color is farther from grey have a stronger grid '
      f'(correlation of at least {CORRELATED}).',
      [f'{name}: {value:.2f}' for name, value in seen.items()],
      all(value >= CORRELATED for value in seen.values()))


def _outlasts_training(results, names):
  mean = functools.partial(tables.mean, results, 'generator', stage='trained')
  levels = {name: mean(name, metric='grid_level_2_db') for name in names}
  return _claim(
      'Trained stacks of transposed convolutions still show lines at period 2.',
      [f'{name}: {level:z.1f} dB at 2, '
       f'{mean(name, metric="painted_level_db"):z.1f} dB before tanh'
       for name, level in levels.items()],
      all(level >= SEEN_DB for level in levels.values()))


def _gradients(results, metric):
  """Means by the name of the layers."""
  key = results, 'discriminator'
  return {name: tables.mean(*key, name, 'untrained', metric)
          for name in tables.names(*key, 'untrained')}


def _gradient_share(results):
  shares, levels = (
      _gradients(results, f'gradient_{name}') for name in ('share', 'level_db'))
  pooled = shares.get(model.POOLED)
  strided = [share for name, share in shares.items() if name != model.POOLED]
  if pooled is None or not strided:
    return []
  return _claim(
      'Strided discriminators put energy at period 2 into input gradients: at '
      f'least {TIMES} times the share of those that pool. (In brackets: how '
      'far it stands out.)',
      [f'{name}: {share:.4f} ({levels[name]:z.1f} dB)'
       for name, share in shares.items()],
      min(strided) >= TIMES * pooled)


def _gradient_size(results):
  levels = _gradients(results, 'gradient_size_level_db')
  return _claim(
      'Where the stride does not divide the kernel, and only there, gradients '
      'of some pixels are larger: their absolute values have lines at period '
      '2.',
      [f'{name}: {level:z.1f} dB' for name, level in levels.items()],
      all((level >= SEEN_DB) == (name != model.POOLED
                                 and int(name.removeprefix('strided k')) % 2)
          for name, level in levels.items()))
