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

from absl import app
from absl.testing import absltest
from absl.testing import parameterized
import imagecodecs
import numpy as np
from PIL import Image
import tifffile

from experiments import measure
from experiments.report import spectra

ROOT = pathlib.Path(__file__).parents[1]
GREEN = .7152  # Its share in the luminance of BT.709.
SIZE = 24, 36  # A multiple of the periods, and one size to compile for.


def checkerboard(period=2, size=SIZE):
  """[*size] pattern of zeros and ones."""
  rows, columns = np.indices(size) % period
  return (rows == 0) != (columns == period - 1)


def rms(pattern):
  return np.sqrt(((pattern - pattern.mean())**2).mean())


class MeasureTest(parameterized.TestCase):

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

  def run_main(self, *patterns, period=2):
    """Runs the command and gives its status, its rows, and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
      with contextlib.redirect_stderr(printed):
        status = measure.main(
            ['measure'], [str(self.folder / p) for p in patterns], period,
            str(self.out))
    with open(self.out / 'measures.csv', newline='', encoding='utf-8',
              errors='surrogateescape') as file:
      rows = {(os.path.relpath(row.pop('file'), self.folder),
               row.pop('channel')): row for row in csv.DictReader(file)}
    return status, rows, printed.getvalue()

  def spectra_of(self):
    folder = self.out / 'spectra'
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())

  def assert_amplitude(self, row, expected):
    # float32 pixels around 1/2, in 8-bit levels.
    np.testing.assert_allclose(
        float(row['grid_amplitude']), expected, rtol=1e-4, atol=1e-5)

  @parameterized.parameters(
      (2, ('8.png', '16.png', 'float.tif')), (3, ('16.png',)))
  def test_an_injected_pattern_is_found_in_its_channel(self, period, names):
    pattern = checkerboard(period)
    # Background and step of the pattern, and this step in 8-bit levels: those
    # of the deeper files would vanish in 8 bits.
    kinds = {'8.png': (np.uint8(100), 3, 3),
             '16.png': (np.uint16(30000), 64, 64 * 255 / 65535),
             '16.tif': (np.uint16(30000), 64, 64 * 255 / 65535),
             'float.tif': (np.float32(.5), .125 / 255, .125)}
    for name in names:
      grey, step, _ = kinds[name]
      pixels = np.full((*SIZE, 3), grey)
      pixels[..., 1] += (step * pattern).astype(grey.dtype)
      options = {'photometric': 'rgb'} if name.endswith('tif') else {}
      self.save(name, pixels, **options)
      self.save(f'grey_{name}', pixels[..., 1])
    status, rows, printed = self.run_main('*.*', period=period)
    self.assertEqual(status, 0)
    self.assertLen(rows, len(names) * (4 + 1))
    for name in names:
      injected = kinds[name][2] * rms(pattern)
      for channel, share in [('R', 0), ('G', 1), ('B', 0),
                             ('luminance', GREEN)]:
        row = rows[name, channel]
        self.assert_amplitude(row, share * injected)
        self.assertEqual(float(row['grid_level_db']) > 40, share > 0)
        self.assertEqual(row['depth'], {
            '8': '8-bit', '16': '16-bit', 'float': 'float32'}[name[:-4]])
      self.assertEqual(rows[f'grey_{name}', 'grey'], rows[name, 'G'])
      self.assertIn(f'{injected:.3f}', printed)

  def test_rows_say_what_is_in_the_file(self):
    pixels = np.random.default_rng(0).integers(0, 256, (17, 40, 3), np.uint8)
    self.save('photo.png', pixels)
    _, rows, printed = self.run_main('photo.png')
    self.assertEqual([channel for _, channel in rows],
                     ['R', 'G', 'B', 'luminance'])
    for i, channel in enumerate('RGB'):
      row = rows['photo.png', channel]
      self.assertEqual((row['width'], row['height'], row['depth']),
                       ('40', '17', '8-bit'))
      means = [pixels[a:16:2, b::2, i].mean() for a in (0, 1) for b in (0, 1)]
      self.assert_amplitude(row, rms(np.array(means)))
      self.assertBetween(float(row['grid_p_value']), 0, 1)
      self.assertGreater(float(row['imaging']), 0)
      self.assertNotEqual(row['imaging'], f'{float(row["imaging"]):.6g}')
    self.assertIn('40x17, 8-bit', printed)

  def test_values_beyond_white_count_in_the_same_unit(self):
    self.save('float.tif', np.float32(200 + 7 * checkerboard()))
    _, rows, _ = self.run_main('float.tif')
    self.assert_amplitude(rows['float.tif', 'grey'], 3.5 * 255)

  def test_what_cannot_be_measured_is_named_and_skipped(self):
    good = np.full(SIZE, 90, np.uint8)
    self.save('good.png', good)
    data = self.path('good.png').read_bytes()
    half = f'{"half" * 20}.png'  # Longer than a line of the screen.
    self.path(half).write_bytes(data[:len(data) // 2])
    self.path('[b]text.png').write_text('hello')
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
    self.assertEqual(list(rows), [('good.png', 'grey')])
    self.assertEqual(self.spectra_of(), ['good.png.png'])
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
    self.assertIn('Measured 1 of 11 images', printed)

  def test_at_least_4_periods(self):
    self.save('fits.png', np.zeros((20, 20), np.uint8))
    self.save('low.png', np.zeros((19, 20), np.uint8))
    _, rows, printed = self.run_main('*.png', period=5)
    self.assertEqual(list(rows), [('fits.png', 'grey')])
    self.assertIn('too small: 20x19, needs at least 20x20', printed)

  def test_every_image_has_its_own_spectra_and_none_is_measured(self):
    pixels = np.zeros(SIZE, np.uint8)
    for name in 'a.png', 'a.bmp', 'sub/a.png', 'sub/sub/a.png':
      self.save(name, pixels)
    expected = ['a.bmp.png', 'a.png.png', 'sub/a.png.png', 'sub/sub/a.png.png']
    for _ in range(2):  # The second time, '**' finds the spectra of the first.
      status, rows, _ = self.run_main('**/*.png', '*.bmp', 'a.*')
      self.assertEqual(status, 0)
      self.assertEqual([name for name, _ in rows],
                       [name.removesuffix('.png') for name in expected])
      self.assertEqual(self.spectra_of(), expected)
      for name in expected:
        with Image.open(self.out / 'spectra' / name) as image:
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

  def test_a_size_is_compiled_for_once(self):
    for i in range(3):
      self.save(f'{i}.png', np.zeros((16, 18), np.uint8))
    measure._compiled.cache_clear()
    self.run_main('*.png')
    self.assertEqual(measure._compiled.cache_info().misses, 1)
    self.assertLess(measure._compiled.cache_info().maxsize, 100)

  def fails(self, *arguments):
    with self.assertRaises(SystemExit) as caught:
      self.run_main(*arguments)
    self.assertIsInstance(caught.exception.code, str)  # So the status is 1.
    return caught.exception.code

  def test_no_match_is_one_clear_line(self):
    self.save('a.png', np.zeros(SIZE, np.uint8))
    (self.folder / 'b.jpg').mkdir()
    self.assertEqual(
        self.fails('*.png', '*.jpg'),
        f"error: --images matches no file: '{self.folder}/*.jpg'")
    self.assertFalse(self.out.exists())

  def test_an_output_that_cannot_be_is_one_clear_line(self):
    self.save('a.png', np.zeros(SIZE, np.uint8))
    self.path('new').write_text('a file')
    self.assertRegex(self.fails('a.png'),
                     '^error: --out cannot be written: .*Not a directory.*new')

  def test_a_pattern_that_the_shell_expanded(self):
    with self.assertRaisesRegex(app.UsageError, 'b.png c.png; .* in quotes'):
      measure.main(['measure', 'b.png', 'c.png'], ['a.png'], 2, str(self.out))

  def test_as_a_user_runs_it(self):
    self.save('good.png', np.uint8(90 + 2 * checkerboard()))
    self.save('tiny.png', np.zeros((3, 3), np.uint8))
    command = lambda *arguments: subprocess.run(
        [sys.executable, '-W', 'error', '-m', 'experiments.measure',
         *arguments, f'--out={self.out}'], cwd=ROOT, text=True, check=False,
        capture_output=True, env={**os.environ, 'PYTHONIOENCODING': 'utf-8'})
    result = command(f'--images={self.folder}/*.png')
    self.assertEqual(result.returncode, 1)
    self.assertEqual(
        result.stderr,
        f'skipped {self.folder}/tiny.png: too small: 3x3, needs at least 16x16'
        f'\nMeasured 1 of 2 images: {self.out}\n')
    self.assertRegex(result.stdout, r'good.png .* 1\.000 ')
    self.assertEqual(self.spectra_of(), ['good.png.png'])
    result = command(f'--images={self.folder}/*.png', '--period=1')
    self.assertEqual(result.returncode, 1)
    self.assertIn('flag --period=1: 1 is not integer >= 2',
                  result.stderr)
    self.assertNotIn('Traceback', result.stderr)


class SpectraTest(parameterized.TestCase):

  @parameterized.product(size=((16, 16), (40, 70), (200, 2000)),
                         scale=(1, 1000))
  def test_a_pattern_is_a_line_in_a_circle(self, size, scale):
    noise = scale * np.random.default_rng(0).normal(.5, .005, (*size, 1))
    pattern = noise + scale * .01 * checkerboard(2, size)[..., None]
    figure = spectra.annotated_spectra(
        pattern, {'flat $': noise[..., 0], 'grid': pattern[..., 0]},
        title=r'no $\formula$', period=2)
    picture, *drawn = figure.axes[:3]
    self.assertEqual(figure.get_suptitle(), r'no $\formula$')
    self.assertEqual([axes.get_title() for axes in drawn], ['flat $', 'grid'])
    shown = picture.images[0].get_array()
    self.assertLess(shown.min(), shown.max() - .01)
    self.assertLessEqual(max(shown.shape), 256)
    for axes, found in zip(drawn, (False, True)):
      power = np.asarray(axes.images[0].get_array())
      _, _, bottom, top = axes.images[0].get_extent()
      self.assertIn((.5, .5), [circle.center for circle in axes.patches])
      row = round((.5 - top) / (bottom - top) * len(power) - .5)
      line, floor = power[row, row], np.median(power)
      self.assertEqual(line > floor + 15, found)
      self.assertLess(line, 0)  # Which is amplitude 1, of -1 to 1.
    for axes, found in zip(figure.axes[4:6], (False, True)):
      close = np.asarray(axes.images[0].get_array())
      self.assertEqual(close[10, 10] > 10, found)
    figure.savefig(io.BytesIO(), format='png')


if __name__ == '__main__':
  absltest.main()
