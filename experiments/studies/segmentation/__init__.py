"""Study 3: semantic segmentation, and the checkerboards of decoders.

All networks of a seed start with the same encoder, and see the same images in
the same order. They differ in how they enlarge the scores of the classes.
"""

import functools
import itertools
from typing import Any

from flax import nnx

from experiments.data import batches
from experiments.data import textures
from experiments.harness import checks
from experiments.harness import step_times
from experiments.harness import study
from experiments.studies.segmentation import data as data_lib
from experiments.studies.segmentation import metrics
from experiments.studies.segmentation import model
from experiments.studies.segmentation import report

_SIZES = 16  # Whole periods in what is left within the border, at any head.


class Study(study.Study):
  """Compares decoders of fully convolutional networks."""

  def check(self):
    config, require = self.config, functools.partial(
        checks.require, self.config)
    checks.loop(config)
    require(data_lib.is_known(config.data), 'data', data_lib.NAMES)
    for field, known in (('heads', model.HEADS), ('decoders', model.DECODERS)):
      values = config[field]
      require(values and set(values) <= set(known)
              and len(set(values)) == len(values), field,
              f'different ones of {", ".join(map(str, known))}')
    require(len(config.channels) == len(model.HEADS)
            and checks.whole(config.channels, 1), 'channels',
            f'{len(model.HEADS)} whole numbers of at least 1')
    checks.positive(config, 'decoder_learning_rate')
    checks.counts(
        config, 'convolutions', 'train_images', 'test_images', 'pictures')
    require(config.pictures <= config.test_images, 'pictures',
            f'at most test_images, {config.test_images}')
    # At the coarsest head, 4 periods are to be left within the border.
    least = 2 * metrics.BORDER + 4 * max(model.HEADS)
    require(config.size >= least and config.size % _SIZES == 0, 'size',
            f'a multiple of {_SIZES}, at least {least}')
    require(config.data != 'textures' or config.size <= textures.LARGEST,
            'size', f'at most {textures.LARGEST} for textures')

  def load(self):
    self._data = data_lib.load(self.config)
    # What trained networks of the first seed see, by head and decoder.
    self._seen: dict[tuple[int, str], metrics.Seen] = {}
    # Made once for all seeds, so that it is compiled once.
    self._training_step = functools.cache(self._new_training_step)
    return (f'{len(self._data.train["image"])} training images, '
            f'{len(self._data.test["image"])} test images.')

  def _draw(self, head: int, decoder: str, seed: int, **options: Any
            ) -> model.Segmenter:
    return model.Segmenter(
        head, decoder, in_features=self._data.train['image'].shape[-1],
        classes=len(self._data.classes), channels=self.config.channels,
        convolutions=self.config.convolutions, rngs=nnx.Rngs(seed), **options)

  def _new_training_step(self, head, decoder):
    network = self._draw(head, decoder, self.config.seeds[0])
    return model.training_step(network, decoder, self.config)

  def trials(self):
    for head, decoder, seed in itertools.product(
        self.config.heads, self.config.decoders, self.config.seeds):
      network = self._draw(head, decoder, seed)
      step, begin = self._training_step(head, decoder)
      yield study.Trial(
          {'head': head, 'decoder': decoder, 'seed': seed}, network,
          study.Training(
              f'head {head}, {decoder}, seed {seed}', step, begin(network),
              functools.partial(
                  batches.shuffled, self._data.train,
                  batch_size=self.config.batch_size,
                  num_batches=self.config.num_steps, seed=seed),
              self.config.num_steps))

  def examine(self, trial, trained):
    head, network = trial.key['head'], trial.subject
    for stage, one in (('untrained', network),
                       ('trained', model.restored(network, trained))):
      one.eval()
      rows, seen = metrics.examine(
          one, head, self._data.test, len(self._data.classes))
      yield from ({'stage': stage, **row} for row in rows)
    self._seen.setdefault((head, trial.key['decoder']), seen)

  def timings(self):
    return [{'head': head, **step_times.compare(
        functools.partial(self._timed_step, head))}
            for head in self.config.heads]

  def _timed_step(self, head, layer):
    network = self._draw(head, 'learned', 0, conv_transpose=layer)
    step, begin = model.training_step(network, 'learned', self.config)
    batch = {name: x[:self.config.batch_size]
             for name, x in self._data.train.items()}
    return step, begin(network), batch

  def page(self, run):
    return report.page(self.config, run, self._data, self._seen)
