"""The relations of Dumoulin and Visin's guide, and convolutions in NumPy.

Each relation is computed for an example. The size and the values that tconv
gives are compared with those of the guide's recipe in NumPy.

References:
  Dumoulin and Visin, `A guide to convolution arithmetic for deep learning
  <https://arxiv.org/abs/1603.07285>`_, 2016.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import tconv


def through(operation: Callable, values: np.ndarray, kernel: np.ndarray,
            strides: int = 1, padding: int = 0, **options) -> np.ndarray:
  """Applies `tconv.conv` or its transpose to an [H, W] image of one channel."""
  result = operation(
      jnp.asarray(values, jnp.float32)[None, ..., None],
      jnp.asarray(kernel, jnp.float32)[..., None, None],
      strides, padding, **options)
  return np.asarray(result)[0, ..., 0]


def windows(values: np.ndarray, size: tuple[int, int],
            stride: int = 1) -> np.ndarray:
  """Returns the [*positions, *size] windows of an [H, W] image."""
  every = np.lib.stride_tricks.sliding_window_view(values, size)
  return every[::stride, ::stride]


def slide(values: np.ndarray, kernel: np.ndarray,
          stride: int = 1) -> np.ndarray:
  """Convolves a padded [H, W] image with a [K, K] kernel in NumPy."""
  return np.sum(windows(values, kernel.shape, stride) * kernel, (-2, -1))


def spread(values: np.ndarray, step: int) -> np.ndarray:
  """Inserts step - 1 zeros between neighbors of an [H, W] image."""
  result = np.zeros([(n - 1) * step + 1 for n in values.shape], values.dtype)
  result[::step, ::step] = values
  return result


class Relation(NamedTuple):
  """A convolution of the guide, its transpose, and the guide's example.

  Formulas are Python, so that the printed formula is the computed one.

  Attributes:
    name: name of the convolution.
    numbers: numbers of the relations for the convolution and its transpose.
    output: formula of o, the size after the convolution.
    padding: formula of p', the zeros around the input of the transpose.
    transposed: formula of o', the size after the transpose.
    example: i, k, s, p and d.
  """

  name: str
  numbers: tuple[str, str]
  output: str
  padding: str
  transposed: str
  example: tuple[int, int, int, int, int]


RELATIONS = (
    Relation('no padding', ('1', '8'), '(i-k)+1',
             'k-1', "i'+(k-1)", (4, 3, 1, 0, 1)),
    Relation('padding', ('2', '9'), '(i-k)+2*p+1',
             'k-p-1', "i'+(k-1)-2*p", (5, 4, 1, 2, 1)),
    Relation('half (same)', ('3', '10'), 'i', 'p', "i'", (5, 3, 1, 1, 1)),
    Relation('full', ('4', '11'), 'i+(k-1)', '0', "i'-(k-1)", (5, 3, 1, 2, 1)),
    Relation('strided', ('5', '12'), '(i-k)//s+1',
             'k-1', "s*(i'-1)+k", (5, 3, 2, 0, 1)),
    Relation('strided, padded', ('6', '13'), '(i+2*p-k)//s+1',
             'k-p-1', "s*(i'-1)+k-2*p", (5, 3, 2, 1, 1)),
    Relation('the same, odd', ('6', '14'), '(i+2*p-k)//s+1',
             'k-p-1', "s*(i'-1)+a+k-2*p", (6, 3, 2, 1, 1)),
    Relation('dilated', ('15', '-'), '(i+2*p-k-(k-1)*(d-1))//s+1',
             'K-p-1', "s*(i'-1)+a+K-2*p", (7, 3, 1, 0, 2)),
)


def work_out(relation: Relation) -> tuple[dict[str, int], bool, bool]:
  """Computes the example of a relation, and compares tconv with it.

  Args:
    relation: formulas and example.

  Returns:
    The sizes by name; whether size and values of `tconv.conv` equal the
    guide's; and the same for `tconv.conv_transpose`.
  """
  i, k, s, p, d = relation.example
  extent = k + (k - 1) * (d - 1)
  a = (i + 2 * p - extent) % s
  sizes = dict(i=i, k=k, s=s, p=p, d=d, a=a, K=extent)
  python = lambda name: name.replace("'", '_')  # i' is no name in Python.
  value = lambda formula: eval(
      python(formula), {}, {python(name): n for name, n in sizes.items()})
  o = sizes['o'] = sizes["i'"] = value(relation.output)
  p_ = sizes["p'"] = value(relation.padding)
  o_ = sizes["o'"] = value(relation.transposed)
  sizes.update({"i~'": s * (o - 1) + 1, "k'": k, "s'": 1})

  x, y, kernel = (np.arange(n * n).reshape(n, n) % 11 + 1 for n in (i, o, k))
  holed = spread(kernel, d)
  coarse = through(tconv.conv, x, kernel, s, p, kernel_dilation=d)
  there = coarse.shape == (o, o) and np.array_equal(
      coarse, slide(np.pad(x, p), holed, s))
  fine = through(tconv.conv_transpose, y, kernel, s, p, output_padding=a,
                  kernel_dilation=d)
  stretched = np.pad(spread(y, s), (p_, p_ + a))
  back = (fine.shape == (o_, o_) == (i, i)
          and len(stretched) - extent + 1 == o_
          and np.array_equal(fine, slide(stretched, holed[::-1, ::-1])))
  return sizes, there, back
