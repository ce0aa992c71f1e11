from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

import tconv
from tconv import initializers


class IcnrTest(parameterized.TestCase):

  @parameterized.parameters((2, 'CRD'), ((3, 2), 'DCR'))
  def test_starts_as_nearest_resize(self, scale, mode):
    init = initializers.icnr(scale, mode=mode)
    blocks = int(np.prod(np.broadcast_to(scale, 2)))
    key = jax.random.key(0)
    kernel = init(key, (3, 3, 4, blocks * 5))
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 4)).astype('f')
    # Each pixel's block holds one value: that of the shared kernel.
    shared = jax.nn.initializers.lecun_normal()(key, (3, 3, 4, 5))
    np.testing.assert_allclose(
        tconv.sub_pixel_conv(x, kernel, scale, mode=mode),
        tconv.upsample(tconv.conv(x, shared), scale, method='nearest'),
        atol=1e-5)

  def test_error(self):
    with self.assertRaisesRegex(ValueError, r'shape must end in .*= 4 .*6\)'):
      initializers.icnr(2)(jax.random.key(0), (3, 3, 1, 6))
    with self.assertRaisesRegex(ValueError, "mode must .*got 'CDR'"):
      initializers.icnr(2, mode='CDR')


class ShapeTest(parameterized.TestCase):

  @parameterized.parameters(((4,),), ((4, 4, 0, 4),), ((),))
  def test_no_kernel(self, shape):
    for init in (initializers.icnr(2), initializers.bilinear_upsampling()):
      with self.assertRaisesRegex(ValueError, 'shape must be that of a kernel'):
        init(jax.random.key(0), shape)


class DtypeTest(parameterized.TestCase):

  def test_takes_dtype_and_initializer(self):
    make = initializers.icnr(2, jax.nn.initializers.ones)
    for init in (make, initializers.bilinear_upsampling()):
      self.assertEqual(
          init(jax.random.key(0), (3, 3, 4, 8), 'bfloat16').dtype, 'bfloat16')
    self.assertEqual(make(jax.random.key(0), (3, 3, 4, 8)).min(), 1)


class BilinearUpsamplingTest(parameterized.TestCase):

  # Filler of Caffe as FCN uses it (voc-fcn32s/surgery.py, upsample_filt).
  @parameterized.parameters((4, (.25, .75, .75, .25)), (3, (.5, 1, .5)),
                            (5, (1 / 3, 2 / 3, 1, 2 / 3, 1 / 3)), (1, (1,)))
  def test_taps(self, size, taps):
    kernel = initializers.bilinear_upsampling()(None, (size, 1, 1))
    np.testing.assert_allclose(kernel[:, 0, 0], taps, rtol=1e-6)

  @parameterized.parameters((2, True), (3, False))
  def test_starts_as_bilinear_resize(self, stride, depthwise):
    size = 2 * stride - stride % 2
    kernel = initializers.bilinear_upsampling()(
        None, (size, size, 1 if depthwise else 3, 3))
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype('f')
    up = tconv.conv_transpose(
        x, kernel, stride, feature_group_count=3 if depthwise else 1)
    inner = (slice(None), *(slice(stride, -stride),) * 2)
    np.testing.assert_allclose(
        up[inner], tconv.upsample(x, stride)[inner], atol=1e-5)

  def test_error(self):
    with self.assertRaisesRegex(ValueError, r'shape .*got \(4, 4, 2, 3\)'):
      initializers.bilinear_upsampling()(None, (4, 4, 2, 3))


if __name__ == '__main__':
  absltest.main()
