"""Nonsense at every public door: only documented errors come out, and soon."""

import contextlib
import functools
import inspect
import itertools
import signal
import warnings

from absl.testing import absltest
import jax
import numpy as np

import tconv
from tconv import dialects

SECONDS = 60  # For one case; the slowest takes a few.
NUMBERS = (0, 1, 2, 3, -1, 7, 300, True, 2.5, None, '2', (2, 2), (1, 2, 3),
           (2,), [], (2, -1), np.int64(2), np.array([2, 1]), float('nan'))
SPECIAL = {
    'padding': ('SAME', 'VALID', 'CIRCULAR', 'same', '', 1, -1, 300, None, 3.5,
                ((1, 1), (0, 2)), ((1,),), [(0, 0)], ((1, 2), (3,))),
    'dimension_numbers': (None, ('NHWC', 'HWIO', 'NHWC'), ('N', 'H'), 'NHWC',
                          ('NCHW', 'OIHW', 'NCHW'), ('NWC', 'WIO', 'NWC'), 3),
    'method': ('auto', 'lax', 'vjp', 'matrix', 'bilinear', 'nearest', 'AUTO',
               None, 3),
    'precision': (None, 'highest', 'low', 3),
    'preferred_element_type': (None, 'float32', 'int8', 'x', 3),
}
ARRAYS = {'inputs', 'kernel', 'images', 'cotangents', 'weight', 'input', 'bias',
          'truth', 'X', 'W', 'B', 'lhs', 'rhs', 'x', 'y'}
# These take functions, or run for long to measure.
LEFT_OUT = {'tune', 'tiled', 'sharded', 'equivalent_kernel', 'accelerate',
            'accelerating', 'explain'}
FUNCTIONS = [
    function for module in (tconv, dialects) for function in
    vars(module).values() if inspect.isfunction(function)
    and not function.__name__.startswith('_')
    and function.__name__ not in LEFT_OUT]


@contextlib.contextmanager
def soon():
  def fail(*_):
    raise AssertionError(f'takes more than {SECONDS} s')

  before = signal.signal(signal.SIGALRM, fail)
  signal.alarm(SECONDS)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class ArgumentsTest(absltest.TestCase):

  def test_random_sets(self):
    draw = np.random.default_rng(0)
    pick = lambda values: values[draw.integers(len(values))]
    dtypes = ['float32'] * 8 + ['float16', 'complex64', 'int32', 'bool']

    def array(name, rank):
      if draw.random() < .1:
        rank = draw.integers(7)
      shape = draw.choice([0, 1, 2, 4, 8], rank, p=[.02, .1, .4, .38, .1])
      return jax.ShapeDtypeStruct(tuple(map(int, shape)), pick(dtypes))

    def value(name, parameter):
      given = parameter.default is not parameter.empty
      if given and draw.random() < .8:
        return parameter.default
      if not given and draw.random() < .6 and name != 'padding':
        return 2
      return pick(SPECIAL.get(name, NUMBERS))

    refused = 0
    for function in itertools.islice(itertools.cycle(FUNCTIONS), 400):
      rank = int(draw.integers(3, 6))
      arguments = {
          name: array(name, rank) if name in ARRAYS else value(name, parameter)
          for name, parameter in inspect.signature(function).parameters.items()
          if parameter.kind is not parameter.VAR_KEYWORD}
      arrays = {name: x for name, x in arguments.items() if name in ARRAYS}
      others = {name: x for name, x in arguments.items() if name not in ARRAYS}
      call = functools.partial(function, **others)
      try:
        with soon(), warnings.catch_warnings():
          warnings.simplefilter('ignore')
          jax.eval_shape(lambda a, call=call: call(**a), arrays)
      except ValueError as error:
        self.assertNotIn('takes more than', str(error), (function, arguments))
        refused += 1
      except Exception as error:
        raise AssertionError(f'{function} {arguments}') from error
    self.assertBetween(refused, 40, 360)  # Some are fine.


if __name__ == '__main__':
  absltest.main()
