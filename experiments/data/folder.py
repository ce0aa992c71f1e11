"""Images, or images and masks, from a folder of the user.

Files that cannot be read are left out, with a warning. A folder without any
readable image is an error.
"""

import pathlib

import numpy as np
from PIL import Image

from experiments.harness import workdir as workdir_lib
from tconv.audit import images as images_lib

NAME = 'folder:PATH'  # Form of the name in a config.
_PREFIX = 'folder:'
_NAMED = 5  # Most unreadable files that a warning names.
_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


def path_of(name: str) -> str | None:
  """Returns PATH of 'folder:PATH', or None for any other name of data."""
  before, _, path = name.partition(_PREFIX)
  return path if path and not before else None


def images(path: str, size: int, channels: int) -> np.ndarray:
  """Reads all images of a folder and its subfolders.

  Args:
    path: path of the folder.
    size: side of the result in pixels. The middle square of each image is
      resized to it.
    channels: 1 for luminance, 3 for RGB.

  Returns:
    [N, size, size, channels] float32 in [0, 1], in the order of file names.

  Raises:
    RunError: there is no readable image.
  """
  return _read(path, [(file,) for file in _files(path)],
               lambda file: _square(_image(file, channels), size))


def images_and_masks(path: str, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Reads images and masks from a folder with the layout of Oxford Pets.

  The files are images/NAME.jpg and annotations/trimaps/NAME.png. Values of a
  mask are 1 for the pet, 2 for the background and 3 for the border.

  Args:
    path: path of the folder.
    size: side of the result in pixels.

  Returns:
    [N, size, size, 3] float32 images in [0, 1], and [N, size, size] int32
    masks, whose classes start at 0.

  Raises:
    RunError: there is no readable image with a mask.

  References:
    Parkhi et al., `Cats and dogs
    <https://www.robots.ox.ac.uk/~vgg/data/pets/>`_, 2012.
  """
  folder = pathlib.Path(path)
  pairs = [(file, folder / 'annotations/trimaps' / f'{file.stem}.png')
           for file in _files(folder / 'images')]

  def read(file, mask):
    picture, labels = _image(file, 3), _mask(mask)
    if picture.shape[:2] != labels.shape[:2]:
      raise images_lib.ImageError('its mask has another size')
    classes = _square(labels, size, Image.Resampling.NEAREST)[..., 0]
    return np.concatenate(
        [_square(picture, size), classes.astype(np.float32)[..., None]], -1)

  both = _read(path, pairs, read)
  return both[..., :3], both[..., 3].astype(np.int32)


def _files(path: str | pathlib.Path) -> list[pathlib.Path]:
  return sorted(file for file in pathlib.Path(path).rglob('*')
                if file.suffix.lower() in _SUFFIXES)


def _read(path, sources, read) -> np.ndarray:
  """Stacks the readable images, and warns of the others."""
  found, bad = [], []
  for files in sources:
    try:
      found.append(read(*files))
    except images_lib.ImageError as error:
      bad.append(f'{files[0]}: {error}')
  if bad:
    more = f'; and {len(bad) - _NAMED} more' if len(bad) > _NAMED else ''
    print(f'warning: {len(bad)} of {len(sources)} images are left out: '
          f'{"; ".join(bad[:_NAMED])}{more}', flush=True)
  if not found:
    raise workdir_lib.RunError(f'there is no image that can be read in {path}.')
  return np.stack(found)


def _image(file: pathlib.Path, channels: int) -> np.ndarray:
  """Reads [H, W, channels] pixels."""
  pixels, _ = images_lib.read(str(file))
  if channels == 1 and pixels.shape[-1] == 3:
    return images_lib.luminance(pixels)
  return np.broadcast_to(pixels, (*pixels.shape[:2], channels))


def _mask(file: pathlib.Path) -> np.ndarray:
  """Reads [H, W, 1] classes, which start at 0."""
  pixels, depth = images_lib.read(str(file))
  values = np.rint(pixels[..., :1] * 255).astype(np.uint8)
  if depth != '8-bit' or values.min() < 1 or values.max() > 3:
    raise images_lib.ImageError('its mask has other values than 1, 2 and 3')
  return values - 1


def _square(pixels: np.ndarray, size: int,
            resample: Image.Resampling = Image.Resampling.BOX) -> np.ndarray:
  """Resizes the middle square to [size, size, C], channel by channel."""
  height, width, _ = pixels.shape
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  square = pixels[top:top + side, left:left + side]
  return np.stack([
      np.asarray(Image.fromarray(np.ascontiguousarray(channel)).resize(
          (size, size), resample))
      for channel in np.moveaxis(square, -1, 0)], -1)
