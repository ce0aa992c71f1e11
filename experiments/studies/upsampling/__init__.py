"""Study 1: enlarge photographs, and measure the checkerboards of upsamplers.

All networks learn to restore photographs that were shrunk, from the same
patches in the same order. They differ in the upsampling layer only.
"""

from collections.abc import Iterator
import functools

from flax import nnx

from experiments import upsamplers
from experiments.data import photographs
from experiments.harness import checks
from experiments.harness import step_times
from experiments.harness import study
from experiments.studies.upsampling import metrics
from experiments.studies.upsampling import model
from experiments.studies.upsampling import report

# Images then have 4 periods within the border, which is not measured.
_LARGEST_SCALE = photographs.SMALLEST // 6


class Study(study.Study):
  """Compares upsamplers on photographs."""

  def check(self):
    config, require = self.config, functools.partial(
        checks.require, self.config)
    checks.loop(config)
    require(checks.whole(config.scales, 2, _LARGEST_SCALE), 'scales',
            f'whole numbers from 2 to {_LARGEST_SCALE}')
    require(len(set(config.scales)) == len(config.scales), 'scales',
            'different numbers')
    known = upsamplers.REGISTRY
    for field in 'upsamplers', 'figure.upsamplers':
      require(all(name in known for name in config[field]), field,
              f'any of {upsamplers.names(known)}')
    require(all(any(known[name].covers(scale) for name in config.upsamplers)
                for scale in config.scales), 'upsamplers',
            'some whose kernels are as large as the scales')
    checks.positive(config, 'penalty')
    require(checks.whole(config.trunk.kernel_sizes, 1), 'trunk.kernel_sizes',
            'whole numbers of at least 1')
    checks.counts(config, 'trunk.channels', 'figure.size')
    largest = photographs.SMALLEST // max(config.scales)
    require(1 <= config.patch_size <= largest, 'patch_size', f'1 to {largest}')
    require(config.figure.image in photographs.TEST, 'figure.image',
            f'one of {", ".join(photographs.TEST)}')
    for field, size in zip(('figure.top', 'figure.left'),
                           photographs.load(config.figure.image).shape):
      # Images are cropped to a multiple of the scale.
      largest = size - max(config.scales) + 1 - config.figure.size
      require(0 <= config[field] <= largest, field, f'0 to {largest}')

  def load(self):
    self.pairs = {
        (scale, part): {name: photographs.downsampled_pair(
            photographs.load(name), scale) for name in names}
        for scale in self.config.scales
        for part, names in (('train', photographs.TRAIN),
                            ('test', photographs.TEST))}
    # Of each scale and upsampler: the last network of the first seed, and its
    # pictures.
    self._shown: dict[tuple[int, str], tuple[model.Network, dict]] = {}
    return (f'Training images: {", ".join(photographs.TRAIN)}; test images: '
            f'{", ".join(photographs.TEST)}.')

  def trials(self):
    for scale in self.config.scales:
      for upsampler in self._covering(scale):
        seeds = self.config.seeds if upsampler.is_learned else (None,)
        for seed in seeds:
          yield self._trial(scale, upsampler, seed)

  def _covering(self, scale: int) -> list[upsamplers.Upsampler]:
    """The upsamplers that write every pixel; reports the others."""
    chosen = [upsamplers.REGISTRY[name]
              for name in dict.fromkeys(self.config.upsamplers)]
    small = [u.name for u in chosen if not u.covers(scale)]
    if small:
      print(f'x{scale}: left out, because their kernels are smaller than the '
            f'scale: {", ".join(small)}.')
    return [u for u in chosen if u.covers(scale)]

  def _trial(self, scale, upsampler, seed):
    key = {'scale': scale, 'upsampler': upsampler.name, 'seed': seed}
    trained_as = upsamplers.REGISTRY[upsampler.trained_as]
    network, step, state = self._drawn(scale, trained_as, seed or 0)
    if not upsampler.is_learned:
      return study.Trial(key, (upsampler, network))
    return study.Trial(key, (upsampler, network), study.Training(
        f'x{scale} {trained_as.name}, seed {seed}', step, state,
        functools.partial(self._patches, scale, seed), self.config.num_steps))

  def _drawn(self, scale, upsampler, seed, **options):
    """A network before training, and the step and the state to train it."""
    network = model.Network(
        upsampler, self.config.trunk, scale, nnx.Rngs(seed), **options)
    return network, *model.training_step(
        network, upsampler, scale, self.config)

  def _patches(self, scale, seed, **options):
    return photographs.random_patches(
        list(self.pairs[scale, 'train'].values()),
        size=self.config.patch_size, batch_size=self.config.batch_size,
        num_batches=self.config.num_steps, seed=seed, **options)

  def examine(self, trial, trained):
    upsampler, network = trial.subject
    scale = trial.key['scale']
    for stage, measured in self._stages(upsampler, network, trained, scale):
      rows, pictures = metrics.examine(
          upsampler, measured, scale, self.pairs[scale, 'test'])
      if stage != 'untrained':
        self._shown.setdefault((scale, upsampler.name), (measured, pictures))
      yield from ({'stage': stage, **row} for row in rows)

  def _stages(self, upsampler, network, trained, scale
              ) -> Iterator[tuple[str, model.Network]]:
    """The networks that are measured, by stage."""
    if trained is None:
      yield 'fixed', network
      return
    params, _ = trained
    after = nnx.merge(nnx.graphdef(network), params)
    for stage, one in ('untrained', network), ('trained', after):
      if upsampler.cure == upsamplers.CALIBRATED:
        pairs = self.pairs[scale, 'train'].values()
        one = model.equalized(one, [pair['low'] for pair in pairs])
      elif upsampler.cure in (upsamplers.EQUAL_PHASES, upsamplers.REPAIRED):
        one = model.equalized(one)
      yield stage, one

  def timings(self):
    rows = []
    for (scale, name), (network, _) in self._shown.items():
      low = self.pairs[scale, 'test'][self.config.figure.image]['low']
      row = {'scale': scale, 'upsampler': name,
             'ms_per_image': metrics.milliseconds(network, low)}
      if upsamplers.REGISTRY[name].is_plain:
        row |= step_times.compare(
            functools.partial(self._timed_step, scale, name))
      rows.append(row)
    return rows

  def _timed_step(self, scale, name, layer):
    _, step, state = self._drawn(
        scale, upsamplers.REGISTRY[name], 0, conv_transpose=layer)
    return step, state, next(self._patches(scale, 0))

  def page(self, run):
    truths = {}
    for scale in self.config.scales:
      pair = self.pairs[scale, 'test'][self.config.figure.image]
      truths[scale] = metrics.Picture(pair['high'], None)
    pictures = {key: pictures[self.config.figure.image]
                for key, (_, pictures) in self._shown.items()}
    return report.page(self.config, run, truths, pictures)
