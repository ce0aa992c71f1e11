"""The tables of the padding guide, each row worked out."""

import importlib.util
import itertools
import pathlib
import re

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

import tconv
from tests.docs import padding_calls
from tests.docs import padding_cases

HAS_KERAS = importlib.util.find_spec('keras') is not None
PAGE = (pathlib.Path(__file__).parents[2] / 'docs/padding.md').read_text()


def table(first):
  """Cells of the table whose first heading is given."""
  rows = [[cell.strip() for cell in line.strip('|').split('|')]
          for line in re.search(rf'\| {first} \|.*\n\|---.*\n((\|.*\n)+)',
                                PAGE)[1].splitlines()]
  return [[cell.strip('`') for cell in row] for row in rows]


def spread(values, step):
  """Inserts step - 1 zeros between neighbors of an [H, W] image."""
  result = np.zeros([(n - 1) * step + 1 for n in values.shape], values.dtype)
  result[::step, ::step] = values
  return result


def slide(values, kernel, stride=1):
  """Convolves a padded [H, W] image with a [K, K] kernel in NumPy."""
  windows = np.lib.stride_tricks.sliding_window_view(values, kernel.shape)
  return np.sum(windows[::stride, ::stride] * kernel, (-2, -1))


def through(operation, values, kernel, *args, **options):
  """Applies an operation of tconv to an [H, W] image of one channel."""
  result = operation(jnp.asarray(values, jnp.float32)[None, ..., None],
                     jnp.asarray(kernel, jnp.float32)[..., None, None],
                     *args, **options)
  return np.asarray(result)[0, ..., 0]


class TablesTest(parameterized.TestCase):

  @parameterized.parameters(*table('convolution'))
  def test_relations(self, name, numbers, output, padding, transposed, example):
    i, k, s, p, d = map(int, example.split(', '))
    extent = k + (k - 1) * (d - 1)
    a = (i + 2 * p - extent) % s
    sizes = dict(i=i, k=k, s=s, p=p, d=d, a=a, K=extent)
    value = lambda formula: eval(formula.replace("'", '_'), {}, sizes)
    o = sizes['i_'] = value(output)
    zeros, size = value(padding), value(transposed)
    self.assertEqual(size, i)

    x, y, kernel = (np.arange(n * n).reshape(n, n) % 11 + 1 for n in (i, o, k))
    holed = spread(kernel, d)
    coarse = through(tconv.conv, x, kernel, s, p, kernel_dilation=d)
    self.assertEqual(coarse.shape, (o, o))
    np.testing.assert_array_equal(coarse, slide(np.pad(x, p), holed, s))
    fine = through(tconv.conv_transpose, y, kernel, s, p, output_padding=a,
                   kernel_dilation=d)
    self.assertEqual(fine.shape, (size, size))
    # The guide's recipe: zeros between and around, then stride 1.
    stretched = np.pad(spread(y, s), (zeros, zeros + a))
    np.testing.assert_array_equal(fine, slide(stretched, holed[::-1, ::-1]))

  @parameterized.parameters(*table('recipe'))
  def test_recipes(self, recipe, factor, pads, torch, keras, flax):
    k, s = map(int, re.search(r'k(\d) s(\d)', recipe).groups())
    calls = [
        torch and f'nn.ConvTranspose2d(i, o, {k}, {s}, {torch})',
        keras and f'keras.layers.Conv2DTranspose(o, {k}, {s}, {keras})',
        f'nnx.ConvTranspose(i, o, ({k}, {k}), {s}, padding={flax})',
        f'lax.conv_transpose(x, kernel, ({s}, {s}), {flax})']
    meanings = [padding_calls.meaning(
        padding_calls.from_source(call), (5, 5), (k, k))
        for call in calls if call]
    for meaning in meanings:
      self.assertEqual(meaning.fine_size, (5 * int(factor),) * 2)
      self.assertEqual(meaning.padding, (eval(pads),) * 2)

  def test_pytorch_multiplies_the_size(self):
    formulas = [re.search(rf'`{name} = (.*?)`', PAGE)[1]
                for name in ('padding', 'output_padding')]
    for k, s, d in itertools.product(range(1, 6), range(1, 4), range(1, 3)):
      extent = d * (k - 1) + 1
      padding, extra = (eval(formula, {}, {'K': extent, 's': s})
                        for formula in formulas)
      if extent >= s and (max(s, d) > 1 or extent % 2):
        meaning = padding_calls.meaning(padding_calls.Call('torch', dict(
            stride=s, padding=padding, output_padding=extra, dilation=d)),
                                        (5,), (k,))
        self.assertEqual(meaning.fine_size, (5 * s,))

  def test_three_layers(self):
    calls = ('nn.ConvTranspose2d(i, o, 4, 2, padding=1)',
             'nnx.ConvTranspose(i, o, (4, 4), 2, padding=1)',
             "keras.layers.Conv2DTranspose(o, 4, 2, 'same')")
    for call, (_, size) in zip(calls, table('layer'), strict=True):
      meaning = padding_calls.meaning(
          padding_calls.from_source(call), (16, 16), (4, 4))
      self.assertEqual('x'.join(map(str, meaning.fine_size)), size)


@absltest.skipUnless(HAS_KERAS, 'needs keras')
class KerasTest(absltest.TestCase):

  def test_layers_refuse_what_the_tests_refuse(self):
    import keras
    seen = set()
    names = dict(input='input size', kernel='kernel_size', stride='strides',
                 padding='padding', extra='output_padding',
                 dilation='dilation_rate')
    for state in padding_cases.states(300):
      if state['call'] != 'keras':
        continue
      try:
        call, size, kernel_size = padding_calls.from_state(state, names)
      except ValueError:
        continue
      layer = getattr(keras.layers, f'Conv{len(size)}DTranspose')
      try:
        meaning = padding_calls.meaning(call, size, kernel_size)
      except ValueError as error:
        if 'empty' in str(error):
          continue  # Keras has empty results.
        with self.assertRaises((ValueError, TypeError, AttributeError)):
          layer(1, **call.arguments)
        seen.add('illegal')
      else:
        shape = layer(1, **call.arguments).compute_output_shape((1, *size, 1))
        self.assertEqual(tuple(shape), (1, *meaning.fine_size, 1))
        seen.add('legal')
    self.assertLen(seen, 2)


if __name__ == '__main__':
  absltest.main()
