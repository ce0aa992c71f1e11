"""Image files: every kind at its full depth, and no part of a damaged one."""

import io
import os
import pathlib
import struct
import tempfile
from unittest import mock
import zlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image
import skimage
import tifffile

from experiments.data import photographs
from tconv.audit import images

COLORS = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's number for so many samples.


def random(shape, dtype):
  rng = np.random.default_rng(0)
  if np.dtype(dtype).kind == 'f':
    return rng.normal(size=shape).astype(dtype)
  return rng.integers(0, 2**(8 * np.dtype(dtype).itemsize), shape, dtype)


def pillow(pixels, kind, **options):
  """A file of Pillow, of an array or of an image."""
  file = io.BytesIO()
  image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
  image.save(file, kind, **options)
  return file.getvalue()


def png(pixels):
  """A PNG file of 16 bits, from its specification."""

  def chunk(name, data):
    checked = name + data
    return (struct.pack('>I', len(data)) + checked
            + struct.pack('>I', zlib.crc32(checked)))

  height, width, samples = pixels.shape
  lines = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack(
      '>IIBBBBB', width, height, 16, COLORS[samples], 0, 0, 0)) + chunk(
          b'IDAT', zlib.compress(lines)) + chunk(b'IEND', b'')


def tiff(pixels, **options):
  file = io.BytesIO()
  tifffile.imwrite(file, pixels, **options)
  return file.getvalue()


RGB = random((9, 8, 3), np.uint8)
DEEP = random((9, 8, 3), np.uint16)
FLOAT = random((9, 8, 3), np.float32)
PALETTE = Image.fromarray(RGB).quantize(16)


class ImagesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))

  def read(self, data):
    path = self.folder / 'image'
    path.write_bytes(data)
    return images.read(str(path))

  def assert_reads(self, data, expected, depth):
    pixels, found = self.read(data)
    self.assertEqual(found, depth)
    self.assertEqual(pixels.dtype, np.float32)
    np.testing.assert_array_equal(pixels, np.float32(expected))

  def assert_refuses(self, data, message):
    with self.assertRaisesRegex(images.ImageError, f'^{message}$'):
      self.read(data)

  @parameterized.product(samples=(1, 2, 3, 4), kind=('PNG', 'TIFF'))
  def test_8_bits(self, samples, kind):
    pixels = random((9, 8, samples), np.uint8)
    colors = pixels[..., :1 if samples < 3 else 3]
    self.assert_reads(pillow(pixels.squeeze(), kind),
                      colors / np.float32(255), '8-bit')

  @parameterized.parameters(1, 2, 3, 4)
  def test_png_of_16_bits(self, samples):
    pixels = random((9, 8, samples), np.uint16)
    colors = pixels[..., :1 if samples < 3 else 3]
    self.assert_reads(png(pixels), colors / np.float32(65535), '16-bit')

  @parameterized.product(
      dtype=(np.uint16, np.uint32, np.float16, np.float32, np.float64),
      shape=((9, 8), (9, 8, 3), (9, 8, 4)),
      options=({}, {'compression': 'lzw'}, {'byteorder': '>'},
               {'compression': 'zlib', 'predictor': True}, {'bigtiff': True},
               {'bigtiff': True, 'byteorder': '>'}))
  def test_deep_tiff(self, dtype, shape, options):
    pixels = random(shape, dtype)
    data = tiff(pixels, photometric='rgb' if shape[2:] else 'minisblack',
                **options)
    colors = pixels.reshape(9, 8, -1)[..., :3].astype(np.float32)
    if np.dtype(dtype).kind == 'f':
      self.assert_reads(data, colors, np.dtype(dtype).name)
    else:
      bits = 8 * np.dtype(dtype).itemsize
      self.assert_reads(data, colors / np.float32(2**bits - 1), f'{bits}-bit')

  @parameterized.parameters(
      (tiff(np.moveaxis(FLOAT, -1, 0), photometric='rgb',
            planarconfig='separate'), FLOAT, 'float32'),
      # White is 4095.
      (tiff(np.full((9, 8), 4095, np.uint16), bitspersample=12),
       np.ones((9, 8, 1)), '12-bit'),
      # It does not say that it is RGB.
      (tiff(FLOAT, photometric='minisblack', planarconfig='contig'), FLOAT,
       'float32'),
      # The first of several images.
      (pillow(RGB, 'TIFF', save_all=True,
              append_images=[Image.fromarray(RGB[:5])] * 2),
       RGB / np.float32(255), '8-bit'),
      (tiff(np.stack([FLOAT[..., 0]] * 2)), FLOAT[..., :1], 'float32'))
  def test_other_tiff(self, data, expected, depth):
    self.assert_reads(data, expected, depth)

  @parameterized.parameters(
      *((PALETTE, kind, {}) for kind in ('GIF', 'PNG', 'TIFF', 'BMP')),
      (PALETTE, 'PNG', {'transparency': bytes(range(16))}),
      *((Image.fromarray(RGB[..., 0] > 99), kind, {})
        for kind in ('PNG', 'TIFF')),
      (Image.fromarray(RGB), 'BMP', {}), (Image.fromarray(RGB), 'JPEG', {}),
      (Image.fromarray(RGB), 'WEBP', {'lossless': True}))
  def test_other_kinds(self, image, kind, options):
    if image.mode == 'RGB':
      options['exif'] = Image.Exif()
      options['exif'][0x0112] = 6  # To be shown turned, which is not done.
    data = pillow(image, kind, **options)
    colors = np.asarray(Image.open(io.BytesIO(data)).convert(
        'L' if image.mode == '1' else 'RGBA')).reshape(9, 8, -1)[..., :3]
    self.assert_reads(data, colors / np.float32(255), '8-bit')

  @parameterized.named_parameters(
      ('png', pillow(RGB, 'PNG')), ('png_16', png(DEEP)),
      ('jpeg', pillow(RGB, 'JPEG')), ('webp', pillow(RGB, 'WEBP')),
      ('bmp', pillow(RGB, 'BMP')), ('gif', pillow(PALETTE, 'GIF')),
      ('tiff', pillow(RGB, 'TIFF', compression='tiff_lzw')),
      ('tiff_16', tiff(DEEP, photometric='rgb', compression='zlib')),
      ('tiff_float', tiff(FLOAT, photometric='rgb', rowsperstrip=2)),
      ('tiff_planes', tiff(np.moveaxis(FLOAT, -1, 0), photometric='rgb',
                           planarconfig='separate')))
  def test_a_truncated_file_is_read_whole_or_not_at_all(self, data):
    whole, _ = self.read(data)
    refused = 0
    for length in range(len(data)):
      try:
        pixels, _ = self.read(data[:length])
      except images.ImageError as error:
        self.assertNotEmpty(str(error))
        self.assertNotIn('\n', str(error))
        refused += 1
      else:
        np.testing.assert_array_equal(pixels, whole)
    self.assertGreater(refused, len(data) / 2)

  @parameterized.parameters(png(DEEP), pillow(RGB, 'PNG'))
  def test_a_png_whose_data_were_changed(self, data):
    middle = data.index(b'IDAT') + 20
    self.assert_refuses(
        data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:], '.+')

  @parameterized.parameters(
      (b'', '.+'), (b'hello', 'not one of BMP, GIF, JPEG, PNG, TIFF, WEBP'),
      (b'\x89PNG\r\n\x1a\n', '.+'), (b'II*\0', '.+'), (b'P5 1 1 255 x', '.+'),
      (b'%!PS-Adobe-3.0 EPSF-3.0\n', '.+'))
  def test_no_image(self, data, message):
    self.assert_refuses(data, message)
    with self.assertRaisesRegex(images.ImageError, '^No such file'):
      images.read(str(self.folder / 'none.png'))
    with self.assertRaisesRegex(images.ImageError, '^a folder, .* not a file$'):
      images.read(str(self.folder))

  def test_a_reason_is_one_line(self):
    with mock.patch.object(images, '_decode', side_effect=EOFError('a\n  b')):
      self.assert_refuses(b'', 'EOFError: a b')

  @parameterized.parameters(
      (pillow(Image.new('CMYK', (8, 9)), 'JPEG'), 'grey nor RGB, but CMYK'),
      (tiff(random((9, 8, 4), np.uint16), photometric='separated'),
       'grey nor RGB, but SEPARATED of 4 samples'),
      (tiff(random((9, 8), np.uint16), photometric='miniswhite'),
       'grey nor RGB, but MINISWHITE of 1 samples'),
      (tiff(random((9, 8, 5), np.uint16), photometric='rgb'),
       'grey nor RGB, but RGB of 5 samples'),
      (tiff(np.zeros((9, 8), np.int16)),
       'unsigned integers nor floats, but int16'),
      (tiff(np.zeros((9, 8), np.complex64)),
       'unsigned integers nor floats, but complex64'))
  def test_other_colours_and_numbers(self, data, kind):
    self.assert_refuses(data, f'neither {kind}')

  @parameterized.parameters(np.nan, np.inf, -np.inf, 1e300)
  def test_values_that_are_not_finite(self, value):
    pixels = np.zeros((9, 8))
    pixels[2, 3:5] = value
    self.assert_refuses(tiff(pixels), '2 of 72 samples are NaN or infinite')

  @parameterized.parameters(
      (pillow(RGB, 'PNG'), 30, 'DecompressionBombError: .*72 pixels.*'),
      (pillow(RGB, 'PNG'), 60, 'DecompressionBombWarning: .*72 pixels.*'),
      (png(DEEP), 60, 'DecompressionBombWarning: .*72 pixels.*'),
      (tiff(FLOAT, photometric='rgb'), 60, '8x9 pixels, more than .* 60'))
  def test_the_limit_of_pixels(self, data, limit, message):
    with mock.patch.object(Image, 'MAX_IMAGE_PIXELS', limit):
      self.assert_refuses(data, message)
    with mock.patch.object(Image, 'MAX_IMAGE_PIXELS', 72):
      self.read(data)

  def test_luminance_is_that_of_the_photographs(self):
    rgb, _ = images.read(os.path.join(skimage.data_dir, 'astronaut.png'))
    np.testing.assert_array_equal(
        images.luminance(rgb), photographs.load('astronaut'))


if __name__ == '__main__':
  absltest.main()
