"""Runs docs/porting.md: each row of its tables, each of its examples."""

import functools
import importlib
import importlib.util
import itertools
import os
import pathlib
import re
import shutil
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from flax import nnx
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

import tconv
from tconv import dialects

ROOT = pathlib.Path(__file__).parent.parent
GUIDE = (ROOT / 'docs/porting.md').read_text(encoding='utf-8')
# What the PyTorch part of the guide saves, for where there is no PyTorch.
STORED = ROOT / 'tests/data'
SECTIONS = {
    title: re.findall(r'```python ?(\w*)\n(.*?)```', text, re.DOTALL)
    for title, text in re.findall(
        r'^## (.*?)\n(.*?)(?=^## |\Z)', GUIDE, re.MULTILINE | re.DOTALL)}
EXAMPLES = [title for title, blocks in SECTIONS.items() if blocks]
ROWS = re.findall(r'^\| `(.*?)` \| `(tconv\.\w+\(.*|layer\(.*)` \|$',
                  GUIDE, re.MULTILINE)
NAMES = {'F': 'torch', 'torch': 'torch', 'ConvTranspose': 'tconv',
         'keras': 'keras', 'lax': 'jax', 'nnx': 'flax'}


# Keras 3.15 causes it with NumPy 2, when it gives its weights.
pytestmark = pytest.mark.filterwarnings(
    'ignore:__array__ implementation:DeprecationWarning')


def installed(name):
  return importlib.util.find_spec(name) is not None


def integers(seed, shape):
  """Small ones, so that float32 sums are exact."""
  return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


class ExamplesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(folder.name)

  @parameterized.parameters(*EXAMPLES)
  def test_runs(self, title):
    names = {}  # The examples assert what they claim.
    for needs, block in SECTIONS[title]:
      if needs == 'torch' and not installed('torch'):
        for name in 'generator', 'samples':
          shutil.copy(STORED / f'{name}.safetensors', '.')
        continue
      if needs and not installed(needs):
        self.skipTest(f'{needs} is not installed')
      exec(block, names)


class TablesTest(parameterized.TestCase):

  @parameterized.parameters(*ROWS)
  def test_row(self, theirs, ours):
    needs = NAMES[theirs.partition('.')[0].partition('(')[0]]
    if not installed(needs):
      self.skipTest(f'{needs} is not installed')
    compare = self.compare_layers if ours[0] == 'l' else self.compare_calls
    for s, k, p, a, d, g in itertools.product(
        (2, 3), (3, 4), (1,), (0, 1), (1, 2), (1, 2)):
      if (s + k + a + d + g) % 2 == 0:
        continue  # The other half has each pair of values.
      letters = dict(s=s, k=k, p=p, a=a, d=d, g=g)
      # Only the letters that the row speaks of.
      if all(value == first or re.search(rf'\b{name}\b', theirs)
             for (name, value), first in zip(
                 letters.items(), (2, 3, 1, 0, 1, 1))):
        with self.subTest(**letters):
          compare(theirs, ours, letters)

  def compare_calls(self, theirs, ours, letters):
    k, g = letters['k'], letters['g']
    x = integers(0, (2, 5, 4, 4))
    names = dict(letters, tconv=tconv, lax=lax, NCHW=('NCHW', 'HWIO', 'NCHW'))
    if theirs.startswith(('F', 'ConvTranspose')):
      x, w = x.transpose(0, 3, 1, 2), integers(1, (4, 6 // g, k, k))
      names.update(kernel=dialects.kernel_from_torch(w),
                   ConvTranspose=dialects.onnx_conv_transpose)
    elif theirs.startswith('keras'):
      import keras
      w = integers(1, (k, k, 6, 4))
      names.update(kernel=dialects.kernel_from_keras(w), keras=keras)
    else:
      w = integers(1, (k, k, 4, 6))
      names.update(kernel=dialects.kernel_from_flax(w))
    names.update(x=x, w=w)
    if theirs[0] == 'F':
      import torch
      names.update(F=torch.nn.functional)
      expected = eval(theirs, names, dict(
          x=torch.from_numpy(x), w=torch.from_numpy(w)))
    else:
      expected = eval(theirs, names)
    np.testing.assert_array_equal(eval(ours, names), expected)

  def compare_layers(self, theirs, ours, letters):
    rngs = nnx.Rngs(0)
    names = dict(letters, nnx=nnx, rngs=rngs, layer=functools.partial(
        tconv.nnx.ConvTranspose, transpose_kernel=True, rngs=rngs))
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 4))
    package = NAMES[theirs.partition('.')[0]]
    if package != 'flax':
      names[package] = importlib.import_module(package)
    layer, expected = eval(ours, names), eval(theirs, names)
    if package == 'torch':
      weight, bias = (p.detach().numpy() for p in expected.parameters())
      kernel = dialects.kernel_from_torch(weight)
      y = expected(names['torch'].from_numpy(np.array(x.transpose(0, 3, 1, 2))))
      expected = y.detach().numpy().transpose(0, 2, 3, 1)
    else:
      y = expected(x)
      if package == 'keras':
        kernel, bias = expected.get_weights()
      else:
        kernel, bias = expected.kernel[...], expected.bias[...]
      expected = y
    layer.kernel[...], layer.bias[...] = jnp.asarray(kernel), jnp.asarray(bias)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


class KernelsTest(parameterized.TestCase):

  @parameterized.parameters(
      ('torch', 'weight'), ('onnx', 'weight'), ('keras', 'kernel'),
      ('flax', 'kernel'))
  def test_there_and_back(self, name, argument):
    there, back = (getattr(dialects, f'kernel_{way}_{name}')
                   for way in ('from', 'to'))
    for shape in (4, 2, 3), (4, 2, 3, 5), (4, 2, 3, 5, 1):
      w = integers(0, shape)
      np.testing.assert_array_equal(back(there(w)), w)
    for bad in 'w', None, np.ones(3, 'f'), np.ones((3, 3, 3), int):
      with self.assertRaisesRegex(ValueError, f'^{argument} must'):
        there(bad)
      with self.assertRaisesRegex(ValueError, '^kernel must'):
        back(bad)


if __name__ == '__main__':
  absltest.main()
