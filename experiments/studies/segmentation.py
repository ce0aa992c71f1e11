"""Study 3: find the class of every pixel, and the grid that decoders leave.

All networks of a seed start with the same encoder, and see the same images in
the same order.
"""

from collections.abc import Callable
import functools
import itertools
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
from experiments.data import batches
from experiments.data import textures
from experiments.studies import segmentation_data as data_lib
from experiments.studies import segmentation_measures as measures
from experiments.studies import segmentation_models as models
from experiments.studies import segmentation_report as report_lib

_SIZES = 16  # Whole periods in what is left within the border, at any head.


def check(config: ml_collections.ConfigDict) -> None:
  """Finds mistakes in a config before anything is built.

  Args:
    config: `configs/segmentation.py`.

  Raises:
    RunError: a field has a value that cannot be used.
  """
  require = functools.partial(checks.require, config)
  checks.loop(config)
  require(data_lib.is_known(config.data), 'data', data_lib.NAMES)
  for field, known in (('heads', models.HEADS), ('decoders', models.DECODERS)):
    values = config[field]
    require(values and set(values) <= set(known)
            and len(set(values)) == len(values), field,
            f'different ones of {", ".join(map(str, known))}')
  require(len(config.channels) == len(models.HEADS)
          and checks.whole(config.channels, 1), 'channels',
          f'{len(models.HEADS)} whole numbers of at least 1')
  checks.positive(config, 'decoder_learning_rate')
  checks.counts(
      config, 'convolutions', 'train_images', 'test_images', 'pictures')
  require(config.pictures <= config.test_images, 'pictures',
          f'at most test_images, {config.test_images}')
  # At the coarsest head, 4 periods are to be left within the border.
  least = 2 * measures.BORDER + 4 * max(models.HEADS)
  require(config.size >= least and config.size % _SIZES == 0, 'size',
          f'a multiple of {_SIZES}, at least {least}')
  require(config.data != 'textures' or config.size <= textures.LARGEST, 'size',
          f'at most {textures.LARGEST} for textures')


def draw(head: int, decoder: str, seed: int, config: ml_collections.ConfigDict,
         data: data_lib.Data, **options: Any) -> models.Segmenter:
  """Draws a network.

  Args:
    head: of the network.
    decoder: of the network.
    seed: for kernels.
    config: of the study.
    data: to learn from.
    **options: of `models.Segmenter`.

  Returns:
    The network.
  """
  return models.Segmenter(
      head, decoder, in_features=data.train['image'].shape[-1],
      classes=len(data.classes), channels=config.channels,
      convolutions=config.convolutions, rngs=nnx.Rngs(seed), **options)


def trainer(network: models.Segmenter, decoder: str,
            config: ml_collections.ConfigDict) -> tuple[Callable, Callable]:
  """Makes what trains networks of a kind.

  Args:
    network: one of them.
    decoder: of the network.
    config: of the study.

  Returns:
    The step, as `training.train` takes it, and a function from a network to the
    state to begin with: the parameters that enlarge, and others; batch
    statistics; and the optimizer's.
  """
  graph, *_ = split(network)
  adam = lambda rate: optax.adam(
      optax.cosine_decay_schedule(rate, config.num_steps))
  optimizer = optax.multi_transform({
      'enlarging': (optax.set_to_zero() if decoder == 'frozen'
                    else adam(config.decoder_learning_rate)),
      'others': adam(config.learning_rate)}, ('enlarging', 'others'))

  def begin(network):
    _, *variables = split(network)
    # Training gives its start up.
    enlarging, others, stats = jax.tree.map(jnp.copy, variables)
    return (enlarging, others), stats, optimizer.init((enlarging, others))

  def loss(params, stats, batch):
    network = nnx.merge(graph, *params, stats, copy=True)
    error = optax.softmax_cross_entropy_with_integer_labels(
        network(batch['image']), batch['mask']).mean()
    return error, split(network)[-1]

  def step(state, batch):
    params, stats, moments = state
    (error, stats), gradient = jax.value_and_grad(loss, has_aux=True)(
        params, stats, batch)
    updates, moments = optimizer.update(gradient, moments)
    params = optax.apply_updates(params, updates)
    return (params, stats, moments), {'cross_entropy': error}

  return step, begin


def split(network: models.Segmenter):
  """Takes a network apart: graph, parameters that enlarge, others, the rest."""
  return nnx.split(network, models.ENLARGING, nnx.Param, ...)


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, *,
        command: str) -> None:
  """Learns, measures, and leaves results, figures and a report.

  Args:
    config: `configs/segmentation.py`.
    workdir: folder to write to.
    command: that started the run, for the report.

  Raises:
    RunError: a loss was NaN or infinite, or there are too few images.
  """
  data = data_lib.load(config)
  print(f'Learning from {len(data.train["image"])} images; testing on '
        f'{len(data.test["image"])} others.', flush=True)
  rows, shown = [], {}
  for head, decoder in itertools.product(config.heads, config.decoders):
    networks = {seed: draw(head, decoder, seed, config, data)
                for seed in config.seeds}
    step, begin = trainer(networks[config.seeds[0]], decoder, config)
    for seed, network in networks.items():
      state = training.train(
          step, begin(network), functools.partial(
              batches.shuffled, data.train, batch_size=config.batch_size,
              num_batches=config.num_steps, seed=seed),
          num_steps=config.num_steps, log_every=config.log_every,
          save_every=config.save_every, workdir=workdir,
          label=f'head {head}, {decoder}, seed {seed}')
      trained = nnx.merge(split(network)[0], *state[0], state[1])
      for stage, one in ('untrained', network), ('trained', trained):
        one.eval()
        measured, seen = measures.examine(
            one, head, data.test, len(data.classes))
        rows += [{'head': head, 'decoder': decoder, 'seed': seed,
                  'stage': stage, **row} for row in measured]
        if stage == 'trained':
          shown.setdefault((head, decoder), seen)
  if not devices.is_first():
    return
  workdir_lib.write_results(workdir, rows)
  # Apart from the results, which are the same in every run.
  timings = [time_step(head, config, data) for head in config.heads]
  workdir_lib.write_json(workdir / 'timings.json', timings)
  report_lib.report(config, workdir, data, rows, timings, shown, command)


def time_step(head: int, config: ml_collections.ConfigDict,
              data: data_lib.Data) -> dict[str, float]:
  """Times a training step of a learned decoder, through tconv and Flax.

  Args:
    head: of the network.
    config: of the study.
    data: to learn from.

  Returns:
    'head', and the times that `costs.compare` gives.
  """
  def build(layer):
    network = draw(head, 'learned', 0, config, data, conv_transpose=layer)
    step, begin = trainer(network, 'learned', config)
    batch = {name: x[:config.batch_size] for name, x in data.train.items()}
    return step, begin(network), batch

  return {'head': head, **costs.compare(build)}
