"""Study 2: generate images, and measure the checkerboards of stages.

All generators learn against discriminators of one kind, from the same batches
in the same order, and are measured on the same latent values.
"""

import functools
import itertools
from typing import Any

from flax import nnx
import jax

from experiments import upsamplers
from experiments.data import digits
from experiments.data import photographs
from experiments.harness import checks
from experiments.harness import step_times
from experiments.harness import study
from experiments.studies.generator import data as data_lib
from experiments.studies.generator import metrics
from experiments.studies.generator import model
from experiments.studies.generator import report
from experiments.studies.generator import training

_UNTRAINED = 200  # Images of each seed; their grid levels differ little.


class Study(study.Study):
  """Compares stacks of upsampling stages in generators.

  The subject of a trial is a function from the state after training to rows.
  """

  def check(self):
    config, require = self.config, functools.partial(
        checks.require, self.config)
    checks.loop(config)
    require(data_lib.is_known(config.data), 'data', data_lib.NAMES)
    require(config.size >= 16 and config.size.bit_count() == 1, 'size',
            '16, 32, 64 or another power of 2')
    require(config.data != 'digits' or config.size == digits.SIZE, 'size',
            f'{digits.SIZE} for digits')
    require(config.data != 'patches' or config.size <= photographs.SMALLEST,
            'size', f'at most {photographs.SMALLEST} for patches')
    number = model.num_stages(config.size)
    for field in 'stacks', 'untrained_stacks':
      require(all(isinstance(stages, tuple) and len(stages) == number
                  and all(map(_is_stage, stages)) for stages in config[field]),
              field, f'tuples of {number} stages each for size {config.size}, '
              f'any of {upsamplers.names(upsamplers.STAGES)}; K at least 2')
    require(config.stacks, 'stacks', 'at least one')
    for field in 'downsampler', 'untrained_downsamplers':
      names = config[field] if field.endswith('s') else (config[field],)
      require(all(map(model.is_downsampler, names)), field,
              f'any of {model.DOWNSAMPLERS}')
    checks.seeds(config, 'untrained_seeds')
    checks.counts(config, 'latents', 'generator_features',
                  'discriminator_features', 'classifier.num_steps')
    checks.positive(config, 'classifier.learning_rate')

  def load(self):
    config = self.config
    self._data = data_lib.load(config.data, config.size)
    self._classifier: model.Classifier | None = None
    # Images of the first seed of each stack, by stage of training.
    self._shown: dict[str, dict[str, jax.Array]] = {
        'untrained': {}, 'trained': {}}
    return (f'Training on {config.data}; comparing with '
            f'{len(self._data.held_out["image"])} held-out images.')

  def trials(self):
    config = self.config
    for stages, seed in itertools.product(
        dict.fromkeys((*config.stacks, *config.untrained_stacks)),
        config.untrained_seeds):
      yield study.Trial(
          {'part': 'generator', 'name': model.stack_name(stages), 'seed': seed,
           'stage': 'untrained'},
          functools.partial(self._examine_untrained, stages, seed))
    for name, seed in itertools.product(
        config.untrained_downsamplers, config.untrained_seeds):
      yield study.Trial(
          {'part': 'discriminator', 'name': name, 'seed': seed,
           'stage': 'untrained'},
          functools.partial(self._examine_discriminator, name, seed))
    yield self._judging()
    for stages, seed in itertools.product(config.stacks, config.seeds):
      yield self._contest(stages, seed)

  def examine(self, trial, trained):
    return trial.subject(trained)

  def _judging(self) -> study.Trial:
    """The trial that scores real images; it trains the classifier, if any."""
    key = {'part': 'real images', 'name': None, 'seed': None, 'stage': 'real'}
    if not self._data.classes:
      return study.Trial(key, self._examine_real)
    seed, num_steps = (
        self.config.seeds[0], self.config.classifier.num_steps)
    self._classifier = model.Classifier(
        size=self.config.size, colors=self._colors,
        classes=self._data.classes, rngs=nnx.Rngs(seed))
    return study.Trial(key, self._examine_real, study.Training(
        'classifier', *training.supervised(
            self._classifier, num_steps=num_steps,
            learning_rate=self.config.classifier.learning_rate),
        self._batches(seed, num_steps), num_steps))

  def _contest(self, stages: tuple[str, ...], seed: int) -> study.Trial:
    """The trial that trains a generator against a discriminator."""
    *networks, step, state = self._opponents(stages, seed)
    name = model.stack_name(stages)
    return study.Trial(
        {'part': 'generator', 'name': name, 'seed': seed, 'stage': 'trained'},
        functools.partial(self._examine_trained, name, *networks),
        study.Training(
            f'{name}, seed {seed}', step, state,
            self._batches(seed, self.config.num_steps), self.config.num_steps))

  def _opponents(self, stages, seed, **options):
    """A generator, a discriminator, and the step and state to train them."""
    rngs = nnx.Rngs(seed)
    generator = self._generator(stages, rngs, **options)
    discriminator = self._discriminator(self.config.downsampler, rngs)
    return generator, discriminator, *training.adversarial(
        generator, discriminator, latents=self.config.latents,
        learning_rate=self.config.learning_rate, seed=seed)

  def _generator(self, stages, rngs, **options: Any) -> model.Generator:
    return model.Generator(
        stages, latents=self.config.latents, colors=self._colors,
        features=self.config.generator_features, classes=self._data.classes,
        rngs=rngs, **options)

  def _discriminator(self, downsampler, rngs) -> model.Discriminator:
    return model.Discriminator(
        downsampler, size=self.config.size, colors=self._colors,
        features=self.config.discriminator_features,
        classes=self._data.classes, rngs=rngs)

  @property
  def _colors(self) -> int:
    return self._data.train['image'].shape[-1]

  def _batches(self, seed, num_batches):
    return functools.partial(
        self._data.batches, batch_size=self.config.batch_size,
        num_batches=num_batches, seed=seed)

  def _first(self, images, number=None):
    """The first images, and their classes; by default as many as held out."""
    number = number or len(self._data.held_out['image'])
    classes = images.get('label')
    return (images['image'][:number],
            None if classes is None else classes[:number])

  def _latents(self, number) -> jax.Array:
    """The same values for all generators."""
    return jax.random.normal(jax.random.key(0), (number, self.config.latents))

  def _examine_untrained(self, stages, seed, _):
    _, classes = self._first(self._data.held_out, _UNTRAINED)
    generator = self._generator(stages, nnx.Rngs(seed))
    generator.eval()
    count = len(self._data.held_out['image'][:_UNTRAINED])
    images, grown = self._generate(generator, classes, count)
    self._shown['untrained'].setdefault(model.stack_name(stages), images)
    return [{**metrics.grids(images), **grown}]

  def _examine_discriminator(self, name, seed, _):
    real, classes = self._first(self._data.held_out, _UNTRAINED)
    discriminator = self._discriminator(name, nnx.Rngs(seed))
    discriminator.eval()
    return [metrics.input_gradients(discriminator, real, classes)]

  def _examine_real(self, trained):
    if self._classifier:
      nnx.update(self._classifier, trained[0])
    return [{'name': name, **self._scores(*self._first(images))}
            for name, images in (('held out', self._data.held_out),
                                 ('for training', self._data.train))]

  def _examine_trained(self, name, generator, discriminator, trained):
    generator = training.trained(generator, trained['generator'])
    discriminator = training.trained(discriminator, trained['discriminator'])
    real, classes = self._first(self._data.held_out)
    images, grown = self._generate(generator, classes, len(real))
    self._shown['trained'].setdefault(name, images)
    return [{**self._scores(images, classes), **grown},
            {'part': 'discriminator',
             **metrics.input_gradients(discriminator, real, classes)}]

  def _generate(self, generator, classes, number):
    """Images, and the metrics of the generator that made them."""
    latents = self._latents(number)
    return (metrics.generate(generator, latents, classes),
            metrics.growth(generator, latents, classes))

  def _scores(self, images, classes):
    """Metrics of images, real or generated."""
    quality = metrics.quality(
        self._classifier, images, classes,
        self._data.held_out['image']) if self._classifier else {}
    return {**quality, **metrics.grids(images)}

  def timings(self):
    plain = [stages for stages in self.config.stacks if all(
        upsamplers.REGISTRY[name].is_plain for name in stages)]
    return [{'stack': model.stack_name(stages), **step_times.compare(
        functools.partial(self._timed_step, stages))} for stages in plain]

  def _timed_step(self, stages, layer):
    *_, step, state = self._opponents(stages, 0, conv_transpose=layer)
    return step, state, next(self._batches(0, 1)())

  def page(self, run):
    return report.page(self.config, run, self._data, self._shown)


def _is_stage(name: Any) -> bool:
  """Tells whether it is a layer that writes every pixel."""
  return name in upsamplers.STAGES and upsamplers.STAGES[name].covers(2)
