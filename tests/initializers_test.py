from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

import tconv
from tconv import initializers

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype('f')


class InitializersTest(parameterized.TestCase):

  @parameterized.parameters((2, 'CRD'), ((3, 2), 'DCR'))
  def test_icnr_starts_as_nearest_resize(self, scale, mode):
    init = initializers.icnr(scale, mode=mode)
    blocks = int(np.prod(np.broadcast_to(scale, 2)))
    kernel = init(KEY, (3, 3, 3, blocks * 5))
    # Each pixel's block holds one value: that of the shared kernel.
    shared = jax.nn.initializers.lecun_normal()(KEY, (3, 3, 3, 5))
    np.testing.assert_allclose(
        tconv.sub_pixel_conv(IMAGES, kernel, scale, mode=mode),
        tconv.upsample(tconv.conv(IMAGES, shared), scale, method='nearest'),
        atol=1e-5)

  # Filler of Caffe as FCN uses it (voc-fcn32s/surgery.py, upsample_filt).
  @parameterized.parameters((4, (.25, .75, .75, .25)), (1, (1,)),
                            (5, (1 / 3, 2 / 3, 1, 2 / 3, 1 / 3)))
  def test_taps_of_bilinear_upsampling(self, size, taps):
    kernel = initializers.bilinear_upsampling()(None, (size, 1, 1))
    np.testing.assert_allclose(kernel[:, 0, 0], taps, rtol=1e-6)

  @parameterized.parameters((2, 3), (3, 1))
  def test_starts_as_bilinear_resize(self, stride, groups):
    size = 2 * stride - stride % 2
    kernel = initializers.bilinear_upsampling()(
        None, (size, size, 3 // groups, 3))
    up = tconv.conv_transpose(
        IMAGES, kernel, stride, feature_group_count=groups)
    inner = (slice(None), *(slice(stride, -stride),) * 2)
    np.testing.assert_allclose(
        up[inner], tconv.upsample(IMAGES, stride)[inner], atol=1e-5)

  def test_dtypes_and_errors(self):
    ones = initializers.icnr(2, jax.nn.initializers.ones)
    self.assertEqual(ones(KEY, (3, 3, 4, 8)).min(), 1)
    for init, wrong, message in (
        (ones, (3, 3, 1, 6), r'shape must end in .*= 4 .*6\)'),
        (initializers.bilinear_upsampling(), (4, 4, 2, 3),
         r'shape .*got \(4, 4, 2, 3\)')):
      self.assertEqual(init(KEY, (3, 3, 4, 8), 'bfloat16').dtype, 'bfloat16')
      with self.assertRaisesRegex(ValueError, message):
        init(KEY, wrong)
      for shape in ((4,), (4, 4, 0, 4)):
        with self.assertRaisesRegex(ValueError, 'shape must be that of a ker'):
          init(KEY, shape)
    with self.assertRaisesRegex(ValueError, "mode must .*got 'CDR'"):
      initializers.icnr(2, mode='CDR')


if __name__ == '__main__':
  absltest.main()
