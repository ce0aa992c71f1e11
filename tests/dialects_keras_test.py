"""Keras' transposed convolution, its op and its layers."""

import functools
import importlib.util

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

import tconv
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
    (3, dict(strides=2, output_padding=0), FULL),
    (3, dict(strides=2, output_padding=1), [*FULL, 0]),
    (3, dict(strides=2, output_padding=2), [*FULL, 0, 0]),
    (3, dict(strides=2, padding='same', output_padding=0), FULL[1:-1]),
    (3, dict(strides=2, padding='same', output_padding=1), FULL[:-1]),
    (3, dict(strides=2, padding='same', output_padding=2), FULL),
    (3, dict(strides=2, padding='same', output_padding=4), [*FULL, 0, 0]),
    (2, dict(padding='same'), [1, 12, 23]),
    (2, dict(padding='same', output_padding=0), [12, 23]),
    (2, dict(padding='same', output_padding=1), [1, 12, 23]),
    (4, dict(padding='same'), [12, 123, 1230]),
    (4, dict(padding='same', output_padding=0), [123, 1230]),
    (1, dict(padding='same', output_padding=0), [1, 2, 3]),
    (1, dict(strides=3), [1, 0, 0, 2, 0, 0, 3, 0, 0]),
    (1, dict(strides=3, padding='same'), [1, 0, 0, 2, 0, 0, 3, 0, 0]),
    (1, dict(strides=3, output_padding=0), [1, 0, 0, 2, 0, 0, 3]),
    (2, dict(dilation_rate=2), [1, 2, 13, 20, 30]),
    # Its extent counts, which is odd: 3.
    (2, dict(dilation_rate=2, padding='same'), [2, 13, 20]),
    (2, dict(dilation_rate=2, padding='same', output_padding=0), [2, 13, 20]),
    (2, dict(dilation_rate=3, padding='same', output_padding=0), [3, 10]),
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

  def check(self, inputs, kernel, **options):
    """Compares arrays of small integers, of which the sums are exact."""
    function = jax.jit(
        functools.partial(dialects.keras_conv_transpose, **options))
    np.testing.assert_array_equal(
        function(inputs, kernel),
        self.keras.ops.conv_transpose(inputs, kernel, **options), strict=True)

  @parameterized.parameters(
      ((3, 2), 'valid', None, (2, 3), 1), ((3, 2), 'same', 0, 1, (3, 2)),
      ((1, 4), 'same', None, (2, 3), (3, 2)), ((1, 4), 'same', (1, 4), 1, 1),
      ((3, 2), 'same', (1, 4), (2, 3), (3, 2)), ((1, 4), 'same', 0, (2, 3), 1),
      ((1, 4), 'valid', (1, 4), (2, 3), (3, 2)))
  def test_values(self, taps, padding, output_padding, strides, dilation_rate):
    self.check(integers(0, (1, 3, 4, 2)), integers(1, (*taps, 3, 2)),
               strides=strides, padding=padding, output_padding=output_padding,
               dilation_rate=dilation_rate)

  @parameterized.parameters((1, 'valid'), (2, 'same'), (3, 'same'))
  def test_channels_first(self, num_axes, padding):
    self.check(integers(0, (2, 3, 4, 3, 2)[:num_axes + 2]),
               integers(1, (*(2, 3, 2)[:num_axes], 2, 3)), padding=padding,
               strides=2, data_format='channels_first')

  def test_any_arguments(self):
    draw = np.random.default_rng(0)
    outcomes = []
    for _ in range(40):
      arrays, options = random_arguments(draw)
      case = {k: v.shape for k, v in arrays.items()} | options
      try:
        expected = self.keras.ops.conv_transpose(**arrays, **options)
        legal = expected.size > 0  # The library has no empty results.
      except Exception:
        legal = False
      outcomes.append(legal)
      with self.subTest(**case):
        if legal:
          self.check(**arrays, **options)
        else:
          with self.assertRaises(ValueError):
            dialects.keras_conv_transpose(**arrays, **options)
    self.assertBetween(sum(outcomes), 10, 30)

  def test_illegal_arguments(self):
    for name, value in ILLEGAL:
      with self.subTest(**{name: value}), self.assertRaises(  # noqa: B017
          Exception):
        self.keras.ops.conv_transpose(**arguments(**{name: value}))

  @parameterized.parameters(
      (1, dict(strides=2, padding='same')),
      (2, dict(strides=(2, 3), output_padding=(1, 0))),
      (2, dict(strides=2, padding='same', data_format='channels_first')),
      (3, dict(strides=2, padding='same', output_padding=1)))
  def test_layers(self, num_axes, options):
    layer = getattr(self.keras.layers, f'Conv{num_axes}DTranspose')(
        3, (3, 2, 4)[:num_axes], bias_initializer='normal', **options)
    x = integers(0, (2, 4, 4, 4, 4)[:num_axes + 2])
    expected = layer(x)
    y = np.asarray(
        dialects.keras_conv_transpose(x, layer.kernel.value, **options))
    bias = np.asarray(layer.bias.value)
    if options.get('data_format') == 'channels_first':
      bias = bias.reshape(-1, *(1,) * num_axes)
    # Float32, of sums of less than a hundred products.
    np.testing.assert_allclose(y + bias, expected, rtol=1e-5, atol=1e-5)
    # The layer's own variable will do as well.
    np.testing.assert_array_equal(
        dialects.keras_conv_transpose(x, layer.kernel, **options), y)


def random_arguments(draw):
  """Arrays and options, of which about one half are illegal."""
  num_axes = draw.choice([1, 2, 3], p=[.6, .25, .15])
  ints = lambda low, high, size=None: draw.integers(low, high, size).tolist()
  rarely = lambda chance=.04: draw.random() < chance
  channels = ints(1, 4)
  inputs = [ints(2, 4), *ints(1, 5, num_axes), channels]
  kernel = [*ints(1, 5, num_axes), ints(1, 4), channels]
  for shape in (inputs, kernel):
    if rarely():
      shape[ints(0, len(shape))] += ints(-1, 2)
    if rarely():
      shape.insert(0, 1)
    if rarely():
      shape.pop()
  arrays = {'inputs': integers(ints(0, 99), inputs),
            'kernel': integers(ints(0, 99), kernel)}
  if rarely():
    arrays['kernel'] = arrays['kernel'].astype('complex64')

  def option(low, high, wrong=0):
    if rarely(.5):
      return ints(low - wrong * rarely(), high)
    return draw.choice([list, tuple])(
        ints(low - wrong * rarely(), high, num_axes - wrong * rarely()))

  options = {'strides': option(1, 4, 1), 'dilation_rate': option(1, 4, 1),
             'padding': draw.choice(['valid', 'same', 'full'], p=[.45, .5, .05])
             .item()}
  if rarely(.5):
    options['output_padding'] = option(0, 4)
  if rarely(.3):
    options['data_format'] = 'channels_first'
    if arrays['inputs'].ndim > 1:
      arrays['inputs'] = np.moveaxis(arrays['inputs'], -1, 1)
  return arrays, options


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

  def test_empty_result(self):
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

  def test_axes_and_layouts(self):
    x, w = integers(0, (2, 3, 4, 2, 5)), integers(1, (3, 2, 1, 4, 5))
    up = functools.partial(
        dialects.keras_conv_transpose, kernel=w, strides=(1, 2, 3),
        padding='same', output_padding=[0, 1, 2], dilation_rate=(1, 1, 2))
    y = up(x)
    self.assertEqual(y.shape, (2, 3, 7, 6, 4))
    np.testing.assert_array_equal(
        up(np.moveaxis(x, -1, 1), data_format='channels_first'),
        np.moveaxis(y, -1, 1))


class KernelTest(parameterized.TestCase):

  @parameterized.parameters(1, 2, 3)
  def test_and_back(self, num_axes):
    w = integers(1, (3, 2, 1)[:num_axes] + (4, 5))
    np.testing.assert_array_equal(
        dialects.kernel_to_keras(dialects.kernel_from_keras(w)), w)
    with self.assertRaisesRegex(ValueError, '^kernel must have 3 to 5 axes'):
      dialects.kernel_to_keras(np.ones((3, 4), 'f'))

  @parameterized.parameters(1, 2, 3)
  def test_serves_tconv(self, num_axes):
    x = integers(0, (2, 3, 4, 2)[:num_axes + 1] + (5,))
    w = integers(1, (3, 2, 1)[:num_axes] + (4, 5))
    kernel = dialects.kernel_from_keras(w)
    np.testing.assert_array_equal(kernel, w, strict=True)
    np.testing.assert_array_equal(
        tconv.conv_transpose(x, kernel, 2, 'SAME'),
        dialects.keras_conv_transpose(x, w, 2, 'same'))

  def test_errors(self):
    for kernel in 'kernel', None, np.ones((3, 3), 'f'), np.ones((3, 3, 3), int):
      with self.assertRaisesRegex(ValueError, '^kernel '):
        dialects.kernel_from_keras(kernel)


if __name__ == '__main__':
  absltest.main()
