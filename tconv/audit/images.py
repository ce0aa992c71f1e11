"""Reads image files of many formats at their full depth.

Pillow reads images of 8 bits per sample. It would reduce deeper images to 8
bits, so imagecodecs reads 16-bit PNG, and tifffile (with imagecodecs for
compressed data) deeper TIFF. Alpha and the rotation in EXIF data are ignored.
Only the first page or frame of a file is read.
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
_PNG_DEPTH = 24  # Position of this byte in the file.
# Modes of Pillow that are read, and the grey or RGB mode to convert them to.
_MODES = {'L': 'L', 'LA': 'LA', 'RGB': 'RGB', 'RGBA': 'RGBA', 'RGBX': 'RGB',
          '1': 'L', 'P': 'RGBA', 'PA': 'RGBA'}
_BT709 = np.array([[.2126], [.7152], [.0722]], np.float32)


class ImageError(Exception):
  """An image cannot be used; the message is one line with the reason."""


def luminance(rgb: np.ndarray) -> np.ndarray:
  """Returns [H, W, 1] BT.709 luma of [H, W, 3] colors, gamma-encoded as is."""
  return rgb @ _BT709


def read(path: str) -> tuple[np.ndarray, str]:
  """Reads an image file.

  Args:
    path: path of a BMP, GIF, JPEG, PNG, TIFF or WebP file. Its image may be
      grey, RGB or have a palette, with or without alpha, in unsigned integers
      or floats.

  Returns:
    [H, W, C] float32 pixels with C = 1 or 3, and the depth, such as '16-bit' or
    'float32'. Integers are divided by the largest value of their depth.

  Raises:
    ImageError: the file cannot be read completely, or its image is of another
      kind, has more pixels than Pillow's limit, or has NaN or infinity.
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
  except Exception as error:  # Decoders raise anything for damaged files.
    message = f'{type(error).__name__}: {error}'
    raise ImageError(' '.join(message.split())) from error
  if samples.ndim == 2:
    samples = samples[..., None]
  samples = samples[..., :3 if samples.shape[-1] > 2 else 1]
  if samples.dtype.kind == 'u':
    largest = np.float32(2**bits - 1)
    return samples.astype(np.float32) / largest, f'{bits}-bit'
  with np.errstate(over='ignore'):  # Overflow is an error below.
    pixels = samples.astype(np.float32)
  if bad := np.count_nonzero(~np.isfinite(pixels)):
    raise ImageError(f'{bad} of {pixels.size} samples are NaN or infinite')
  return pixels, samples.dtype.name


def _decode(file: BinaryIO) -> tuple[np.ndarray, int]:
  """Returns stored [H, W] or [H, W, samples] values, and bits per sample."""
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
