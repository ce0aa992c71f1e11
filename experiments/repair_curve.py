"""Measures how much data a calibrated repair needs.

    python -m experiments.repair_curve --config=configs/upsampling.py:full \
        --workdir=runs/full --out=docs/upsampling.md

The networks are the plain transposed convolutions of a run of study 1 that has
ended. The layer of each is made clean by `tconv.equalize_phases`, without
inputs and with the features of random crops of the training images, and
measured on the test images.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import functools
import pathlib
from typing import Any

from absl import app
from absl import flags
from absl import logging
from flax import nnx
from ml_collections import config_flags
import numpy as np

from experiments import commands
from experiments import upsamplers
from experiments.harness import loop
from experiments.harness.results import Table
from experiments.studies import upsampling
from experiments.studies.upsampling import metrics
from experiments.studies.upsampling import model

SIZES = (8, 16, 32, 64)  # Sides of the crops, in coarse pixels.
DRAWS = 4  # Crops of each size.
_COLUMNS = ('without inputs', *(f'{n}x{n} pixels' for n in SIZES), 'all')


def run(study: upsampling.Study, workdir: pathlib.Path) -> Iterator[list[str]]:
  """Measures the change of PSNR for each network of a run.

  Args:
    study: study 1.
    workdir: folder of its run.

  Yields:
    Rows of the table: scale, upsampler, and for each number of pixels the mean
    over seeds, test images and crops of the change of PSNR, in dB, and the
    worst of all crops.
  """
  study.load()
  changes: dict[tuple[int, str], list[list[list[float]]]] = {}
  for trial in study.trials():
    upsampler, network = trial.subject
    if not upsampler.is_plain or trial.training is None:
      continue
    training, config = trial.training, study.config
    params, _ = loop.train(
        training.step, training.state, training.batches,
        num_steps=training.num_steps, log_every=config.log_every,
        save_every=config.save_every, label=training.label, workdir=workdir)
    trained = nnx.merge(nnx.graphdef(network), params)
    scale = trial.key['scale']
    changes.setdefault((scale, upsampler.name), []).append(_changes(
        trained, upsampler, scale, study.pairs[scale, 'train'],
        study.pairs[scale, 'test']))
  for (scale, name), of_seeds in changes.items():
    yield [f'x{scale}', name, *(
        f'{np.mean(column):.3f} ({np.min(column):.3f})'
        for column in map(np.concatenate, zip(*of_seeds, strict=True)))]


def _changes(network: model.Network, upsampler: upsamplers.Upsampler,
             scale: int, train: dict[str, Any], test: dict[str, Any]
             ) -> list[list[float]]:
  """Changes of PSNR in dB, for each number of pixels and crop."""

  def psnr(network):
    rows, _ = metrics.examine(upsampler, network, scale, test)
    return np.mean([row['psnr_db'] for row in rows])

  before = psnr(network)
  images = [pair['low'] for pair in train.values()]
  generator = np.random.default_rng(0)
  crop = functools.partial(_crop, images, generator)
  calibrations = [[None], *([[crop(size)] for _ in range(DRAWS)]
                            for size in SIZES), [images]]
  return [[float(psnr(model.equalized(network, with_these)) - before)
           for with_these in each] for each in calibrations]


def _crop(images: Sequence[np.ndarray], generator: np.random.Generator,
          size: int) -> np.ndarray:
  """A random [size, size, 1] square of a random image."""
  image = images[int(generator.integers(len(images)))]
  top, left = (generator.integers(n - size + 1) for n in image.shape[:2])
  return image[top:top + size, left:left + size]


def main(argv: list[str]) -> None:
  """Prints the table, and puts it into a page."""
  logging.set_verbosity(logging.WARNING)
  with commands.started('repair_curve', argv) as (console, _):
    study = upsampling.Study(_CONFIG.value)
    study.check()
    rows = list(run(study, pathlib.Path(_WORKDIR.value)))
    versions = commands.listed(commands.versions('jax', 'flax'))
    table = Table('Change of PSNR by the repair, in dB: mean, and worst crop.',
                  ('scale', 'upsampler', *_COLUMNS), rows).markdown()
    table += f'\n\nRepaired with {versions}.'
    console.print(table, soft_wrap=True)
    if _OUT.value:
      commands.replace_part(
          _OUT.value, 'Change of PSNR by the repair', 'Repaired with ', table)


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file(
      'config', None, 'Config of study 1.')
  _WORKDIR = flags.DEFINE_string(
      'workdir', None, 'Folder of a run of it.', required=True)
  _OUT = flags.DEFINE_string(
      'out', '', 'Markdown page whose table is replaced.')
  app.run(main)
