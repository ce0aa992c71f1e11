"""Keras' transposed convolution, its op and its layers."""

import functools
import importlib.util
import itertools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tconv import dialects
from tests.references import integers

HAS_KERAS = importlib.util.find_spec('keras') is not None

# By hand; the kernel tells positions apart. Without padding, at stride 2:
#   1 10 100, 2 20 200 and 3 30 300 start two apart
X, W = [1, 2, 3], [1, 10, 100, 1000]
FULL = [1, 10, 102, 20, 203, 30, 300]
BY_HAND = (
    (3, dict(), [1, 12, 123, 230, 300]),
    (3, dict(padding='same'), [12, 123, 230]),
    (3, dict(strides=2), FULL),
    # An odd position goes to the high end.
    (3, dict(strides=2, padding='same'), FULL[:-1]),
    (3, dict(strides=2, output_padding=1), [*FULL, 0]),
    (3, dict(strides=2, padding='same', output_padding=0), FULL[1:-1]),
    (3, dict(strides=2, padding='same', output_padding=4), [*FULL, 0, 0]),
    (2, dict(padding='same'), [1, 12, 23]),
    (2, dict(padding='same', output_padding=0), [12, 23]),
    (4, dict(padding='same'), [12, 123, 1230]),
    (1, dict(strides=3, padding='same'), [1, 0, 0, 2, 0, 0, 3, 0, 0]),
    (1, dict(strides=3, output_padding=0), [1, 0, 0, 2, 0, 0, 3]),
    (2, dict(dilation_rate=2), [1, 2, 13, 20, 30]),
    # Its extent counts, which is odd: 3.
    (2, dict(dilation_rate=2, padding='same'), [2, 13, 20]),
    (2, dict(dilation_rate=3, strides=2), [1, 0, 2, 10, 3, 20, 0, 30]),
    (3, dict(padding='SAME', data_format='Channels_Last'), [12, 123, 230]),
)

# An argument, and what Keras refuses for it. The others are 1-D and legal.
ILLEGAL = (
    ('inputs', np.ones((5, 4), 'f')), ('inputs', 'image'), ('inputs', None),
    ('kernel', np.ones((3, 4), 'f')), ('kernel', np.ones((3,) * 6, 'f')),
    ('kernel', np.ones((3, 4, 3), 'f')), ('kernel', np.ones((3, 3, 4), 'e')),
    ('kernel', np.ones((0, 3, 4), 'f')), ('kernel', None),
    *((name, value) for name in ('strides', 'dilation_rate') for value in (
        0, -1, (0,), 1.0, (), (1, 1), None, (None,), '1')),
    *(('output_padding', value) for value in (1.0, (1.0,), (), '1')),
    *(('padding', value) for value in (
        'full', 'circular', '', 0, ((1, 1),), None)),
    *(('data_format', value) for value in ('NHWC', 'last', 3)),
)


def arguments(**changes):
  return {'inputs': np.ones((2, 5, 4), 'f'),
          'kernel': np.ones((3, 3, 4), 'f')} | changes


@absltest.skipUnless(HAS_KERAS, 'needs keras')
class LiveTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    import keras
    cls.keras = keras

  def check(self, inputs, kernel, calls):
    """Compares calls of small integers, of which the sums are exact."""
    both = jax.jit(lambda *arrays: [
        [function(*arrays, **call) for call in calls] for function in (
            dialects.keras_conv_transpose, self.keras.ops.conv_transpose)])
    for ours, theirs, call in zip(*both(inputs, kernel), calls):
      np.testing.assert_array_equal(ours, theirs, str(call), strict=True)

  @parameterized.parameters(1, 2, 3, 4)
  def test_one_axis(self, taps):
    inputs, kernel = integers(0, (1, 3, 2)), integers(1, (taps, 3, 2))
    calls = [
        dict(strides=strides, padding=padding, output_padding=output_padding,
             dilation_rate=dilation_rate)
        for strides, dilation_rate, (padding, output_padding) in
        itertools.product((1, 2, 3), (1, 2), (
            ('valid', None), ('valid', 1), ('same', None), ('same', 0),
            ('same', 3)))]
    # The library has no empty results.
    self.check(inputs, kernel, [call for call in calls if jax.eval_shape(
        functools.partial(self.keras.ops.conv_transpose, **call),
        inputs, kernel).size])

  @parameterized.parameters(2, 3)
  def test_more_axes(self, num_axes):
    self.check(integers(0, (2, 3, 4, 2, 3)[:num_axes + 1] + (2,)),
               integers(1, (3, 2, 1)[:num_axes] + (3, 2)),
               [dict(strides=(2, 3, 1)[:num_axes], padding='same',
                     output_padding=(1, 4, 0)[:num_axes],
                     dilation_rate=(3, 2, 1)[:num_axes])])
    self.check(integers(0, (2, 2, 4, 3, 2)[:num_axes + 2]),
               integers(1, (3, 2, 1)[:num_axes] + (3, 2)),
               [dict(strides=2, padding='same', data_format='channels_first')])

  def test_illegal_arguments(self):
    for name, value in ILLEGAL:
      with self.subTest(**{name: value}), self.assertRaises(  # noqa: B017
          Exception):
        self.keras.ops.conv_transpose(**arguments(**{name: value}))

  def test_layer(self):
    options = dict(strides=(2, 3), output_padding=(1, 0))
    layer = self.keras.layers.Conv2DTranspose(3, (3, 2), **options)
    x = integers(0, (2, 4, 4, 4))
    expected = layer(x)
    # Float32, of sums of less than a hundred products.
    np.testing.assert_allclose(
        dialects.keras_conv_transpose(x, layer.kernel, **options), expected,
        rtol=1e-5, atol=1e-5)


class ErrorsTest(absltest.TestCase):

  def test_names_the_argument(self):
    # Keras may take the latter.
    for name, value in (
        *ILLEGAL, ('inputs', np.ones((2, 5, 4), np.int32)),
        ('inputs', np.ones((2, 4), 'f')), ('inputs', np.ones((2,) * 6, 'f')),
        ('output_padding', -1), ('output_padding', (0, 0)),
        ('output_padding', (None,)), ('data_format', None)):
      with self.subTest(**{name: value}), self.assertRaisesRegex(
          ValueError, rf'^{name} '):
        dialects.keras_conv_transpose(**arguments(**{name: value}))

    with self.assertRaisesRegex(ValueError, '^padding '):
      dialects.keras_conv_transpose(
          np.ones((1, 1, 1), 'f'), np.ones((2, 1, 1), 'f'), 1, 'same', 0)


class ArgumentsTest(parameterized.TestCase):

  def test_by_hand(self):
    x, w = np.float32(X)[None, :, None], np.float32(W)[:, None, None]
    results = jax.jit(lambda x, w: [
        dialects.keras_conv_transpose(x, w[:taps], **options)
        for taps, options, _ in BY_HAND])(x, w)
    for y, (taps, options, expected) in zip(results, BY_HAND):
      np.testing.assert_array_equal(y[0, :, 0], expected, f'{taps} {options}')


if __name__ == '__main__':
  absltest.main()
