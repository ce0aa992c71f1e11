"""PyTorch's transposed convolutions: stored values, live ones, and errors."""

import functools
import importlib.util
import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import numpy as np

import tconv
from tconv import dialects
from tests.references import integers

VECTORS = pathlib.Path(__file__).parent / 'data/torch_conv_transpose.npz'
OPERANDS = ('input', 'weight', 'bias')
# Float64, of sums of less than a hundred products of normal draws.
TOLERANCE = 1e-12

if importlib.util.find_spec('torch'):
  import torch

  from tests.data import torch_conv_transpose as script
else:
  torch = None

# An argument, and what PyTorch refuses for it. The others are 1-D and legal.
ILLEGAL = (
    ('input', np.ones(4, 'f')), ('input', np.ones((2, 4, 5, 5), 'f')),
    ('input', np.ones((2, 3, 5), 'f')), ('input', np.ones((3, 5), 'f')),
    ('input', np.ones((2, 4, 0), 'f')), ('input', np.ones((2, 4, 5), 'e')),
    ('input', np.ones((2, 4, 5), 'F')), ('input', 'image'), ('input', None),
    ('weight', np.ones((4, 6), 'f')), ('weight', np.ones((4,) * 6, 'f')),
    ('weight', np.ones((4, 3, 0), 'f')), ('weight', np.ones((4, 0, 3), 'f')),
    ('weight', np.ones((0, 3, 3), 'f')), ('weight', None),
    ('bias', np.ones(4, 'f')), ('bias', np.ones(1, 'f')),
    ('bias', np.ones((3, 1), 'f')), ('bias', np.ones((), 'f')),
    ('bias', np.ones(3, 'F')), ('bias', 1),
    *((name, value) for name in ('stride', 'dilation') for value in (
        0, -1, (0,), 1.0, (1.0,), (), (1, 1), None, '1')),
    *((name, value) for name in ('padding', 'output_padding') for value in (
        -1, (-1,), 0.0, (0.0,), (), (0, 0), None, '0', 'same')),
    ('output_padding', 1), ('output_padding', (3,)), ('padding', 4),
    *(('groups', value) for value in (0, -1, 3, 8, 1.0, (1,), None)),
)


def arguments(**changes):
  return {'input': np.ones((2, 4, 5), 'f'), 'weight': np.ones((4, 3, 3), 'f'),
          'bias': np.ones(3, 'f')} | changes


def functional(input, weight, bias=None, **options):
  """PyTorch itself; the function for the rank of weight."""
  tensor = lambda a: torch.tensor(a) if isinstance(a, np.ndarray) else a
  axes = min(max(getattr(weight, 'ndim', 3) - 2, 1), 3)
  function = getattr(torch.nn.functional, f'conv_transpose{axes}d')
  return function(*map(tensor, (input, weight, bias)), **options).numpy()


class PerhapsLiveTest(chex.TestCase):

  def check(self, cases):
    """Checks results and gradients of many (arrays, options) in one program.

    The arrays are those of `script.evaluate`.
    """
    def evaluate(operands, cotangent, options):
      result, vjp = jax.vjp(lambda operands: dialects.torch_conv_transpose(
          **operands, **options), operands)
      return result, vjp(cotangent)[0]

    inputs = [({name: arrays[name] for name in OPERANDS if name in arrays},
               arrays['cotangent']) for arrays, _ in cases]
    with jax.enable_x64(True):
      found = jax.jit(lambda inputs: [
          evaluate(*each, options) for each, (_, options) in zip(
              inputs, cases)])(inputs)
    for ours, (operands, _), (arrays, options) in zip(found, inputs, cases):
      theirs = arrays['result'], {
          name: arrays[f'grad_{name}'] for name in operands}
      with self.subTest(**options):
        chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
        chex.assert_trees_all_close(
            ours, theirs, rtol=TOLERANCE, atol=TOLERANCE)


class StoredTest(PerhapsLiveTest):

  def test_values_and_gradients(self):
    stored = np.load(VECTORS, allow_pickle=False)
    self.assertRegex(str(stored['torch_version']), r'^2\.\d+')
    cases = json.loads(str(stored['cases']))
    self.assertLen(cases, 33)
    self.check([(
        {name.split('/')[1]: stored[name] for name in stored.files
         if name.startswith(f'{seed}/')},
        {name: value for name, value in case.items() if name in (
            'stride', 'padding', 'output_padding', 'groups', 'dilation')})
                for seed, case in enumerate(cases)])

  @absltest.skipUnless(torch, 'needs torch')
  def test_the_script_makes_what_is_stored(self):
    stored = np.load(VECTORS, allow_pickle=False)
    self.assertEqual(str(stored['cases']), json.dumps(script.CASES))
    for seed, case in enumerate(script.CASES):
      made = script.evaluate(seed, **case)
      self.assertEqual({name for name in stored.files
                        if name.startswith(f'{seed}/')},
                       {f'{seed}/{name}' for name in made})
      for name, array in made.items():
        np.testing.assert_allclose(stored[f'{seed}/{name}'], array,
                                   rtol=TOLERANCE, atol=TOLERANCE)


@absltest.skipUnless(torch, 'needs torch')
class LiveTest(PerhapsLiveTest):

  @parameterized.parameters(
      dict(num_axes=1, stride=1, padding=(2, 0, 1), dilation=(1, 3, 2)),
      dict(num_axes=2, stride=(3, 1, 2), padding=0, dilation=(1, 3, 2)),
      dict(num_axes=2, stride=(3, 1, 2), padding=(2, 0, 1), dilation=1),
      dict(num_axes=3, stride=(3, 1, 2), padding=(2, 0, 1), dilation=(1, 3, 2)),
      dict(num_axes=3, stride=1, padding=0, dilation=(1, 3, 2)))
  def test_values_and_gradients(self, num_axes, **options):
    # In one half of the cases, and with each of the other options.
    groups = 1 + (sum(value in (0, 1) for value in options.values()) % 2)
    options = {name: value if isinstance(value, int) else value[:num_axes]
               for name, value in options.items()}
    each = lambda name: np.broadcast_to(options[name], num_axes)
    largest = np.maximum(each('stride'), each('dilation')) - 1
    options |= dict(groups=groups, output_padding=largest.tolist())
    self.check([(
        script.evaluate(0, num_axes, channels=(2, 2), batched=groups == 1,
                        **options), options)])

  def test_any_arguments(self):
    draw = np.random.default_rng(0)
    outcomes = []
    for _ in range(60):
      arrays, options = random_arguments(draw)
      case = {k: v.shape for k, v in arrays.items()} | options
      function = jax.jit(
          functools.partial(dialects.torch_conv_transpose, **options))
      try:
        expected = functional(**arrays, **options)
        # Of float32 it may give an empty result, which it refuses otherwise.
        legal = expected.size > 0
      except (RuntimeError, TypeError):
        legal = False
      outcomes.append(legal)
      with self.subTest(**case), jax.enable_x64(True):
        if legal:
          # Small integers: the sums are exact.
          np.testing.assert_array_equal(
              function(**arrays), expected, strict=True)
        else:
          self.assertRaises(ValueError, function, **arrays)
    self.assertBetween(sum(outcomes), 15, 45)

  def test_illegal_arguments(self):
    for name, value in ILLEGAL:
      with self.subTest(**{name: value}), self.assertRaises(
          (RuntimeError, TypeError)):
        functional(**arguments(**{name: value}))


def random_arguments(draw):
  """Arrays and options, of which about one half are illegal."""
  num_axes = draw.choice([1, 2, 3], p=[.6, .25, .15])
  ints = lambda low, high, size=None: draw.integers(low, high, size).tolist()
  rarely = lambda chance=.03: draw.random() < chance
  groups = ints(1, 4)
  channels = groups * ints(1, 3)
  weight = [channels, ints(1, 4), *ints(1, 4, num_axes)]
  input = [*[ints(2, 4)] * (not rarely(.3)), channels, *ints(1, 5, num_axes)]
  bias = [weight[1] * groups]
  for shape in (input, weight, bias):
    if rarely():
      shape[ints(0, len(shape))] += ints(-1, 2)
    if rarely():
      shape.insert(0, 1)
    if rarely():
      shape.pop()
  dtype = draw.choice(['float32', 'float64', 'complex128'], p=[.6, .3, .1])
  arrays = {name: integers(ints(0, 99), shape, dtype) for name, shape in zip(
      OPERANDS, (input, weight, bias))}
  if rarely():
    arrays['input'] = arrays['input'].astype('complex64')
  if rarely(.3):
    del arrays['bias']

  def option(low, high):
    """One int, of several kinds, or a list of them."""
    if rarely():
      low -= 1
    if rarely(.5):
      return ints(low, high) if rarely(.7) else draw.integers(low, high)
    count = num_axes if rarely(.8) else ints(1, 3)
    return ints(low, high, count)

  options = {'stride': option(1, 4), 'padding': option(0, 2),
             'dilation': option(1, 4),
             'groups': groups + (ints(-1, 2) if rarely() else 0)}
  if rarely(.4):
    options['output_padding'] = option(0, 3)
  return arrays, options


class ErrorsTest(absltest.TestCase):

  def test_names_the_argument(self):
    # PyTorch may take the latter.
    for name, value in (
        *ILLEGAL, ('input', np.ones((2, 4, 5), np.int32)),
        ('weight', np.ones((4, 3, 3), np.int32)), ('bias', np.ones(3, 'e')),
        ('input', np.ones((0, 4, 0), 'f'))):
      with self.subTest(**{name: value}), self.assertRaisesRegex(
          ValueError, rf'^{name} '):
        dialects.torch_conv_transpose(**arguments(**{name: value}))


class ArgumentsTest(parameterized.TestCase):

  def test_an_example_by_hand(self):
    # Stride 2 without padding gives [1, 10, 102, 20, 203, 30, 300].
    x, w = np.float32([[1, 2, 3]]), np.float32([[[1, 10, 100]]])
    np.testing.assert_array_equal(
        dialects.torch_conv_transpose(x, w, None, 2, 1, 1),
        [[10, 102, 20, 203, 30, 300]])
    np.testing.assert_array_equal(
        dialects.torch_conv_transpose(x, w, np.float32([1]), 2, 2),
        [[103, 21, 204]])

  @parameterized.parameters(
      (dict(stride=2), dict(stride=(2, 2))),
      (dict(padding=[1]), dict(padding=(1, 1))),
      (dict(stride=np.int64(2), padding=True, groups=np.int64(2)),
       dict(stride=np.array([2, 2]), padding=range(1, 2), groups=2)),
      (dict(stride=(3,), output_padding=(2,)),
       dict(stride=3, output_padding=2)),
      (dict(dilation=[2]), dict(dilation=[2, 2])))
  def test_ways_to_write_the_same(self, one, other):
    x, w = integers(0, (1, 4, 3, 2)), integers(1, (4, 1, 2, 3))
    np.testing.assert_array_equal(
        dialects.torch_conv_transpose(x, w, **one),
        dialects.torch_conv_transpose(x, w, **other), strict=True)


class KernelTest(parameterized.TestCase):

  @parameterized.parameters(1, 3)
  def test_serves_tconv(self, num_axes):
    x = integers(0, (2, 4, 3, 4, 2)[:num_axes + 2])
    w = integers(1, (4, 2, 3, 2, 2)[:num_axes + 2])
    last = lambda a: np.moveaxis(a, 1, -1)
    kernel = dialects.kernel_from_torch(w)
    self.assertEqual(kernel.shape, (*w.shape[2:], 2, 4))
    np.testing.assert_array_equal(
        tconv.conv_transpose(last(x), kernel, 2, 1, output_padding=1,
                             feature_group_count=2),
        last(dialects.torch_conv_transpose(x, w, None, 2, 1, 1, 2)))

  def test_and_back(self):
    for num_axes in 1, 2, 3:
      w = integers(0, (4, 2, 3, 5, 2)[:num_axes + 2])
      np.testing.assert_array_equal(
          dialects.kernel_to_torch(dialects.kernel_from_torch(w)), w)
    with self.assertRaisesRegex(ValueError, '^kernel must have 3 to 5 axes'):
      dialects.kernel_to_torch(np.ones((3, 4), 'f'))

  def test_errors(self):
    for weight in 'weight', None, np.ones((3, 3), 'f'), np.ones((3, 3, 3), int):
      with self.assertRaisesRegex(ValueError, '^weight '):
        dialects.kernel_from_torch(weight)


if __name__ == '__main__':
  absltest.main()
