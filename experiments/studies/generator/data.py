"""The images that the generator study learns from and compares with."""

from collections.abc import Callable
from collections.abc import Iterator
import functools
from typing import NamedTuple

import numpy as np

from experiments.data import batches
from experiments.data import digits
from experiments.data import folder
from experiments.data import photographs
from experiments.harness.workdir import RunError

NAMES = f'digits, patches or {folder.NAME}'

_COMPARED = 1000  # Patches on each side.
_HELD_OUT = 5  # One in so many images of a folder.

Batch = dict[str, np.ndarray]


class Data(NamedTuple):
  """Images in [-1, 1], and their classes where there are any.

  Attributes:
    train: some or all of those to learn from, 'image' [N, size, size, colors]
      and perhaps 'label' [N], to compare with.
    held_out: others, the same.
    batches: from keyword arguments batch_size, num_batches, seed and start, as
      those of `batches.shuffled`, to an iterator over those to learn from.
    classes: their number, or 0.
    credits: whose images they are.
  """
  train: Batch
  held_out: Batch
  batches: Callable[..., Iterator[Batch]]
  classes: int
  credits: str


def is_known(name: str) -> bool:
  """Tells whether `load` takes the name."""
  return name in ('digits', 'patches') or folder.path_of(name) is not None


def load(name: str, size: int) -> Data:
  """Reads [N, size, size, colors] images in [-1, 1].

  Args:
    name: one of `NAMES`.
    size: size in pixels; that of digits is 32.

  Returns:
    Digits in luminance with their classes, others in color and without.

  Raises:
    RunError: a folder has no images, or too few.
  """
  if name == 'digits':
    train, held_out = digits.load()
    return Data(train, held_out, functools.partial(batches.shuffled, train),
                digits.CLASSES, digits.CREDITS)
  if name == 'patches':
    train, held_out = (
        functools.partial(_patches, size, names)
        for names in (photographs.TRAIN, photographs.TEST))
    some = {'batch_size': _COMPARED, 'num_batches': 1, 'seed': 0}
    return Data(next(train(**some)), next(held_out(**some)), train, 0,
                photographs.CREDITS)
  path = folder.path_of(name)
  assert path, name
  images = 2 * folder.images(path, size, 3) - 1
  if len(images) < 2 * _HELD_OUT:
    raise RunError(
        f'config.data must be a folder of at least {2 * _HELD_OUT} images, as '
        f'one in {_HELD_OUT} is held out; got {len(images)} in {path}.')
  held_out = np.arange(len(images)) % _HELD_OUT == 0
  train = {'image': images[~held_out]}
  return Data(train, {'image': images[held_out]},
              functools.partial(batches.shuffled, train), 0,
              f'The images of {path}.')


def _patches(size, names, **options):
  """Batches of random squares of photographs."""
  sources = [{'low': 2 * photographs.load_rgb(name) - 1} for name in names]
  for batch in photographs.random_patches(sources, size=size, **options):
    yield {'image': batch['low']}
