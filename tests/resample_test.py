from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

import tconv
from tests.references import integers

METHODS = {'nearest': 'nearest', 'bilinear': 'linear', 'bicubic': 'cubic'}


class UpsampleTest(parameterized.TestCase):

  @parameterized.parameters(
      ('nearest', (3, 4, 5), 2), ('bilinear', (7, 5), 3),
      ('bilinear', (1, 1), 2), ('bicubic', (7,), 3), ('bicubic', (6, 5), (1, 4))
  )
  def test_equals_jax_image_resize(self, method, size, scale):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype('f')
    shape = 2, *(np.broadcast_to(scale, len(size)) * size).tolist(), 3
    actual, expected = jax.jit(lambda x: (
        tconv.upsample(x, scale, method=method),
        jax.image.resize(x, shape, METHODS[method], antialias=False)))(x)
    self.assertEqual(actual.shape, shape)
    # Everywhere, the border included; float32 and a few roundings of order 1.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)

  @parameterized.parameters(('nearest', (3, 2), 0), ('bilinear', (4, 5), 1),
                            ('bicubic', (3, 2), 2))
  def test_is_a_transposed_convolution_with_a_fixed_kernel(
      self, method, scale, reach):
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 3)).astype('f')
    taps = tconv.interpolation_kernel(scale, method=method)
    self.assertAlmostEqual(taps.sum(), np.prod(scale))
    depthwise = np.repeat(taps[..., None, None], 3, -1).astype('f')
    resized, by_kernel, ones = jax.jit(lambda *xs: (
        tconv.upsample(x, scale, method=method), *(tconv.conv_transpose(
            x, depthwise, scale, feature_group_count=3) for x in xs)))(
                x, np.ones_like(x))
    # A filter of reach r mixes in what lies outside on the outermost r * scale
    # positions; there, and only there, the two rules for the border differ.
    inner = (slice(None), *(slice(reach * s, -reach * s or None)
                            for s in scale))
    np.testing.assert_allclose(by_kernel[inner], resized[inner], atol=1e-5)
    np.testing.assert_allclose(by_kernel / ones, resized, atol=1e-5)

  def test_errors(self):
    x = np.ones((1, 4, 3, 6), 'f')
    for function, arguments, options, message in (
        (tconv.interpolation_kernel, (2,), {}, 'scale must be a seq.*got 2'),
        (tconv.upsample, (x, 2), {'method': 'lanczos'},
         "method must be .*got 'lanczos'"),
        (tconv.upsample, (x, (2,)), {}, r'scale must be .*got \(2,\)'),
        (tconv.depth_to_space, (x, 2), {}, 'inputs .*divisible by 4 .*got 6'),
        (tconv.space_to_depth, (x, 2), {'mode': 'crd'},
         "mode must .*'CRD'; got 'crd'"),
        (tconv.zero_order_hold, (x.astype('uint8'), 2), {},
         'inputs must be .*got uint8')):
      with self.subTest(message), self.assertRaisesRegex(ValueError, message):
        function(*arguments, **options)


class DepthToSpaceTest(parameterized.TestCase):

  @parameterized.parameters(
      ((4,), 3, 'CRD'), ((2, 3), (2, 3), 'DCR'), ((2, 3), (2, 3), 'CRD'),
      ((2, 1, 3), 2, 'DCR'))
  def test_places_each_channel(self, size, block, mode):
    blocks = tuple(np.broadcast_to(block, len(size)))
    x = integers(0, (2, *size, int(np.prod(blocks)) * 3))
    up = np.asarray(tconv.depth_to_space(x, block, mode=mode))
    # 'CRD' is the order of `torch.nn.PixelShuffle`: [C, *blocks].
    split = x.reshape(2, *size, *((*blocks, 3) if mode == 'DCR'
                                  else (3, *blocks)))
    if mode == 'CRD':
      split = np.moveaxis(split, len(size) + 1, -1)
    for pixel in np.ndindex(*size):
      for offset in np.ndindex(*blocks):
        at = tuple(p * b + o for p, b, o in zip(pixel, blocks, offset))
        np.testing.assert_array_equal(
            up[(slice(None), *at)], split[(slice(None), *pixel, *offset)])
    np.testing.assert_array_equal(tconv.space_to_depth(up, block, mode=mode), x)


class ZeroOrderHoldTest(parameterized.TestCase):

  @parameterized.parameters(((7,), (2,)), ((4, 5, 3), (2, 1, 3)))
  def test_it_is_a_moving_average(self, size, scale):
    x = integers(0, (2, *size, 3))
    expected = np.zeros_like(x)
    for at in np.ndindex(*size):
      # As with 'SAME' padding, an even window reaches one further ahead.
      window = tuple(slice(max(a - (s - 1) // 2, 0), a + s // 2 + 1)
                     for a, s in zip(at, scale))
      expected[(slice(None), *at)] = x[(slice(None), *window)].mean(
          tuple(range(1, len(size) + 1)))
    np.testing.assert_allclose(
        jax.jit(lambda x: tconv.zero_order_hold(x, scale))(x), expected,
        rtol=1e-6)


class LearnedUpsamplingTest(parameterized.TestCase):

  @parameterized.parameters(
      ('bilinear', 1, 'VALID'), ('nearest', 2, 'CIRCULAR'))
  def test_options_are_those_of_the_convolution(self, method, groups, padding):
    x, w = integers(0, (2, 4, 5, 4)), integers(1, (3, 3, 4 // groups, 8))
    options = dict(padding=padding, feature_group_count=groups)
    resized, shuffled, *expected = jax.jit(lambda x, w: (
        tconv.resize_conv(x, w, 2, method=method, **options),
        tconv.sub_pixel_conv(x, w, 2, **options),
        tconv.conv(tconv.upsample(x, 2, method=method), w, **options),
        tconv.depth_to_space(tconv.conv(x, w, **options), 2)))(x, w)
    np.testing.assert_array_equal(resized, expected[0])
    np.testing.assert_array_equal(shuffled, expected[1])

  def test_sub_pixel_conv_is_a_transposed_convolution(self):
    # Shi et al., 2016: the taps of each phase are one kernel of the sub-pixel
    # convolution. With k = 2 s - 1 every phase sees one neighbour on each side.
    x, w = integers(0, (2, 7, 3)), integers(1, (3, 3, 2 * 4))
    phases = w.reshape(3, 3, 2, 4)  # [tap, I, phase, C]
    kernel = np.zeros((6, 4, 3), 'f')
    for tap, phase in np.ndindex(3, 2):
      kernel[(2 - tap) * 2 + phase] = phases[tap, :, phase].T
    np.testing.assert_array_equal(
        tconv.sub_pixel_conv(x, w, 2),
        tconv.conv_transpose(x, kernel, 2, 2))


if __name__ == '__main__':
  absltest.main()
