"""The training and test images of the segmentation study."""

from typing import NamedTuple

import ml_collections
import numpy as np

from experiments.data import folder
from experiments.data import textures
from experiments.harness import workdir as workdir_lib

NAMES = f'textures or {folder.NAME}'


class Data(NamedTuple):
  """Images and masks.

  Attributes:
    train: 'image', [N, size, size, C] in [0, 1], and 'mask', [N, size, size].
    test: others, the same.
    classes: names.
    credits: whose images they are.
  """
  train: dict[str, np.ndarray]
  test: dict[str, np.ndarray]
  classes: tuple[str, ...]
  credits: str


def is_known(name: str) -> bool:
  """Tells whether `load` takes the name."""
  return name == 'textures' or folder.path_of(name) is not None


def load(config: ml_collections.ConfigDict) -> Data:
  """Makes or reads the images that the config asks for.

  Raises:
    RunError: the folder has too few images.
  """
  if config.data == 'textures':
    return Data(
        textures.mosaics('train', config.train_images, config.size),
        textures.mosaics('test', config.test_images, config.size),
        textures.NAMES, f'Semi-synthetic mosaics of {textures.CREDITS}')
  path = folder.path_of(config.data)
  assert path, config.data
  images, masks = folder.images_and_masks(path, config.size)
  if len(images) <= config.test_images:
    raise workdir_lib.RunError(
        'config.test_images must leave some images to learn from; got '
        f'{config.test_images} of {len(images)} in {path}.')
  order = np.random.default_rng(0).permutation(len(images))
  test, train = ({'image': images[chosen], 'mask': masks[chosen]}
                 for chosen in np.split(order, [config.test_images]))
  return Data(train, test, ('pet', 'background', 'border'),
              f'The images of {path}.')
