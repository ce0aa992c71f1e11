"""Nonsense at every public door: only documented errors come out, and soon."""

import contextlib
import functools
import inspect
import io
import itertools
import json
import pathlib
import shutil
import signal
import tempfile
import warnings

from absl.testing import absltest
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from experiments.data import images
from experiments.harness import loop
from experiments.harness import records
from experiments.harness import workdir as workdir_lib
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


def mutilate(content, draw):
  """Cuts, empties, or changes bytes, at random."""
  content = bytearray(content)
  match draw.integers(4):
    case 0:
      return bytes(content[:draw.integers(len(content) + 1)])
    case 1:
      return draw.bytes(len(content))
    case 2:
      return bytes(content) + draw.bytes(20)
  for _ in range(draw.integers(1, 9)):
    if content:
      content[draw.integers(len(content))] = draw.integers(256)
  return bytes(content)


class FilesTest(absltest.TestCase):
  """Images, recordings, checkpoints and other files of a run."""

  def setUp(self):
    super().setUp()
    self.draw = np.random.default_rng(0)
    self.work = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))

  def test_images(self):
    pixels = self.draw.integers(256, size=(20, 30, 3)).astype(np.uint8)
    file = self.work / 'image'
    kinds = 'PNG', 'JPEG', 'TIFF', 'GIF', 'WEBP', 'BMP'
    for kind, _ in zip(itertools.cycle(kinds), range(50)):
      Image.fromarray(pixels).save(file, kind)
      file.write_bytes(mutilate(file.read_bytes(), self.draw))
      with soon():
        try:
          read, _ = images.read(str(file))
        except images.ImageError as error:
          self.assertNotIn('\n', str(error))
        else:  # The damage is one of values.
          self.assertTrue(np.isfinite(read).all())

  def test_checkpoints_and_events(self):
    def train(workdir, num_steps):
      workdir.mkdir(exist_ok=True)
      (workdir / 'metrics.jsonl').touch()
      step = lambda state, batch: (.7 * state + batch, {'loss': batch})
      with contextlib.redirect_stdout(io.StringIO()):
        return loop.train(
            step, jnp.zeros(9),
            lambda start, shard: map(jnp.float32, itertools.count(start)),
            num_steps=num_steps, log_every=2, save_every=2, label='../up',
            workdir=workdir)

    whole = self.work / 'whole'
    train(whole, 4)
    files = [file.relative_to(whole) for file in sorted(whole.rglob('*'))
             if file.is_file()]
    expected = train(self.work / 'again', 5)
    for i, file in enumerate(files[::3]):
      workdir = self.work / str(i)
      shutil.copytree(whole, workdir)
      (workdir / file).write_bytes(mutilate(
          (whole / file).read_bytes(), self.draw))
      with soon():
        np.testing.assert_array_equal(train(workdir, 5), expected, str(file))

  def test_records_of_a_run(self):
    config = ml_collections.ConfigDict({'n': 3, 'names': ('x', 'y')})
    path = self.work / 'run'
    for i in range(50):
      with workdir_lib.opened(str(path), config):
        pass
      (path / 'metrics.jsonl').write_text(
          '{"run": "a", "step": 1, "loss": 2.0}\n' * 3)
      file = path / ('config.json', 'metrics.jsonl')[i % 2]
      file.write_bytes(mutilate(file.read_bytes(), self.draw))
      with soon():
        with contextlib.suppress(workdir_lib.RunError):
          with workdir_lib.opened(str(path), config):
            pass
          json.loads((path / 'config.json').read_text())
        for curves in records.history(path).values():
          for steps, values in curves.values():
            self.assertEqual(len(steps), len(values))
      shutil.rmtree(path)


if __name__ == '__main__':
  absltest.main()
