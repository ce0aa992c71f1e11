"""Study 1: enlarge photographs, and measure the grid that an upsampler paints.

All networks learn the image itself, from the same patches in the same order.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import math
import pathlib
import statistics
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from experiments import training
from experiments import workdir as workdir_lib
from experiments.data import photographs
from experiments.report import figures
from experiments.report import page
from experiments.studies import upsamplers
import tconv

TRUTH = 'ground truth'
_SUMMARY = (
    'Photographs were shrunk by {scale} and enlarged again. PSNR says how near '
    'that came to the photograph: higher is nearer. The grid level says how '
    'far a pattern that repeats every {scale} pixels stands out of the '
    'spectrum: about 0 dB is chance, 10 dB is ten times the power of its '
    'surroundings, and far below 0 dB the upsampler cancels such a pattern. '
    'The learned upsamplers differ in their last layer only. A border of '
    '{scale} pixels is left out.')
_CAPTION = (
    'From the top: a part of {image}; the spectrum of the whole image, with '
    'circles at the frequencies of a pattern that repeats every {scale} '
    'pixels; and these places enlarged and added up. A red dot in the middle '
    'is such a pattern, and its colour is the grid level; white is chance; '
    'blue lines are frequencies that the upsampler cancels.')

Enlarge = Callable[[jax.typing.ArrayLike], jax.Array]


def check(config: ml_collections.ConfigDict) -> None:
  """Finds mistakes in a config before anything is built.

  Args:
    config: `configs/upsampling.py`.

  Raises:
    RunError: a field has a value that cannot be used.
  """
  def require(condition, field, wanted):
    if not condition:
      raise workdir_lib.RunError(
          f'config.{field} must be {wanted}; got {config[field]!r}.')

  names = config.upsamplers
  require(names and all(upsamplers.is_known(name) for name in names),
          'upsamplers', f'any of {upsamplers.NAMES}')
  require(config.seeds and all(isinstance(seed, int) for seed in config.seeds),
          'seeds', 'whole numbers')
  require(config.scale >= 2, 'scale', 'at least 2')
  for field in ('num_steps', 'batch_size', 'log_every'):
    require(config[field] >= 1, field, 'at least 1')
  largest = photographs.SMALLEST // config.scale
  require(1 <= config.patch_size <= largest, 'patch_size', f'1 to {largest}')
  require(config.figure.image in photographs.TEST, 'figure.image',
          f'one of {", ".join(photographs.TEST)}')
  for field, size in zip(('figure.top', 'figure.left'),
                         photographs.load(config.figure.image).shape):
    largest = size - config.figure.size
    require(0 <= config[field] <= largest, field, f'0 to {largest}')


def learn(name: str, seed: int, config: ml_collections.ConfigDict,
          pairs: Sequence[photographs.Pair], *, label: str,
          metrics_file: pathlib.Path) -> Enlarge:
  """Trains a network.

  Args:
    name: of the upsampling layer.
    seed: for kernels and patches.
    config: of the study.
    pairs: training images.
    label: name of this training, on screen and in the metrics.
    metrics_file: takes the loss, the mean squared error.

  Returns:
    The trained network, from [N, h, w, 1] to [N, scale * h, scale * w, 1].
  """
  graph, params = nnx.split(upsamplers.Network(name, config, nnx.Rngs(seed)))
  optimizer = optax.adam(
      optax.cosine_decay_schedule(config.learning_rate, config.num_steps))

  def loss(params, batch):
    return jnp.mean((nnx.merge(graph, params)(batch['low']) - batch['high'])**2)

  def step(state, batch):
    params, moments = state
    value, gradient = jax.value_and_grad(loss)(params, batch)
    updates, moments = optimizer.update(gradient, moments)
    return (optax.apply_updates(params, updates), moments), {'loss': value}

  params, _ = training.train(
      step, (params, optimizer.init(params)),
      photographs.random_patches(
          pairs, size=config.patch_size, batch_size=config.batch_size,
          num_batches=config.num_steps, seed=seed),
      num_steps=config.num_steps, log_every=config.log_every, label=label,
      metrics_file=metrics_file)
  return jax.jit(lambda low: nnx.merge(graph, params)(low))


def measure(image: jax.typing.ArrayLike, truth: jax.typing.ArrayLike,
            scale: int) -> dict[str, float]:
  """Measures an enlarged image.

  Args:
    image: [H, W, 1] luminance.
    truth: [H, W, 1] luminance in [0, 1].
    scale: factor of the enlargement; a border of as many pixels is left out.

  Returns:
    'psnr_db', peak signal-to-noise ratio in dB; 'grid_level_db', level in dB of
    the pattern of period `scale`; and 'truth_grid_level_db', that of the truth.
  """
  inner = lambda x: jnp.asarray(x)[None, scale:-scale, scale:-scale]
  image, truth = inner(image), inner(truth)
  level = lambda x: tconv.grid_level(x, scale).item()
  return {
      'psnr_db': -10 * math.log10(float(jnp.mean((image - truth)**2))),
      'grid_level_db': level(image),
      'truth_grid_level_db': level(truth),
  }


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, *,
        command: str) -> None:
  """Learns, measures, and leaves results, a figure and a report.

  Args:
    config: `configs/upsampling.py`.
    workdir: folder to write to.
    command: that started the run, for the report.

  Raises:
    RunError: a loss was NaN or infinite.
  """
  metrics_file = workdir / 'metrics.jsonl'
  metrics_file.write_text('')
  print(f'Learning from {", ".join(photographs.TRAIN)}; testing on '
        f'{", ".join(photographs.TEST)}.', flush=True)
  train_pairs, test_pairs = (
      {name: photographs.downsampled_pair(photographs.load(name), config.scale)
       for name in names} for names in (photographs.TRAIN, photographs.TEST))
  shown = {TRUTH: test_pairs[config.figure.image]['high']}
  rows = []
  for name in config.upsamplers:
    for seed in (None,) if name in upsamplers.BASELINES else config.seeds:
      if seed is None:
        enlarge = jax.jit(functools.partial(
            tconv.upsample, scale=config.scale, method=name))
      else:
        enlarge = learn(
            name, seed, config, list(train_pairs.values()),
            label=f'{name}, seed {seed}', metrics_file=metrics_file)
      for image, pair in test_pairs.items():
        enlarged = enlarge(pair['low'][None])[0]
        rows.append({'upsampler': name, 'seed': seed, 'image': image,
                     **measure(enlarged, pair['high'], config.scale)})
        if image == config.figure.image:
          shown.setdefault(name, np.asarray(enlarged))
  workdir_lib.write_results(workdir, rows)
  report(config, workdir, rows, shown, command)


def report(config: ml_collections.ConfigDict, workdir: pathlib.Path,
           rows: Sequence[dict[str, Any]], shown: dict[str, np.ndarray],
           command: str) -> None:
  """Prints the table, and writes it with the figure into `report.html`.

  Args:
    config: of the study.
    workdir: folder to write to.
    rows: the results.
    shown: [H, W, 1] images for the figure, the ground truth's and the first
      seed's of each upsampler, by name.
    command: that started the run.
  """
  names = [TRUTH, *dict.fromkeys(config.upsamplers)]
  headline = page.Table(
      f'Means over {", ".join(photographs.TEST)}.',
      ('upsampler', 'PSNR, dB', 'grid level, dB'),
      [(name, *_cells(rows, name, photographs.TEST)) for name in names])
  by_image = page.Table(
      'Each image: PSNR and grid level, dB.',
      ('upsampler', *(column for image in photographs.TEST
                      for column in (f'{image} PSNR', 'grid'))),
      [(name, *(cell for image in photographs.TEST
                for cell in _cells(rows, name, [image]))) for name in names])
  titles = {}
  for name in names:
    psnr, level = _cells(rows, name, [config.figure.image])
    titles[name] = f'{name}\ngrid {level} dB' + (
        '' if psnr is None else f'\nPSNR {psnr} dB')
  path = workdir / 'figures' / 'upsampling.png'
  path.parent.mkdir(exist_ok=True)
  figures.crops_and_spectra(
      {titles[name]: shown[name][..., 0] for name in names},
      top=config.figure.top, left=config.figure.left, size=config.figure.size,
      period=config.scale).savefig(path, dpi=100)
  page.write_page(
      workdir / 'report.html', title=f'Enlarging photographs by {config.scale}',
      summary=_SUMMARY.format(scale=config.scale), tables=[headline, by_image],
      figures=[page.Figure(path, _CAPTION.format(
          image=config.figure.image, scale=config.scale))],
      command=command, environment=workdir_lib.environment(),
      credits=photographs.CREDITS)
  page.print_table(headline)
  print(f'report: {workdir / "report.html"}')


def _cells(rows, name, images) -> tuple[str | None, str]:
  """Mean PSNR and grid level of an upsampler, or of the ground truth."""
  rows = [row for row in rows if row['image'] in images]
  mean = lambda key: statistics.fmean(row[key] for row in rows)
  if name == TRUTH:
    return None, f'{mean("truth_grid_level_db"):z.1f}'
  rows = [row for row in rows if row['upsampler'] == name]
  return f'{mean("psnr_db"):.2f}', f'{mean("grid_level_db"):z.1f}'
