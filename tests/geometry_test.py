import contextlib

from absl.testing import absltest
from absl.testing import parameterized
from jax import lax

from tconv import geometry


class GeometryTest(parameterized.TestCase):

  def test_invariant_is_enforced(self):
    legal = geometry.Geometry((4,), (2,), (3,), (1,), (1,), ((0, 0),))
    self.assertEqual(legal.effective_kernel_size, (3,))
    with self.assertRaisesRegex(ValueError, r'fine_size must be \(4,\)'):
      geometry.Geometry((5,), (2,), (3,), (1,), (1,), ((0, 0),))

  @parameterized.product(size=[1, 5, 8], kernel=[1, 2, 3, 4, 7],
                         stride=[1, 2, 3, 5], dilation=[1, 2])
  def test_same_is_the_padding_of_lax(self, size, kernel, stride, dilation):
    effective = (kernel - 1) * dilation + 1
    [(low, high)] = lax.padtype_to_pads((size,), (effective,), (stride,),
                                        'SAME')
    result = geometry.conv_geometry(
        (size,), (kernel,), (stride,), 'SAME', (dilation,))
    [(actual_low, actual_high)] = result.padding
    self.assertEqual(actual_low, low)
    # The exact high padding crops what no tap reaches.
    self.assertBetween(high - actual_high, 0, stride - 1)
    self.assertEqual(result.coarse_size, (-(-size // stride),))

  def test_sizes_in_numbers(self):
    # By the documented formula of torch.nn.functional.conv_transpose1d.
    for size, kernel, stride, padding, extra, dilation, fine in (
        (5, 3, 2, 1, 0, 1, 9), (5, 3, 2, 1, 1, 1, 10),
        (3, 2, 3, 0, 2, 1, 10), (3, 3, 1, 0, 1, 2, 8)):
      result = geometry.conv_transpose_geometry(
          (size,), (kernel,), (stride,), padding, (dilation,),
          output_padding=extra)
      self.assertEqual(result.fine_size, (fine,))

  @parameterized.product(size=[1, 4], kernel=[1, 2, 3, 4, 5],
                         stride=[1, 2, 3, 4], padding=['SAME', 'VALID', 1])
  def test_every_output_size_of_the_range_goes_back(
      self, size, kernel, stride, padding):
    legal, forward = [], []
    for fine in range(1, 30):
      try:
        legal.append(geometry.conv_transpose_geometry(
            (size,), (kernel,), (stride,), padding, (1,), output_size=fine))
      except ValueError as error:
        self.assertRegex(
            str(error), 'output_size must lie within|leaves an empty result')
      with contextlib.suppress(ValueError):  # Of an empty result.
        result = geometry.conv_geometry(
            (fine,), (kernel,), (stride,), padding, (1,))
        forward += [result] if result.coarse_size == (size,) else []
    # Exactly those whose forward convolution has this size and this geometry.
    self.assertEqual(legal, forward)

  def test_circular_wraps_the_odd_position_at_the_high_end(self):
    # As flax.linen.Conv: ((k_eff - 1) // 2, k_eff // 2).
    self.assertEqual(geometry.circular_pads((1, 4, 2), (1, 1, 3)),
                     ((0, 0), (1, 2), (1, 2)))

  @parameterized.parameters(
      ('same', 'SAME'), ('CIRCULAR', 'CIRCULAR'), (2, ((2, 2), (2, 2))),
      ((1, 2), ((1, 1), (2, 2))), ([(1, 2), [-3, 4]], ((1, 2), (-3, 4))))
  def test_padding_is_read(self, padding, expected):
    self.assertEqual(geometry.explicit_padding(padding, 2), expected)


if __name__ == '__main__':
  absltest.main()
