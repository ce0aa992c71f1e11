"""The networks of study 2 as its config wants them, drawn and trained."""

from collections.abc import Callable
import functools
import itertools
import pathlib
from typing import Any

from flax import nnx
import ml_collections

from experiments import training
from experiments.studies import generator_data as data_lib
from experiments.studies import generator_models as models
from experiments.studies import generator_steps as steps
import tconv


def stack_name(stages: tuple[str, ...]) -> str:
  """Names a stack, like '2 x transposed k4, nearest+conv'.

  Args:
    stages: names of its layers.

  Returns:
    The name.
  """
  runs = [(name, len(list(run))) for name, run in itertools.groupby(stages)]
  return ', '.join(name if number == 1 else f'{number} x {name}'
                   for name, number in runs)


def make_generator(config: ml_collections.ConfigDict, data: data_lib.Data,
                   stages: tuple[str, ...], rngs: nnx.Rngs,
                   conv_transpose: Callable[..., nnx.Module]
                   = tconv.nnx.ConvTranspose) -> models.Generator:
  """Draws a generator.

  Args:
    config: of the study.
    data: what it is to generate.
    stages: names of its upsampling layers.
    rngs: where kernels are drawn from.
    conv_transpose: the class of transposed convolutions.

  Returns:
    The generator.
  """
  return models.Generator(
      stages, latents=config.latents, features=config.generator_features,
      colors=data.train['image'].shape[-1], classes=data.classes, rngs=rngs,
      conv_transpose=conv_transpose)


def make_discriminator(config: ml_collections.ConfigDict, data: data_lib.Data,
                       downsampler: str, rngs: nnx.Rngs
                       ) -> models.Discriminator:
  """Draws a discriminator.

  Args:
    config: of the study.
    data: what it is to judge.
    downsampler: name of its layers.
    rngs: where kernels are drawn from.

  Returns:
    The discriminator.
  """
  return models.Discriminator(
      downsampler, size=config.size, features=config.discriminator_features,
      colors=data.train['image'].shape[-1], classes=data.classes, rngs=rngs)


def contest(config: ml_collections.ConfigDict, data: data_lib.Data,
            stages: tuple[str, ...], seed: int, **options: Any):
  """Draws two opponents.

  Args:
    config: of the study.
    data: to learn from.
    stages: of the generator.
    seed: for kernels and random values.
    **options: of `make_generator`.

  Returns:
    A generator and a discriminator, and the step and the state to train them
    with, as `generator_training.adversarial` gives them.
  """
  rngs = nnx.Rngs(seed)
  generator = make_generator(config, data, stages, rngs, **options)
  discriminator = make_discriminator(config, data, config.downsampler, rngs)
  return generator, discriminator, *steps.adversarial(
      generator, discriminator, latents=config.latents,
      learning_rate=config.learning_rate, seed=seed)


def learn(config: ml_collections.ConfigDict, data: data_lib.Data,
          stages: tuple[str, ...], seed: int, *, workdir: pathlib.Path
          ) -> tuple[models.Generator, models.Discriminator]:
  """Trains a generator against a discriminator.

  Args:
    config: of the study.
    data: to learn from.
    stages: of the generator.
    seed: for kernels, random values and batches.
    workdir: takes the losses, and checkpoints.

  Returns:
    Both, trained.
  """
  generator, discriminator, step, state = contest(config, data, stages, seed)
  state = _train(config, data, step, state, config.num_steps, seed,
                 f'{stack_name(stages)}, seed {seed}', workdir)
  return (steps.trained(generator, state['generator']),
          steps.trained(discriminator, state['discriminator']))


def learn_classifier(config: ml_collections.ConfigDict, data: data_lib.Data, *,
                workdir: pathlib.Path) -> models.Classifier:
  """Trains a classifier of real images.

  Args:
    config: of the study.
    data: with classes.
    workdir: takes the losses, and checkpoints.

  Returns:
    The classifier, trained.
  """
  seed, num_steps = config.seeds[0], config.classifier.num_steps
  classifier = models.Classifier(
      size=config.size, colors=data.train['image'].shape[-1],
      classes=data.classes, rngs=nnx.Rngs(seed))
  step, state = steps.supervised(
      classifier, learning_rate=config.classifier.learning_rate,
      num_steps=num_steps)
  params, _ = _train(
      config, data, step, state, num_steps, seed, 'classifier', workdir)
  nnx.update(classifier, params)
  return classifier


def _train(config, data, step, state, num_steps, seed, label, workdir):
  return training.train(
      step, state, functools.partial(
          data.batches, batch_size=config.batch_size, num_batches=num_steps,
          seed=seed),
      num_steps=num_steps, log_every=config.log_every,
      save_every=config.save_every, label=label, workdir=workdir)
