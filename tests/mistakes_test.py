"""Mistakes of newcomers: each message says what is wrong, and what to do."""

import functools

from absl.testing import absltest
from flax import nnx
import jax.numpy as jnp
import numpy as np

import tconv
from tconv import dialects

ONES = lambda *shape, dtype='float32': np.ones(shape, dtype)
# An image of 16 channels, and kernels that go with it.
IMAGE = ONES(1, 8, 10, 16)
FORWARD = ONES(4, 4, 6, 16)  # [*K, C, O]
ORDINARY = ONES(4, 4, 16, 6)
UP = functools.partial(tconv.conv_transpose, kernel=FORWARD, strides=2)
DOWN = functools.partial(tconv.conv, kernel=ORDINARY, strides=2)


def layer(inputs, **options):
  return tconv.nnx.ConvTranspose(
      16, 6, (4, 4), 2, rngs=nnx.Rngs(0), **options)(inputs)


NCHW = ONES(1, 16, 8, 10)
# What is done, and what the message must have: the argument, what came (shapes
# where shapes are at fault), and what to do.
MISTAKES = (
    # Channels first.
    (lambda: UP(NCHW), 'inputs must', r'\(1, 16, 8, 10\)', r'\(4, 4, 6, 16',
     r"channels first.*dimension_numbers=\('NCHW', 'HWIO', 'NCHW'\)",
     r'inputs.transpose\(\(0, 2, 3, 1\)\)'),
    (lambda: layer(NCHW), 'inputs must', 'in_features = 16', 'got 10',
     r'\(1, 16, 8, 10\)', 'channels first',
     r'jnp.moveaxis\(inputs, -3, -1\)'),
    # A kernel in the order of another library.
    (lambda: UP(IMAGE, kernel=ORDINARY), 'inputs must have 6 channels',
     r'\(4, 4, 16, 6\)', 'kernel looks like.*Flax', 'kernel_from_flax'),
    (lambda: DOWN(IMAGE, kernel=FORWARD), 'inputs must have 6 channels',
     'kernel seem to be swapped', r'kernel.swapaxes\(-1, -2\)'),
    (lambda: UP(IMAGE, kernel=ONES(16, 6, 4, 4)), 'inputs must',
     r'\(16, 6, 4, 4\)', 'weight of PyTorch', 'kernel_from_torch'),
    # A wrong number of channels.
    (lambda: UP(ONES(1, 8, 8, 12)), 'inputs must have 16 channels',
     'O of the kernel', 'got 12', r'\(1, 8, 8, 12\)', r'\(4, 4, 6, 16\)'),
    # Padding and sizes.
    (lambda: layer(IMAGE, padding='same'), 'padding must',
     "capitals, 'SAME'; got 'same'", 'Flax .*another'),
    (lambda: dialects.lax_conv_transpose(IMAGE, ORDINARY, (2, 2), 'same'),
     'padding must', "'SAME', 'VALID'.*capitals; got 'same'"),
    (lambda: UP(IMAGE, output_size=21), 'output_size must lie within',
     r'\(15, 16\), \(19, 20\)', r'size \(8, 10\); got 21'),
    (lambda: tconv.conv_kernel_grad(IMAGE, ONES(1, 3, 5, 6), 4, 2),
     'cotangents must', r'\(1, 4, 5\)', r'got \(1, 3, 5\)'),
    # Dtypes.
    (lambda: UP(IMAGE, preferred_element_type='float64'),
     'preferred_element_type must', 'jax_enable_x64', 'got float64'),
    (lambda: UP(ONES(1, 8, 8, 16, dtype='uint8')), 'inputs must',
     'got uint8', r'inputs.astype\(jnp.float32\)'),
    (lambda: UP(IMAGE, kernel=FORWARD.astype('float16')), 'kernel must',
     'dtype of inputs, float32; got float16',
     r'kernel.astype\(inputs.dtype\)'),
    # No batch axis.
    (lambda: UP(IMAGE[0]), 'inputs must have a batch axis',
     r'kernel of shape \(4, 4, 6, 16\)', r'inputs of shape \(8, 10, 16\)',
     r'pass inputs\[None\]'),
    (lambda: tconv.grid_level(ONES(32, 32, 1), (2, 2)),
     'x must have a batch axis', r'period of \(2, 2\)', r'pass x\[None\]'),
    (lambda: dialects.onnx_conv_transpose(NCHW[0], ONES(16, 6, 4, 4)),
     'X must have a batch axis', r'pass X\[None\]'),
)


class MistakesTest(absltest.TestCase):

  def test_messages(self):
    for i, (call, *parts) in enumerate(MISTAKES):
      with self.subTest(number=i, parts=parts):
        with self.assertRaises(ValueError) as caught:
          call()
        for part in parts:
          self.assertRegex(str(caught.exception), f'(?s){part}')

  def test_remedies(self):
    expected = UP(IMAGE)
    for remedied in (
        UP(jnp.moveaxis(NCHW, -3, -1)),
        UP(NCHW, dimension_numbers=('NCHW', 'HWIO', 'NCHW')).transpose(
            0, 2, 3, 1),
        UP(IMAGE[0][None]),
        UP(IMAGE, kernel=dialects.kernel_from_flax(ORDINARY)),
        UP(IMAGE, kernel=dialects.kernel_from_torch(ONES(16, 6, 4, 4))),
        UP(IMAGE, padding='same'),  # The functions take it.
        # As JAX converts NumPy's float64 wherever it meets it.
        UP(IMAGE.astype('float64'))):
      np.testing.assert_array_equal(remedied, expected, strict=True)


if __name__ == '__main__':
  absltest.main()
