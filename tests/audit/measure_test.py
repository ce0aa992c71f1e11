"""The command that measures anybody's images, end to end."""

import contextlib
import csv
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from absl.testing import absltest
import imagecodecs
import numpy as np
from PIL import Image
import tifffile

from tconv.audit import cli

GREEN = .7152  # Its share in the luminance of BT.709.
SIZE = 24, 36  # A multiple of the periods, and one size to compile for.


def checkerboard(size=SIZE):
  """[*size] pattern of zeros and ones."""
  return np.indices(size).sum(0) % 2


def rms(pattern):
  return np.sqrt(((pattern - pattern.mean())**2).mean())


class MeasureTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))
    self.out = self.folder / 'new' / 'out'

  def path(self, name):
    path = self.folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    return path

  def save(self, name, pixels, **options):
    """Writes 8 bits by Pillow, 16 by imagecodecs, and TIFF by tifffile."""
    if name.endswith('tif'):
      tifffile.imwrite(self.path(name), pixels, **options)
    elif pixels.dtype == np.uint16:
      self.path(name).write_bytes(imagecodecs.png_encode(pixels.copy()))
    else:
      Image.fromarray(pixels).save(self.path(name), **options)

  def run_main(self, *patterns, options=()):
    """Runs the command and gives its status, its rows, and what it printed."""
    printed = io.StringIO()
    with (contextlib.redirect_stdout(printed),
          contextlib.redirect_stderr(printed)):
      status = cli.main([
          'measure', *(str(self.folder / p) for p in patterns),
          '--out', str(self.out), *options])
    if status == 2:
      return status, {}, printed.getvalue()
    with open(self.out / 'measures.csv', newline='', encoding='utf-8',
              errors='surrogateescape') as file:
      rows = {(os.path.relpath(row.pop('file'), self.folder),
               row.pop('channel')): row for row in csv.DictReader(file)}
    return status, rows, printed.getvalue()

  def spectra_of(self):
    folder = self.out / 'spectra'
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())

  def test_an_injected_pattern_is_found_in_its_channel(self):
    pattern = checkerboard()
    # Background, step of the pattern, and this step in 8-bit levels.
    for name, grey, step, levels in (
        ('8-bit.png', np.uint8(100), 3, 3),
        ('16-bit.png', np.uint16(30000), 64, 64 * 255 / 65535),
        ('float32.tif', np.float32(200), 7, 7 * 255)):
      pixels = np.full((*SIZE, 3), grey)
      pixels[..., 1] += (step * pattern).astype(grey.dtype)
      options = {'photometric': 'rgb'} if name.endswith('tif') else {}
      self.save(name, pixels, **options)
      self.save(f'grey_{name}', pixels[..., 1])
      status, rows, printed = self.run_main(f'*{name}')
      self.assertEqual(status, 0)
      self.assertLen(rows, 4 + 1)
      injected = levels * rms(pattern)
      for channel, share in [('R', 0), ('G', 1), ('B', 0),
                             ('luminance', GREEN)]:
        row = rows[name, channel]
        np.testing.assert_allclose(
            float(row['grid_amplitude']), share * injected, rtol=1e-4,
            atol=1e-5 * levels)
        self.assertEqual(float(row['grid_level_db']) > 40, share > 0)
        self.assertEqual((row['width'], row['height'], row['depth']),
                         ('36', '24', name[:-4]))
      self.assertEqual(rows[f'grey_{name}', 'grey'], rows[name, 'G'])
      self.assertIn(f'{injected:.3f}', printed)
      self.assertIn(f'36x24, {name[:-4]}', printed)

  def test_what_cannot_be_measured_is_named_and_skipped(self):
    good = np.full(SIZE, 90, np.uint8)
    self.save('good.png', good)
    data = self.path('good.png').read_bytes()
    half = f'{"half" * 20}.png'  # Longer than a line of the screen.
    self.path(half).write_bytes(data[:len(data) // 2])
    self.path('[b]text.png').write_text('hello')
    self.save('smallest.png', good[:16, :16])
    self.save('tiny.png', good[:7, :5])
    self.save('low.png', good[:15])
    self.save('narrow.png', good[:, :15])
    self.save('nan.tif', np.full(SIZE, np.nan, np.float32))
    self.save('huge.tif', np.float32(1e30) * checkerboard())
    self.path('link.png').symlink_to(self.folder / 'nowhere')
    self.path('loop.png').symlink_to('loop.png')
    os.mkfifo(self.path('pipe.png'))  # To be opened, it waits for a writer.
    (self.folder / 'folder.png').mkdir()
    status, rows, printed = self.run_main('*')
    self.assertEqual(status, 1)
    self.assertEqual(
        list(rows), [('good.png', 'grey'), ('smallest.png', 'grey')])
    self.assertEqual(self.spectra_of(), ['good.png.png', 'smallest.png.png'])
    for name, reason in {
        half: '.+', 'link.png': 'No such file or directory',
        'loop.png': 'Too many levels of symbolic links',
        'pipe.png': 'a folder, pipe or device, not a file',
        '[b]text.png': 'not one of BMP.*',
        'tiny.png': 'too small: 5x7, needs at least 16x16',
        'low.png': 'too small: 36x15, needs at least 16x16',
        'narrow.png': 'too small: 15x24, needs at least 16x16',
        'nan.tif': '864 of 864 samples are NaN or infinite',
        'huge.tif': 'values too large to be squared in float32'}.items():
      self.assertRegex(
          printed,
          f'(?m)^skipped {re.escape(str(self.folder / name))}: {reason}$')
    self.assertIn('Measured 2 of 12 images', printed)

  def test_every_image_has_its_own_spectra_and_none_is_measured(self):
    pixels = np.zeros(SIZE, np.uint8)
    for name in 'a.png', 'a.bmp', 'sub/sub/a.png':
      self.save(name, pixels)
    expected = ['a.bmp.png', 'a.png.png', 'sub/sub/a.png.png']
    for _ in range(2):  # The second time, '**' finds the spectra of the first.
      status, rows, _ = self.run_main('**/*.png', '*.bmp', 'a.*')
      self.assertEqual(status, 0)
      self.assertEqual([name for name, _ in rows],
                       [name.removesuffix('.png') for name in expected])
      self.assertEqual(self.spectra_of(), expected)
      with Image.open(self.out / 'spectra/a.png.png') as image:
        self.assertGreater(min(image.size), 500)
      (self.out / 'spectra/a.png.png').write_text('replaced')

  def test_names_with_odd_characters(self):
    pixels = np.zeros(SIZE, np.uint8)
    names = ['$x^2$ [1]{}.png', 'b\n"\x1b[31m,.png', 'ü界.png',
             os.fsdecode(b'\xff.png')]
    for name in names:
      Image.fromarray(pixels).save(self.path(name))
    status, rows, printed = self.run_main('*.png')
    self.assertEqual(status, 0)
    self.assertCountEqual([name for name, _ in rows], names)
    self.assertLen(self.spectra_of(), len(names))
    for shown in ['$x^2$ [1]{}.png', r'b\n"\x1b[31m,.png', r'\xfc\u754c.png',
                  r'\udcff.png']:
      self.assertIn(shown, printed)
    _, rows, _ = self.run_main(names[0])  # As the shell expands '*1*'.
    self.assertEqual(list(rows), [(names[0], 'grey')])

  def test_errors_are_one_clear_line(self):
    self.save('a.png', np.zeros(SIZE, np.uint8))
    (self.folder / 'b.jpg').mkdir()
    for message, *patterns, options in (
        (f'FILES {self.folder}/*.jpg: no such file', '*.png', '*.jpg', []),
        ('--period must be at least 2; got 1', '*.png', ['--period=1']),
        ('--out must name a folder', '*.png', ['--out='])):
      status, _, printed = self.run_main(*patterns, options=options)
      self.assertEqual((status, printed), (2, f'tconv: error: {message}\n'))
    self.assertFalse(self.out.exists())
    self.path('new').write_text('a file')
    _, _, printed = self.run_main('a.png')
    self.assertRegex(printed, r'\Atconv: error: --out cannot be written: '
                     r'.*Not a directory.*new.*\n\Z')

  def test_as_a_user_runs_it(self):
    self.save('good.png', np.uint8(90 + 2 * checkerboard()))
    self.save('tiny.png', np.zeros((3, 3), np.uint8))
    result = subprocess.run(
        [sys.executable, '-W', 'error', '-m', 'tconv', 'measure',
         f'{self.folder}/*.png', f'--out={self.out}', '--period=6'],
        text=True, check=False, capture_output=True,
        env={**os.environ, 'PYTHONIOENCODING': 'utf-8'})
    self.assertEqual(result.returncode, 1)
    self.assertEqual(
        result.stderr,
        f'skipped {self.folder}/tiny.png: too small: 3x3, needs at least 24x24'
        f'\nMeasured 1 of 2 images: {self.out}\n')
    self.assertRegex(result.stdout, r'good.png .* 1\.000 ')
    self.assertEqual(self.spectra_of(), ['good.png.png'])


if __name__ == '__main__':
  absltest.main()
