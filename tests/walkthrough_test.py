"""The walkthrough against numbers that are made here, without tconv."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import flagsaver
import numpy as np

from experiments import relations
from experiments import walkthrough
import tconv

X = np.array([[1, 0, 2, 1], [0, 1, 0, 2], [1, 2, 1, 0], [0, 1, 0, 1]])
W = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
Y = np.array([[1, 2], [3, 4]])


def matrix(kernel, coarse, stride=1):
  """C, [coarse^2, fine^2], written tap by tap."""
  k = len(kernel)
  fine = stride * (coarse - 1) + k
  c = np.zeros((coarse, coarse, fine, fine), int)
  for i, j, a, b in np.ndindex(coarse, coarse, k, k):
    c[i, j, stride * i + a, stride * j + b] = kernel[a, b]
  return c.reshape(coarse**2, fine**2)


def up(kernel, y, stride=1):
  """C^T y, as an image."""
  result = matrix(kernel, len(y), stride).T @ y.ravel()
  return result.reshape([round(len(result)**0.5)] * 2)


class TextTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.TemporaryDirectory()
    cls.addClassCleanup(folder.cleanup)
    cls.folder = pathlib.Path(folder.name, 'made', 'on', 'demand')
    # As a reader runs it, piped.
    cls.text = subprocess.run(
        [sys.executable, '-W', 'error', '-m', 'experiments.walkthrough',
         f'--out={cls.folder}'],
        stdout=subprocess.PIPE, check=True, encoding='utf-8',
        cwd=pathlib.Path(__file__).parents[1],
        env={**os.environ, 'PYTHONIOENCODING': 'utf-8',
             'JAX_NUMPY_RANK_PROMOTION': 'raise'}).stdout

  def assert_prints(self, values):
    """Finds [rows, columns] numbers on consecutive lines, in one frame."""
    rows = [re.compile('│ +' + ' +'.join(
        str(v) if v else r'\.' for v in row) + ' +│') for row in values]
    lines = self.text.splitlines()
    self.assertTrue(any(
        all(row.search(lines[start + i]) for i, row in enumerate(rows))
        for start in range(len(lines) - len(rows) + 1)), f'no {values}')

  def test_the_numbers(self):
    y = np.array([[sum(X[i + a, j + b] * W[a, b] for a, b in np.ndindex(3, 3))
                   for j in range(2)] for i in range(2)])
    c = matrix(W, 2)
    stamps = [up(W, np.where(np.arange(4) == index, Y.ravel(), 0).reshape(2, 2))
              for index in range(4)]
    among_zeros = np.zeros((7, 7), int)
    among_zeros[2:5:2, 2:5:2] = Y
    for values in (
        X, W, y, X.reshape(1, 16), c, y.reshape(4, 1), Y, up(W, Y), *stamps,
        (c.T @ c @ X.ravel()).reshape(4, 4), walkthrough.TWIN, among_zeros,
        np.rot90(W, 2), up(W, Y, 2)):
      self.assert_prints(values)
    self.assertFalse(np.array_equal(walkthrough.TWIN, X))
    np.testing.assert_array_equal(c @ walkthrough.TWIN.ravel(), c @ X.ravel())
    # Every fine position meets 9 taps; a stamp is 9 taps for a coarse one.
    for s, n in [(2, 2), (2, 128), (4, 128)]:
      fine = len(range(0, s * (n - 1) + 3))
      zeros, ours = 9 * fine * fine, 9 * n * n
      self.assertRegex(self.text, ' +'.join(map(str, (
          '', s, n, fine, zeros, ours, f'{zeros / ours:.2f}'))))

  def test_the_page(self):
    self.assertNotIn('\x1b', self.text)
    *lines, last = self.text.splitlines()
    self.assertLessEqual(max(map(len, lines)), 80)
    self.assertStartsWith(last, f'Figures in {self.folder}: ')
    self.assertEqual(sorted(path.name for path in self.folder.iterdir()), [
        'matrix.png', 'one_to_nine.png', 'overlap.png', 'zero_insertion.png'])


class FailureTest(absltest.TestCase):

  def fails(self):
    """Runs the command, which has to fail, and gives its message."""
    with tempfile.TemporaryDirectory() as folder:
      with flagsaver.as_parsed(out=folder):
        with self.assertRaises(SystemExit) as caught:
          walkthrough.main(['walkthrough'])
      self.assertEmpty(os.listdir(folder))
    self.assertIsInstance(caught.exception.code, str)  # So the status is 1.
    return caught.exception.code

  def test_a_wrong_relation(self):
    wrong = list(relations.RELATIONS)
    wrong[7] = wrong[7]._replace(padding='k-p-1')
    with mock.patch.object(relations, 'RELATIONS', wrong):
      self.assertIn(f'but: {wrong[7].name})', self.fails())

  def test_a_transpose_that_is_another_map(self):
    right = tconv.conv_transpose
    flipped = lambda y, w, *args, **kwargs: right(y, w[::-1], *args, **kwargs)
    with mock.patch.object(tconv, 'conv_transpose', flipped):
      self.assertIn('does not hold: tconv.conv_transpose gives C^T y',
                    self.fails())


if __name__ == '__main__':
  absltest.main()
