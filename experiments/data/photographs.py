"""Photographs from the scikit-image and scikit-learn packages.

Luminance is that of BT.709, [H, W, 1] float32 in [0, 1]. Images are split into
training and test by name, never by crop. `moon` is left out for good: each of
its pixels is there 2x2 times, the very pattern that the studies look for.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from importlib import resources
import math

import grain
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from experiments.data import batches
from experiments.data import images

TRAIN = ('astronaut', 'coffee', 'camera', 'brick', 'grass',
         'hubble_deep_field', 'stereo_motorcycle', 'china')
TEST = ('chelsea', 'flower', 'gravel')
SMALLEST = 300  # Pixels; the narrowest side of all.

CREDITS = (
    'china.jpg by danielbuechele and flower.jpg by vultilion, both CC BY 2.0 '
    '(https://creativecommons.org/licenses/by/2.0/), from scikit-learn; all '
    'other photographs from scikit-image. Shown in luminance, cropped.')

# Files that are not NAME.png of scikit-image.
_FILES = {
    'hubble_deep_field': ('skimage.data', 'hubble_deep_field.jpg'),
    'stereo_motorcycle': ('skimage.data', 'motorcycle_left.png'),
    'china': ('sklearn.datasets.images', 'china.jpg'),
    'flower': ('sklearn.datasets.images', 'flower.jpg'),
}

Pair = dict[str, np.ndarray]


def load(name: str) -> np.ndarray:
  """Reads a photograph in luminance.

  Args:
    name: one of `TRAIN` or `TEST`.

  Returns:
    [H, W, 1] float32 luminance in [0, 1].

  Raises:
    ValueError: there is no such photograph here.
  """
  return images.luminance(load_rgb(name))


def load_rgb(name: str) -> np.ndarray:
  """Reads a photograph in colour; some of them are grey.

  Args:
    name: one of `TRAIN` or `TEST`.

  Returns:
    [H, W, 3] float32 in [0, 1].

  Raises:
    ValueError: there is no such photograph here.
  """
  if name not in TRAIN + TEST:
    raise ValueError(
        f'name must be one of {", ".join(TRAIN + TEST)}; got {name!r}.')
  package, file_name = _FILES.get(name, ('skimage.data', f'{name}.png'))
  with (resources.files(package) / file_name).open('rb') as file:
    return np.asarray(Image.open(file).convert('RGB'), np.float32) / 255


def downsampled_pair(image: np.ndarray, scale: int) -> Pair:
  """Makes the low-resolution version of an image.

  Args:
    image: [H, W, 1] luminance in [0, 1].
    scale: factor between the two; the image is cropped to a multiple of it.

  Returns:
    'low': [H // scale, W // scale, 1], by antialiased bicubic downsampling, and
    'high': [H // scale * scale, W // scale * scale, 1]; both in [0, 1].
  """
  height, width = (size // scale for size in image.shape[:2])
  high = image[:height * scale, :width * scale]
  low = jax.image.resize(high, (height, width, 1), 'cubic', antialias=True)
  return {'low': np.asarray(jnp.clip(low, 0, 1)), 'high': high}


def random_patches(pairs: Sequence[Pair], *, size: int, batch_size: int,
                   num_batches: int, seed: int, start: int = 0,
                   shard: grain.sharding.ShardOptions = batches.ALL
                   ) -> Iterator[Pair]:
  """Cuts aligned patches from random places.

  Args:
    pairs: 'low' and 'high' of each image; each is seen equally often.
    size: of a low-resolution patch in pixels.
    batch_size: patches in a batch.
    num_batches: batches in all.
    seed: what the order and the places depend on, besides these numbers.
    start: batches to leave out; the others are the same.
    shard: the part of each batch to give.

  Returns:
    Iterator over batches with 'low', [batch_size, size, size, 1], and 'high',
    the same pixels enlarged by the scale of the pairs.
  """

  def cut(pair: Pair, rng: np.random.Generator) -> Pair:
    height, width, _ = pair['low'].shape
    top, left = rng.integers((height - size + 1, width - size + 1))
    patch = {}
    for name, image in pair.items():
      s = image.shape[0] // height
      patch[name] = image[top * s:(top + size) * s, left * s:(left + size) * s]
    return patch

  # Repeated first: grain takes milliseconds to shuffle among few elements.
  times = math.ceil(num_batches * batch_size / len(pairs))
  patches = grain.MapDataset.source(pairs).repeat(times).seed(seed).shuffle()
  return batches.iterate(patches.random_map(cut), batch_size=batch_size,
                         start=start, end=num_batches, shard=shard)
