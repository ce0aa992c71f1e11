"""Study 2: generate images, and measure the grids that stages leave in them.

All generators learn against discriminators of one kind, from the same batches
in the same order, and are measured on the same random values.
"""

import functools
import itertools
import pathlib
import re
from typing import Any

from flax import nnx
import jax
import ml_collections

from experiments import checks
from experiments import costs
from experiments import devices
from experiments import workdir as workdir_lib
from experiments.data import digits
from experiments.data import photographs
from experiments.studies import blocks
from experiments.studies import generator_data as data_lib
from experiments.studies import generator_learning as learning
from experiments.studies import generator_measures as measures
from experiments.studies import generator_models as models
from experiments.studies import generator_report as report_lib

_UNTRAINED = 200  # Images of each seed; their levels differ little.


def check(config: ml_collections.ConfigDict) -> None:
  """Finds mistakes in a config before anything is built.

  Args:
    config: `configs/generator.py`.

  Raises:
    RunError: a field has a value that cannot be used.
  """
  require = functools.partial(checks.require, config)
  checks.loop(config)
  require(data_lib.is_known(config.data), 'data', data_lib.NAMES)
  require(config.size >= 16 and config.size.bit_count() == 1, 'size',
          '16, 32, 64 or another power of 2')
  require(config.data != 'digits' or config.size == digits.SIZE, 'size',
          f'{digits.SIZE} for digits')
  require(config.data != 'patches' or config.size <= photographs.SMALLEST,
          'size', f'at most {photographs.SMALLEST} for patches')
  number = models.num_stages(config.size)
  for field in 'stacks', 'untrained_stacks':
    require(all(isinstance(stages, tuple) and len(stages) == number
                and all(map(_is_stage, stages)) for stages in config[field]),
            field, f'tuples of {number} stages each for size {config.size}, '
            f'any of {blocks.NAMES}, with a K of at least 2')
  require(config.stacks, 'stacks', 'at least one')
  for field in 'downsampler', 'untrained_downsamplers':
    names = config[field] if field.endswith('s') else (config[field],)
    require(all(map(models.is_downsampler, names)), field,
            f'any of {models.DOWNSAMPLERS}')
  checks.seeds(config, 'untrained_seeds')
  checks.counts(config, 'latents', 'generator_features',
                'discriminator_features', 'classifier.num_steps')
  checks.positive(config, 'classifier.learning_rate')


def _is_stage(name: Any) -> bool:
  """A layer that writes every pixel."""
  return blocks.is_known(name) and not re.match(r'transposed k1\b', str(name))


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, *,
        command: str) -> None:
  """Learns, measures, and leaves results, figures and a report.

  Args:
    config: `configs/generator.py`.
    workdir: folder to write to.
    command: that started the run, for the report.

  Raises:
    RunError: a loss was NaN or infinite, or there are too few images.
  """
  data = data_lib.load(config.data, config.size)
  print(f'Learning from {config.data}; comparing with '
        f'{len(data.held_out["image"])} images that are held out.', flush=True)
  shown = {'untrained': {}, 'trained': {}}
  rows = [*_untrained(config, data, shown['untrained']),
          *_trained(config, data, workdir, shown['trained'])]
  names = dict.fromkeys(name for row in rows for name in row)
  rows = [{name: row.get(name) for name in names} for row in rows]
  if not devices.is_first():
    return
  workdir_lib.write_results(workdir, rows)
  # Apart from the results, which are the same in every run.
  timings = _timings(config, data)
  workdir_lib.write_json(workdir / 'timings.json', timings)
  report_lib.report(config, workdir, data, rows, timings, shown, command)


def _untrained(config, data, shown):
  """Gives rows of networks as they are drawn, and keeps images to be shown."""
  real, classes = _first(data.held_out, _UNTRAINED)
  values = _values(config, len(real))
  stacks = dict.fromkeys((*config.stacks, *config.untrained_stacks))
  for stages, seed in itertools.product(stacks, config.untrained_seeds):
    generator = learning.make_generator(config, data, stages, nnx.Rngs(seed))
    generator.eval()
    images = measures.generate(generator, values, classes)
    name = learning.stack_name(stages)
    shown.setdefault(name, images)
    yield {'part': 'generator', 'name': name, 'seed': seed,
           'stage': 'untrained', **measures.grids(images),
           **measures.growth(generator, values, classes)}
  for name, seed in itertools.product(
      config.untrained_downsamplers, config.untrained_seeds):
    critic = learning.make_discriminator(config, data, name, nnx.Rngs(seed))
    critic.eval()
    yield {'part': 'discriminator', 'name': name, 'seed': seed,
           'stage': 'untrained',
           **measures.input_gradients(critic, real, classes)}


def _trained(config, data, workdir, shown):
  """Gives rows of real images and of trained networks, and keeps images."""
  number = len(data.held_out['image'])
  real, classes = _first(data.held_out, number)
  values = _values(config, number)
  classifier = learning.learn_classifier(config, data, workdir=workdir
                                         ) if data.classes else None

  def examine(images, classes):
    quality = measures.quality(
        classifier, images, classes, real) if classifier else {}
    return {**quality, **measures.grids(images)}

  for name, part in ('held out', data.held_out), ('for training', data.train):
    yield {'part': 'real images', 'name': name, 'seed': None, 'stage': 'real',
           **examine(*_first(part, number))}
  for stages, seed in itertools.product(config.stacks, config.seeds):
    generator, critic = learning.learn(
        config, data, stages, seed, workdir=workdir)
    images = measures.generate(generator, values, classes)
    name = learning.stack_name(stages)
    shown.setdefault(name, images)
    row = {'name': name, 'seed': seed, 'stage': 'trained'}
    yield {'part': 'generator', **row, **examine(images, classes),
           **measures.growth(generator, values, classes)}
    yield {'part': 'discriminator', **row,
           **measures.input_gradients(critic, real, classes)}


def _first(images, number):
  """The first images, and their classes where there are any."""
  classes = images.get('label')
  return images['image'][:number], None if classes is None else classes[:number]


def _values(config, number):
  """What all generators are given when they are measured."""
  return jax.random.normal(jax.random.key(0), (number, config.latents))


def _timings(config, data):
  """Times a step with Flax's layers, too, if a stack can be made of them."""
  batch = next(data.batches(
      batch_size=config.batch_size, num_batches=1, seed=0))

  def build(stages, layer):
    *_, step, state = learning.contest(
        config, data, stages, 0, conv_transpose=layer)
    return step, state, batch

  return [
      {'stack': learning.stack_name(stages),
       **costs.compare(functools.partial(build, stages))}
      for stages in config.stacks if all(map(blocks.is_plain, stages))]
