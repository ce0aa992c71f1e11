"""The numbers of the checkerboard explorer against those of tconv."""

import base64
import json
import re

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv import spectrum
from tests.docs import interactive

LEARNED = {'k3-all': 3, 'k4-all': 4, 'k4-one': 4}  # Sizes by name.
CURES = 'none', 'equalized', 'hold'
# Both sides compute in float64. Sums of up to a thousand products of order 1
# may cancel; what is left of them has errors of about 1e-13.
CLOSE = {'rtol': 1e-9, 'atol': 1e-13}


def settings_of(seed):
  """36 settings; three of each geometry, which tconv compiles once."""
  rng = np.random.default_rng(seed)
  geometries = [{'size': int(rng.integers(1, 10)),
                 'stride': int(rng.integers(1, 5)),
                 'dilation': int(rng.integers(1, 4))} for _ in range(9)]
  for i in range(27):
    yield {'kernel': ('ones', 'random', 'random', 'bilinear')[i % 4],
           'seed': int(rng.integers(100)), 'mean': int(rng.integers(21)) / 20,
           'cure': CURES[i % 3], **geometries[i // 3]}
  for kernel in LEARNED:  # They have a geometry of their own.
    for cure in CURES:
      yield {'kernel': kernel, 'seed': 0, 'mean': .3, 'cure': cure,
             **geometries[0]}


def enlarged(images, kernel, stride, dilation):
  """`enlarge` of the page, by tconv: the edge is repeated, and cropped."""
  extent = (kernel.shape[0] - 1) * dilation
  margin = -(-extent // stride)
  start = (margin + int(np.floor(
      (extent - stride + 1) / (2 * stride) + .5))) * stride
  padded = np.pad(images, ((0, 0), *2 * ((margin, margin),)), 'edge')
  fine = tconv.conv_transpose(jnp.asarray(padded)[..., None], kernel, stride,
                              'VALID', kernel_dilation=dilation)
  end = start + stride * images.shape[1]
  return fine[:, start:end, start:end]


class NumbersTest(interactive.InteractiveTest):

  source = 'explorer.md'

  @parameterized.parameters(*range(3))
  def test_equal_those_of_tconv(self, part):
    all_settings = list(settings_of(0))[12 * part:12 * (part + 1)]
    self.assertLen(all_settings, 12)
    page = self.open_page()
    results = json.loads(page.evaluate(
        'all => JSON.stringify(all.map('
        's => tconvExplorer.explore(s, tconvExplorerData)))', all_settings))
    for settings, found in zip(all_settings, results):
      with self.subTest(**settings), jax.enable_x64(True):
        self.compare(settings, found)

  def compare(self, settings, found):
    learned = LEARNED.get(settings['kernel'])
    stride = 2 if learned else settings['stride']
    fixed = learned or settings['kernel'] == 'bilinear'
    dilation = 1 if fixed else settings['dilation']
    kernel = jnp.asarray(found['original'], float)[..., None, None]
    size = {'bilinear': 2 * stride - stride % 2}.get(
        settings['kernel'], learned or settings['size'])
    self.assertEqual(kernel.shape, (size, size, 1, 1))
    options = {'strides': (stride, stride), 'kernel_dilation': dilation}
    if settings['kernel'] == 'ones':
      np.testing.assert_array_equal(kernel, 1)
    if settings['kernel'] == 'bilinear':
      np.testing.assert_allclose(
          kernel[..., 0, 0], tconv.interpolation_kernel((stride, stride)),
          **CLOSE)
    counts = tconv.overlap_count(size, **options)
    np.testing.assert_array_equal(found['counts'], counts)

    empty = not counts.all()
    self.assertEqual(
        found['impossible'], empty and settings['cure'] == 'equalized')
    if settings['cure'] == 'equalized' and not empty:
      kernel = tconv.equalize_phases(kernel, **options)
    np.testing.assert_allclose(found['kernel'], kernel[..., 0, 0], **CLOSE)
    flat, photo = map(np.array, found['input'].values())
    self.assertAlmostEqual(flat.mean(), settings['mean'], delta=.003)
    self.assertAlmostEqual(flat.std(), .01, delta=.002)
    fine = enlarged(np.stack([flat, photo, np.ones_like(flat)]), kernel, stride,
                    dilation)
    if settings['cure'] == 'hold':
      fine = tconv.zero_order_hold(fine, stride)
      # A period of what a constant gives is a kernel with the same gains.
      # Images begin at phase 0; at the border, the average is another one.
      period = slice(48, 48 + stride)
      kernel, options['kernel_dilation'] = fine[2, period, period, :, None], 1
    self.assertEqual((fine.dtype, fine.shape), (np.float64, (3, 96, 96, 1)))
    np.testing.assert_allclose(
        found['gains'], tconv.phase_gains(kernel, **options)[..., 0, 0],
        **CLOSE)
    np.testing.assert_allclose(
        found['nonuniformity'], tconv.phase_nonuniformity(kernel, **options),
        **CLOSE)
    for name, image in zip(found['pictures'], fine):
      np.testing.assert_allclose(
          found['pictures'][name], image[..., 0], **CLOSE)
    levels = list(found['levels'].values())
    if stride == 1:
      self.assertEqual(levels, [None, None])
    else:
      np.testing.assert_allclose(
          levels, spectrum.grid_level(fine[:2], stride)[:, 0],
          rtol=1e-6, atol=1e-6)

  def test_power_spectrum_is_that_of_numpy(self):
    image = 3 * np.random.default_rng(0).normal(size=(32, 32))
    hann = .5 - .5 * np.cos(2 * np.pi * np.arange(32) / 32)
    window = np.outer(hann, hann)
    centered = image - (image * window).sum() / window.sum()
    found = self.open_page().evaluate(
        'image => tconvExplorer.powerSpectrum(image).power', image.tolist())
    # Images are divided by a power of 2 before they are squared.
    scale = 2**np.floor(np.log2(np.abs(image).max()))
    np.testing.assert_allclose(
        found, np.abs(np.fft.fft2(centered * window))**2 / scale**2, **CLOSE)

  @parameterized.parameters(2, 3, 4, 6)
  def test_grid_level_of_small_images(self, period):
    # Neighbors of different lines overlap, and wrap around.
    image = np.random.default_rng(1).normal(size=(24, 24))
    found = self.open_page().evaluate(
        '([image, period]) => tconvExplorer.gridLevel('
        'tconvExplorer.powerSpectrum(image), period)', [image.tolist(), period])
    with jax.enable_x64(True):
      level = spectrum.grid_level(jnp.asarray(image)[None, ..., None], period)
    np.testing.assert_allclose(found, level[0, 0], rtol=1e-6)

  def test_random_numbers_are_normal_and_differ_between_seeds(self):
    draws = np.array(self.open_page().evaluate("""
        Array.from({length: 100}, (_, seed) => {
          const normal = tconvExplorer.normals(seed);
          return Array.from({length: 400}, normal);
        })"""))
    self.assertLess(abs(draws.mean()), 4 / 200)
    self.assertLess(abs(draws.std() - 1), 4 / 200 / np.sqrt(2))
    self.assertLess(abs((draws**4).mean() - 3), 4 * np.sqrt(96) / 200)
    # First draws of all seeds, as a kernel of size 1 shows them.
    self.assertLess(abs(draws[:, 0].std() - 1), 4 / np.sqrt(200))
    correlation = np.corrcoef(draws) - np.eye(100)
    self.assertLess(np.abs(correlation).max(), 5 / np.sqrt(400))

  def test_photograph(self):
    found = self.open_page().evaluate(
        'tconvExplorer.explore({kernel: "ones", size: 1, stride: 1, '
        'dilation: 1, seed: 0, mean: 0, cure: "none"}, tconvExplorerData)'
        '.pictures.photo')
    file = interactive.DOCS / '_static/explorer_data.js'
    data = file.read_text(encoding='utf-8')
    text = ''.join(re.findall(r"^    '(.+)'", data.partition(
        'photograph:')[2], re.MULTILINE))
    photograph = np.frombuffer(base64.b64decode(text), np.uint8)
    np.testing.assert_allclose(
        np.ravel(found), photograph / 255, rtol=1e-12)


if __name__ == '__main__':
  absltest.main()
