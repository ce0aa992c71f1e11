"""Equal phases at the least change of the outputs; sub-pixel convolutions."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv import sub_pixel


def _drawn(*shape: int) -> np.ndarray:
  return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def _smooth(*shape: int) -> np.ndarray:
  """Random images with neighbors and channels that are alike."""
  images = _drawn(*shape) + 1
  for axis in range(1, len(shape)):
    images = images + np.roll(images, 1, axis)
  return images


class TransposedTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('line', (6,), (2,), (1,), 1),
      ('uneven', (3, 5), (2, 3), (1, 1), 1),
      ('dilated', (4, 4), (2, 3), (3, 2), 1),
      ('groups', (4, 4), (2, 2), (1, 1), 2),
      ('volume', (3, 2, 4), (2, 1, 2), (1, 1, 1), 1))
  def test_no_kernel_with_equal_phases_changes_outputs_less(
      self, size, strides, dilation, groups):
    kernel = _drawn(*size, 2, 4)
    inputs = _smooth(3, *(17,) * len(size), 4)
    options = {'kernel_dilation': dilation}
    equal = np.asarray(tconv.equalize_phases(
        kernel, strides, inputs=inputs, feature_group_count=groups, **options))
    chex.assert_trees_all_close(
        tconv.phase_nonuniformity(equal, strides, **options), 0, atol=1e-10)

    def output(kernel):  # Only where the kernel's whole reach is inside.
      images = tconv.conv_transpose(
          inputs, kernel, strides, 'VALID', feature_group_count=groups,
          **options)
      reach = [(k - 1) * d for k, d in zip(size, dilation)]
      # Whole periods, so that every phase has as many positions.
      return np.asarray(images, float)[(slice(None), *(
          slice(-(-r // s) * s, 17 * s) for r, s in zip(reach, strides)))]

    excess = output(equal - kernel)
    # The change is orthogonal to all changes that keep the phases equal, but
    # for the ridge, which is 16 unknowns by 500 windows at most.
    steps = []
    for seed in range(8):
      step = np.random.default_rng(seed).normal(size=kernel.shape)
      step = output(np.asarray(tconv.equalize_phases(step, strides, **options)))
      steps.append((excess * step).sum() / np.sqrt(
          (excess**2).sum() * (step**2).sum()))
    self.assertLess(np.abs(steps).max(), .1)
    plain = output(
        np.asarray(tconv.equalize_phases(kernel, strides, **options)) - kernel)
    self.assertLess((excess**2).mean(), (plain**2).mean())

  def test_equal_kernels_and_few_positions(self):
    equal = tconv.equalize_phases(_drawn(4, 4, 2, 3), 2)
    chex.assert_trees_all_close(
        tconv.equalize_phases(equal, 2, inputs=_smooth(1, 9, 9, 3)), equal,
        atol=1e-6)
    # A single window of zeros says nothing: nearly the nearest kernel, which
    # does not need to have the same sum as with the plain projection.
    kernel = _drawn(4, 4, 2, 3)
    chex.assert_trees_all_close(
        tconv.equalize_phases(kernel, 2, inputs=np.zeros((1, 2, 2, 3))),
        tconv.equalize_phases(kernel, 2), atol=1e-6)

  def test_several_inputs_are_as_one(self):
    kernel, inputs = _drawn(4, 4, 2, 3), _smooth(2, 9, 9, 3)
    chex.assert_trees_all_equal(
        tconv.equalize_phases(kernel, 2, inputs=list(inputs[:, None])),
        tconv.equalize_phases(kernel, 2, inputs=inputs))

  def test_half_types_have_exactly_equal_gains(self):
    kernel = jnp.asarray(_drawn(4, 4, 2, 3), jnp.bfloat16)
    equal = tconv.equalize_phases(kernel, 2, inputs=_smooth(1, 9, 9, 3))
    self.assertEqual(equal.dtype, jnp.bfloat16)
    gains = tconv.phase_gains(equal.astype(jnp.float32), 2)
    np.testing.assert_array_equal(np.ptp(gains, axis=(0, 1)), 0)

  @parameterized.named_parameters(
      ('channels', np.ones((1, 9, 9, 2)), r'O = 3 channels.*\(1, 9, 9, 2\)'),
      ('rank', np.ones((9, 9, 3)), r'inputs must have 4 axes'),
      ('small', np.ones((1, 1, 9, 3)), r'at least \(2, 2\).*\(1, 1, 9, 3\)'),
      ('nan', np.full((1, 9, 9, 3), np.nan), 'inputs must be finite'),
      ('empty', np.ones((0, 9, 9, 3)), 'not empty'))
  def test_bad_inputs(self, inputs, message):
    with self.assertRaisesRegex(ValueError, message):
      tconv.equalize_phases(np.ones((4, 4, 2, 3)), 2, inputs=inputs)

  def test_other_errors(self):
    kernel, inputs = np.ones((4, 4, 2, 3)), np.ones((1, 9, 9, 3))
    with self.assertRaisesRegex(ValueError, 'jax.jit'):
      jax.jit(lambda k: tconv.equalize_phases(k, 2, inputs=inputs))(kernel)
    with self.assertRaisesRegex(ValueError, 'feature_group_count must divide'):
      tconv.equalize_phases(kernel, 2, inputs=inputs, feature_group_count=2)

  @parameterized.product(transpose_kernel=(False, True))
  def test_layers(self, transpose_kernel):
    inputs = _smooth(2, 3, 9, 9, 4)  # Two batch axes.
    layer = tconv.nnx.ConvTranspose(
        4, 2, (4, 4), 2, transpose_kernel=transpose_kernel, rngs=nnx.Rngs(0))
    linen = tconv.linen.ConvTranspose(
        2, (4, 4), 2, transpose_kernel=transpose_kernel)
    variables = {'params': {'kernel': layer.kernel[...],
                            'bias': layer.bias[...]}}
    before = layer(inputs)
    nearest = nnx.clone(layer)
    nearest.equal_phases = True
    plain = np.asarray(nearest(inputs) - before)
    layer.fold(inputs)
    change = np.asarray(layer(inputs) - before)
    self.assertLess((change**2).mean(), (plain**2).mean())
    self.assertLess(tconv.phase_nonuniformity(layer.kernel[...], 2), 1e-10)
    linen, variables = linen.fold(variables, inputs)
    chex.assert_trees_all_close(
        linen.apply(variables, inputs), layer(inputs), atol=1e-5)


class SubPixelTest(parameterized.TestCase):

  @parameterized.parameters(('DCR', 1), ('CRD', 1), ('CRD', 2))
  def test_equals_a_transposed_convolution(self, mode, groups):
    kernel = _drawn(3, 5, 4 // groups, 12 * groups)
    inputs = _drawn(2, 9, 10, 4)
    options = {'feature_group_count': groups}
    taps = sub_pixel.transposed_kernel(kernel, (2, 3), mode=mode, **options)
    blocks = tconv.sub_pixel_conv(
        inputs, kernel, (2, 3), 'VALID', mode=mode, **options)
    whole = tconv.conv_transpose(inputs, taps, (2, 3), 'VALID', **options)
    chex.assert_trees_all_close(
        whole[:, 4:-4, 12:-12], blocks, atol=1e-4)  # Sums of 60 products.

  @parameterized.product(mode=('DCR', 'CRD'), calibrated=(False, True))
  def test_kernel_and_bias_paint_no_grid(self, mode, calibrated):
    kernel, bias, inputs = _drawn(3, 3, 4, 8), _drawn(8), _smooth(2, 16, 16, 4)

    def output(kernel, bias, images=inputs):
      channels = np.asarray(tconv.conv(images, kernel, 1, 'VALID'))
      return np.asarray(tconv.depth_to_space(
          channels + np.asarray(bias), 2, mode=mode))

    equal = tconv.equalize_sub_pixel(
        kernel, 2, bias=bias, mode=mode, inputs=inputs if calibrated else None)
    flat = np.broadcast_to(inputs[:, :1, :1], inputs.shape)
    self.assertLess(np.ptp(output(*equal, flat), axis=(1, 2)).max(), 1e-4)
    if calibrated:
      nearest = tconv.equalize_sub_pixel(kernel, 2, bias=bias, mode=mode)
      before = output(kernel, bias)
      change, plain = (((output(*found) - before)**2).mean()
                       for found in (equal, nearest))
      self.assertLess(change, plain)

  def test_errors(self):
    kernel = np.ones((3, 3, 4, 8))
    for message, options in (
        ("mode must be 'DCR' or 'CRD'", {'mode': 'dcr'}),
        ("must be 1 for mode 'DCR'; got 2", {'feature_group_count': 2}),
        ('divisible by 9', {'scale': 3}),
        ('bias must have 8 elements', {'bias': np.ones(4)})):
      with self.subTest(message), self.assertRaisesRegex(ValueError, message):
        tconv.equalize_sub_pixel(kernel, **{'scale': 2, **options})


if __name__ == '__main__':
  absltest.main()
