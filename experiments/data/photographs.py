"""Photographs from the scikit-image and scikit-learn packages.

Luminance is BT.709 luma, [H, W, 1] float32 in [0, 1]. Images are split into
training and test by name, never by crop. `moon` must not be used: its pixels
are repeated 2x2 times, which is the pattern that the studies measure.
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
from tconv.audit import images

TRAIN = ('astronaut', 'coffee', 'camera', 'brick', 'grass',
         'hubble_deep_field', 'stereo_motorcycle', 'china')
TEST = ('chelsea', 'flower', 'gravel')
SMALLEST = 300  # Shortest side of all photographs, in pixels.

CREDITS = (
    'china.jpg by danielbuechele and flower.jpg by vultilion, both CC BY 2.0 '
    '(https://creativecommons.org/licenses/by/2.0/), from scikit-learn; all '
    'other photographs from scikit-image. Shown in luminance, cropped.')

# Files other than NAME.png of scikit-image.
_FILES = {
    'hubble_deep_field': ('skimage.data', 'hubble_deep_field.jpg'),
    'stereo_motorcycle': ('skimage.data', 'motorcycle_left.png'),
    'china': ('sklearn.datasets.images', 'china.jpg'),
    'flower': ('sklearn.datasets.images', 'flower.jpg'),
}

Pair = dict[str, np.ndarray]


def load(name: str) -> np.ndarray:
  """Reads a photograph as [H, W, 1] float32 luminance in [0, 1]."""
  return images.luminance(load_rgb(name))


def load_rgb(name: str) -> np.ndarray:
  """Reads a photograph in RGB; some photographs are grey.

  Args:
    name: one of `TRAIN` or `TEST`.

  Returns:
    [H, W, 3] float32 in [0, 1].

  Raises:
    ValueError: `name` is none of these.
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
    scale: downsampling factor; the image is cropped to a multiple of it.

  Returns:
    'low': [H // scale, W // scale, 1] by antialiased bicubic downsampling, and
    'high': [H // scale * scale, W // scale * scale, 1], both in [0, 1].
  """
  height, width = (size // scale for size in image.shape[:2])
  high = image[:height * scale, :width * scale]
  low = jax.image.resize(high, (height, width, 1), 'cubic', antialias=True)
  return {'low': np.asarray(jnp.clip(low, 0, 1)), 'high': high}


def random_patches(pairs: Sequence[Pair], *, size: int, batch_size: int,
                   num_batches: int, seed: int, start: int = 0,
                   shard: grain.sharding.ShardOptions = batches.ALL
                   ) -> Iterator[Pair]:
  """Yields batches of aligned patches at random positions.

  Args:
    pairs: 'low' and 'high' of each image; all are drawn equally often.
    size: side of a low-resolution patch in pixels.
    batch_size: number of patches in a batch.
    num_batches: number of batches.
    seed: random seed of order and positions.
    start: first batch to yield; all batches are the same for any `start`.
    shard: part of each batch to yield.

  Returns:
    Iterator over batches: 'low', [batch_size, size, size, 1], and 'high', the
    same patches at high resolution.
  """

  def cut(pair: Pair, rng: np.random.Generator) -> Pair:
    height, width, _ = pair['low'].shape
    top, left = rng.integers((height - size + 1, width - size + 1))
    patch = {}
    for name, image in pair.items():
      s = image.shape[0] // height
      patch[name] = image[top * s:(top + size) * s, left * s:(left + size) * s]
    return patch

  # Repeated first, because grain takes milliseconds to shuffle few elements.
  times = math.ceil(num_batches * batch_size / len(pairs))
  patches = grain.MapDataset.source(pairs).repeat(times).seed(seed).shuffle()
  return batches.iterate(patches.random_map(cut), batch_size=batch_size,
                         start=start, end=num_batches, shard=shard)
