"""Anybody's image files, read at their full depth.

Pillow reads what has 8 bits a sample. It would round deeper images down to 8
bits, so imagecodecs reads PNG of 16 bits, and tifffile (with imagecodecs, where
it is compressed) TIFF of more than 8. Alpha is left out, and a rotation that
EXIF asks for is not carried out: the pixels are those of the file. Of a file
with several pages or frames, it is the first one.
"""

import os
import stat
from typing import BinaryIO
import warnings

import imagecodecs
import numpy as np
from PIL import Image
from PIL import UnidentifiedImageError
import tifffile

_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'TIFF', 'WEBP')
_TIFF_STARTS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_PNG_START = b'\x89PNG'
_PNG_DEPTH = 24  # The place of this byte in the file.
# Pillow's names: the modes of grey and RGB, and those that become one of them.
_MODES = {'L': 'L', 'LA': 'LA', 'RGB': 'RGB', 'RGBA': 'RGBA', 'RGBX': 'RGB',
          '1': 'L', 'P': 'RGBA', 'PA': 'RGBA'}
_BT709 = np.array([[.2126], [.7152], [.0722]], np.float32)


class ImageError(Exception):
  """An image that cannot be used; the message is one line that says why."""


def luminance(rgb: np.ndarray) -> np.ndarray:
  """Mixes colours to the luminance of BT.709, without undoing their gamma.

  Args:
    rgb: [H, W, 3] float32 image.

  Returns:
    [H, W, 1] float32 luminance.
  """
  return rgb @ _BT709


def read(path: str) -> tuple[np.ndarray, str]:
  """Reads an image file.

  Args:
    path: of a BMP, GIF, JPEG, PNG, TIFF or WebP file: grey, RGB or a palette,
      of unsigned integers or floats, with or without alpha.

  Returns:
    [H, W, C] float32 pixels, where C is 1 or 3: integers divided by the largest
    of their depth, floats as they are; and the depth, like '16-bit' or
    'float32'.

  Raises:
    ImageError: the file cannot be read, or not as a whole, or it holds an image
      of another kind, with more pixels than Pillow's limit, with NaN or
      infinity.
  """
  try:
    if not stat.S_ISREG(os.stat(path).st_mode):
      raise ImageError('a folder, pipe or device, not a file')
    with open(path, 'rb') as file, warnings.catch_warnings():
      warnings.simplefilter('error', Image.DecompressionBombWarning)
      samples, bits = _decode(file)
  except UnidentifiedImageError as error:
    raise ImageError(f'not one of {", ".join(_FORMATS)}') from error
  except OSError as error:
    raise ImageError(error.strerror or str(error)) from error
  except ImageError:
    raise
  except Exception as error:  # Decoders raise anything on a damaged file.
    message = f'{type(error).__name__}: {error}'
    raise ImageError(' '.join(message.split())) from error
  if samples.ndim == 2:
    samples = samples[..., None]
  samples = samples[..., :3 if samples.shape[-1] > 2 else 1]
  if samples.dtype.kind == 'u':
    largest = np.float32(2**bits - 1)
    return samples.astype(np.float32) / largest, f'{bits}-bit'
  with np.errstate(over='ignore'):  # To infinity, which is named here.
    pixels = samples.astype(np.float32)
  if bad := np.count_nonzero(~np.isfinite(pixels)):
    raise ImageError(f'{bad} of {pixels.size} samples are NaN or infinite')
  return pixels, samples.dtype.name


def _decode(file: BinaryIO) -> tuple[np.ndarray, int]:
  """Gives [H, W] or [H, W, samples] as they are stored, and bits a sample."""
  start = file.read(_PNG_DEPTH + 1)
  file.seek(0)
  if start.startswith(_TIFF_STARTS):
    with tifffile.TiffFile(file) as tiff:
      page = tiff.pages.first
      if page.bitspersample > 8:
        return _deep_tiff(page), page.bitspersample
    file.seek(0)
  with Image.open(file, formats=_FORMATS) as image:
    if start.startswith(_PNG_START) and start[_PNG_DEPTH] == 16:
      file.seek(0)
      return imagecodecs.png_decode(file.read()), 16
    if image.mode not in _MODES:
      raise ImageError(f'neither grey nor RGB, but {image.mode}')
    return np.asarray(image.convert(_MODES[image.mode])), 8


def _deep_tiff(page: tifffile.TiffPage) -> np.ndarray:
  """Reads the first page of a TIFF file."""
  kind = tifffile.PHOTOMETRIC(page.photometric).name
  if (kind not in ('MINISBLACK', 'RGB') or page.samplesperpixel > 4
      or page.axes not in ('YX', 'YXS', 'SYX')):
    raise ImageError(
        f'neither grey nor RGB, but {kind} of {page.samplesperpixel} samples')
  if page.dtype is None or page.dtype.kind not in 'uf':
    raise ImageError(
        f'neither unsigned integers nor floats, but {page.dtype}')
  if page.imagewidth * page.imagelength > (Image.MAX_IMAGE_PIXELS or np.inf):
    raise ImageError(
        f'{page.imagewidth}x{page.imagelength} pixels, more than the limit of '
        f'{Image.MAX_IMAGE_PIXELS}')
  samples = page.asarray()
  return np.moveaxis(samples, 0, -1) if page.axes == 'SYX' else samples
