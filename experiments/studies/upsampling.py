"""Study 1: enlarge photographs, and measure the grid that an upsampler paints.

All networks learn the image itself, from the same patches in the same order.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import pathlib
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import ml_collections
import optax

from experiments import checks
from experiments import costs
from experiments import devices
from experiments import training
from experiments import workdir as workdir_lib
from experiments.data import photographs
from experiments.studies import blocks
from experiments.studies import upsamplers
from experiments.studies import upsampling_measures as measures
from experiments.studies import upsampling_report as report_lib
from experiments.studies import upsampling_tables as tables
import tconv

# Images have 4 periods then, within the border of one that is not measured.
_LARGEST_SCALE = photographs.SMALLEST // 6


def check(config: ml_collections.ConfigDict) -> None:
  """Finds mistakes in a config before anything is built.

  Args:
    config: `configs/upsampling.py`.

  Raises:
    RunError: a field has a value that cannot be used.
  """
  require = functools.partial(checks.require, config)
  checks.loop(config)
  require(checks.whole(config.scales, 2, _LARGEST_SCALE), 'scales',
          f'whole numbers from 2 to {_LARGEST_SCALE}')
  require(len(set(config.scales)) == len(config.scales), 'scales',
          'different numbers')
  names = config.upsamplers
  require(names and all(upsamplers.is_known(name) for name in names),
          'upsamplers', f'any of {upsamplers.NAMES}')
  require(all(any(upsamplers.fits(name, scale) for name in names)
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
  require(all(map(upsamplers.is_known, config.figure.upsamplers)),
          'figure.upsamplers', f'any of {upsamplers.NAMES}')
  for field, size in zip(('figure.top', 'figure.left'),
                         photographs.load(config.figure.image).shape):
    # Images are cropped to a multiple of the scale.
    largest = size - max(config.scales) + 1 - config.figure.size
    require(0 <= config[field] <= largest, field, f'0 to {largest}')


def lesson(name: str, seed: int, scale: int, config: ml_collections.ConfigDict,
           **options: Any) -> tuple[upsamplers.Network, Callable, Any]:
  """Makes a network, and what trains it.

  Args:
    name: of the upsampler.
    seed: for kernels.
    scale: factor.
    config: of the study.
    **options: of `upsamplers.Network`.

  Returns:
    The network; and the step, as `training.train` takes it, and the state to
    begin with: the parameters, and the optimizer's.
  """
  network = upsamplers.Network(
      name, config.trunk, scale, nnx.Rngs(seed), **options)
  graph, params = nnx.split(network)
  params = jax.tree.map(jnp.copy, params)  # Training gives its start up.
  weight = config.penalty if name.endswith(' penalty') else 0
  optimizer = optax.adam(
      optax.cosine_decay_schedule(config.learning_rate, config.num_steps))

  def loss(params, batch):
    network = nnx.merge(graph, params)
    mse = jnp.mean((network(batch['low']) - batch['high'])**2)
    if not weight:
      return mse, {'mse': mse}
    penalty = tconv.checkerboard_penalty(
        network.upsampling.kernel[...], scale)
    return mse + weight * penalty, {'mse': mse, 'penalty': penalty}

  def step(state, batch):
    params, moments = state
    gradient, losses = jax.grad(loss, has_aux=True)(params, batch)
    updates, moments = optimizer.update(gradient, moments)
    return (optax.apply_updates(params, updates), moments), losses

  return network, step, (params, optimizer.init(params))


def _patches(config, pairs, seed, **options):
  """The batches of a training."""
  return photographs.random_patches(
      pairs, size=config.patch_size, batch_size=config.batch_size,
      num_batches=config.num_steps, seed=seed, **options)


def learn(name: str, seed: int, scale: int, config: ml_collections.ConfigDict,
          pairs: Sequence[photographs.Pair], *, workdir: pathlib.Path
          ) -> tuple[upsamplers.Network, upsamplers.Network]:
  """Trains a network.

  Args:
    name: of the upsampler.
    seed: for kernels and patches.
    scale: factor.
    config: of the study.
    pairs: training images.
    workdir: takes the mean squared error, and checkpoints.

  Returns:
    The network before and after training, from [N, h, w, 1] to
    [N, scale * h, scale * w, 1]. Constraints of kernels are folded into them.
  """
  before, step, state = lesson(name, seed, scale, config)
  params, _ = training.train(
      step, state, functools.partial(_patches, config, pairs, seed),
      num_steps=config.num_steps, log_every=config.log_every,
      save_every=config.save_every, label=f'x{scale} {name}, seed {seed}',
      workdir=workdir)
  after = nnx.merge(nnx.graphdef(before), params)
  if name.endswith(' equal phases'):
    for network in before, after:
      upsamplers.fold(network, scale)
  return before, after


def stages(name: str, seed: int | None, scale: int, learned: Callable
           ) -> Iterator[tuple[str, upsamplers.Network]]:
  """Gives the networks of an upsampler that are to be measured.

  Args:
    name: of the upsampler.
    seed: of its training; None for an interpolation.
    scale: factor.
    learned: function of a name and a seed, as `learn`.

  Yields:
    'untrained' and 'trained' networks, or a 'fixed' one.
  """
  if seed is None:
    yield 'fixed', upsamplers.Network(name, ml_collections.ConfigDict(), scale,
                                      nnx.Rngs(0))
    return
  source = name.removesuffix(' repaired')
  for stage, network in zip(('untrained', 'trained'), learned(source, seed)):
    yield stage, network if source == name else upsamplers.repair(
        network, scale)


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, *,
        command: str) -> None:
  """Learns, measures, and leaves results, figures and a report.

  Args:
    config: `configs/upsampling.py`.
    workdir: folder to write to.
    command: that started the run, for the report.

  Raises:
    RunError: a loss was NaN or infinite.
  """
  print(f'Learning from {", ".join(photographs.TRAIN)}; testing on '
        f'{", ".join(photographs.TEST)}.', flush=True)
  rows, timings, shown = [], [], {}
  for scale in config.scales:
    train_pairs, test_pairs = (
        {name: photographs.downsampled_pair(photographs.load(name), scale)
         for name in names} for names in (photographs.TRAIN, photographs.TEST))
    chosen = test_pairs[config.figure.image]
    shown[scale] = {tables.TRUTH: measures.Picture(chosen['high'], None)}
    learned = functools.cache(functools.partial(
        learn, scale=scale, config=config, pairs=list(train_pairs.values()),
        workdir=workdir))
    for name in fitting(config.upsamplers, scale):
      for seed in (None,) if name in upsamplers.BASELINES else config.seeds:
        for stage, network in stages(name, seed, scale, learned):
          measured, pictures = measures.examine(
              name, network, scale, test_pairs)
          rows.extend({'scale': scale, 'upsampler': name, 'seed': seed,
                       'stage': stage, **row} for row in measured)
          if stage == 'untrained' or name in shown[scale]:
            continue
          shown[scale][name] = pictures[config.figure.image]
          timings.append({
              'scale': scale, 'upsampler': name,
              'ms_per_image': measures.milliseconds(network, chosen['low']),
              **_step_times(name, scale, config, list(train_pairs.values()))})
  if not devices.is_first():
    return
  workdir_lib.write_results(workdir, rows)
  # Apart from the results, which are the same in every run.
  workdir_lib.write_json(workdir / 'timings.json', timings)
  report_lib.report(config, workdir, rows, timings, shown, command)


def _step_times(name, scale, config, pairs):
  """Times a step with Flax's layer, too, if it has such a layer."""
  if not blocks.is_plain(name):
    return {}

  def build(layer):
    _, step, state = lesson(name, 0, scale, config, conv_transpose=layer)
    return step, state, next(_patches(config, pairs, 0))

  return costs.compare(build)


def fitting(names: Sequence[str], scale: int) -> list[str]:
  """Leaves out upsamplers that cannot write every pixel, and says so.

  Args:
    names: of the upsamplers.
    scale: factor.

  Returns:
    The others, each once.
  """
  names = list(dict.fromkeys(names))
  small = [name for name in names if not upsamplers.fits(name, scale)]
  if small:
    print(f'x{scale}: left out, as their kernels are smaller than the scale: '
          f'{", ".join(small)}.')
  return [name for name in names if name not in small]
