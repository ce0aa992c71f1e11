"""Semi-synthetic images: mosaics of photographed textures with exact labels.

The Voronoi cells of random sites are filled with brick, grass and gravel of
scikit-image. Each cell has its own position, zoom, brightness and contrast.
Therefore the mean of a cell does not depend on its class, and some edges are
between cells of the same class. The left half of each photograph is for
training, and the right half is held out.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from experiments.data import photographs

NAMES = ('brick', 'grass', 'gravel')
CREDITS = 'brick, grass and gravel from scikit-image, CC0.'
LARGEST = 89  # Largest side of a mosaic: that of a half at the last zoom.

_ZOOMS = (.5, .35)
_CELLS = (30, 60)  # Range of the number of cells, exclusive at the end.
_BRIGHTNESS = (.4, .6)
_CONTRAST = (.12, .2)  # Standard deviation of a texture.
_NOISE = (0., .02)  # Standard deviation of the noise of a mosaic.
_SEEDS = {'train': 0, 'test': 1}

Texture = Sequence[np.ndarray]
Mosaic = dict[str, np.ndarray]


def load(part: str) -> list[Texture]:
  """Reads one half of each texture.

  Args:
    part: 'train' or 'test'.

  Returns:
    For each of `NAMES`, [h, w] float32 arrays at several zooms, with mean 0 and
    variance 1.

  Raises:
    ValueError: `part` is neither.
  """
  if part not in _SEEDS:
    raise ValueError(f'part must be train or test; got {part!r}.')
  textures: list[Texture] = []
  for name in NAMES:
    left, right = np.split(photographs.load(name)[..., 0], 2, axis=1)
    image = Image.fromarray(left if part == 'train' else right)
    zoomed = [np.asarray(image.resize(
        (int(zoom * image.width), int(zoom * image.height)),
        Image.Resampling.BICUBIC)) for zoom in _ZOOMS]
    textures.append([(x - x.mean()) / x.std() for x in zoomed])
  return textures


def mosaic(textures: Sequence[Texture], size: int,
           rng: np.random.Generator) -> Mosaic:
  """Makes an image and its labels.

  Args:
    textures: result of `load`.
    size: side of the image in pixels, at most `LARGEST`.
    rng: random generator.

  Returns:
    'image', [size, size, 1] float32 in [0, 1], and 'mask', [size, size] int32
    indices of the textures.
  """
  sites = rng.uniform(0, size, (rng.integers(*_CELLS), 2, 1, 1))
  cell = np.argmin(((np.indices((size, size)) - sites)**2).sum(1), 0)
  classes = rng.integers(len(textures), size=len(sites))
  image = rng.uniform(*_NOISE) * rng.standard_normal((size, size))
  for i, texture in enumerate(classes):
    zoomed = textures[texture][rng.integers(len(_ZOOMS))]
    top, left = rng.integers(np.array(zoomed.shape) - size + 1)
    rows, columns = np.nonzero(cell == i)
    image[rows, columns] += (
        rng.uniform(*_BRIGHTNESS)
        + rng.uniform(*_CONTRAST) * zoomed[top + rows, left + columns])
  return {'image': np.clip(image, 0, 1).astype(np.float32)[..., None],
          'mask': classes[cell].astype(np.int32)}


def mosaics(part: str, number: int, size: int) -> Mosaic:
  """Makes mosaics with a fixed seed: stacked results of `mosaic`."""
  textures, rng = load(part), np.random.default_rng(_SEEDS[part])
  made = [mosaic(textures, size, rng) for _ in range(number)]
  return {name: np.stack([one[name] for one in made])
          for name in ('image', 'mask')}
