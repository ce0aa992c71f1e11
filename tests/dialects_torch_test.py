"""PyTorch's transposed convolutions: stored values, live ones, and errors."""

import importlib.util
import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

import tconv
from tconv import dialects
from tests.references import integers

HAS_TORCH = importlib.util.find_spec('torch') is not None
VECTORS = pathlib.Path(__file__).parent / 'data/torch_conv_transpose.npz'
OPERANDS = ('input', 'weight', 'bias')
# Float64, of sums of less than a hundred products of normal draws.
TOLERANCE = 1e-12

if HAS_TORCH:
  from tests.data import torch_conv_transpose as script

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


class StoredTest(parameterized.TestCase):

  def test_values_and_gradients(self):
    stored = np.load(VECTORS, allow_pickle=False)
    self.assertRegex(str(stored['torch_version']), r'^2\.\d+')
    options = [
        {name: value for name, value in case.items() if name in (
            'stride', 'padding', 'output_padding', 'groups', 'dilation')}
        for case in json.loads(str(stored['cases']))]
    cases = [{name.split('/')[1]: stored[name] for name in stored.files
              if name.startswith(f'{seed}/')} for seed in range(len(options))]
    self.assertLen(cases, 33)

    def evaluate(arrays, options):
      operands = {name: arrays[name] for name in OPERANDS if name in arrays}
      result, vjp = jax.vjp(lambda operands: dialects.torch_conv_transpose(
          **operands, **options), operands)
      gradients, = vjp(arrays['cotangent'])
      return {'result': result} | {
          f'grad_{name}': gradients[name] for name in operands}

    with jax.enable_x64(True):
      found = jax.jit(lambda cases: list(map(evaluate, cases, options)))(cases)
    for ours, theirs, case in zip(found, cases, options):
      for name, array in ours.items():
        np.testing.assert_allclose(
            array, theirs[name], rtol=TOLERANCE, atol=TOLERANCE,
            err_msg=f'{name} of {case}', strict=True)

  @absltest.skipUnless(HAS_TORCH, 'needs torch')
  def test_the_script_makes_what_is_stored(self):
    stored = np.load(VECTORS, allow_pickle=False)
    self.assertEqual(str(stored['cases']), json.dumps(script.CASES))
    for seed, case in enumerate(script.CASES):
      for name, array in script.evaluate(seed, **case).items():
        np.testing.assert_allclose(stored[f'{seed}/{name}'], array,
                                   rtol=TOLERANCE, atol=TOLERANCE)


class ErrorsTest(absltest.TestCase):

  def test_names_the_argument(self):
    # PyTorch may take those that are added here.
    for name, value in (
        *ILLEGAL, ('input', np.ones((2, 4, 5), np.int32)),
        ('weight', np.ones((4, 3, 3), np.int32)), ('bias', np.ones(3, 'e')),
        ('input', np.ones((0, 4, 0), 'f'))):
      with self.subTest(**{name: value}), self.assertRaisesRegex(
          ValueError, rf'^{name} '):
        dialects.torch_conv_transpose(**arguments(**{name: value}))


class ArgumentsTest(parameterized.TestCase):

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

  @parameterized.parameters(1, 2, 3)
  def test_the_kernel_serves_tconv(self, num_axes):
    x = integers(0, (2, 4, 3, 4, 2)[:num_axes + 2])
    w = integers(1, (4, 2, 3, 2, 2)[:num_axes + 2])
    last = lambda a: np.moveaxis(a, 1, -1)
    np.testing.assert_array_equal(
        tconv.conv_transpose(
            last(x), dialects.kernel_from_torch(w), 2, 1, output_padding=1,
            feature_group_count=2),
        last(dialects.torch_conv_transpose(x, w, None, 2, 1, 1, 2)))


if __name__ == '__main__':
  absltest.main()
