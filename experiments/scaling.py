"""Measures how time and memory scale with image size and processes.

    python -m experiments.scaling --page=docs/scaling.md

Each measurement runs in a process of its own, so that the peak memory of one
does not include another. In the page, only the tables and the versions below
them are replaced.
"""

from collections.abc import Callable
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from configs import segmentation as config_lib
from experiments import commands
from experiments import launch
from experiments.harness import devices
from experiments.harness import workdir as workdir_lib
from experiments.harness.results import Table
from experiments.studies import segmentation
import tconv

_PAGE = flags.DEFINE_string(
    'page', None, 'Markdown page whose tables are replaced.', required=True)
_SIZES = flags.DEFINE_list(
    'sizes', ['256', '512', '1024', '2048', '4096', '8192'],
    'Sides of the enlarged images in pixels.')
_PROCESSES = flags.DEFINE_list(
    'processes', ['1', '2', '4'], 'Numbers of processes.')
# The page describes these settings.
_STEPS = 20
_CHANNELS = (8, 3)
_TILE, _HALO = 512, 2  # Pixels of the image before it is enlarged.
_TIMES = 3


def layer(size: int, tiled: bool) -> dict[str, float]:
  """Measures the time ('ms') and peak memory ('mib') of a layer.

  Args:
    size: side of the enlarged image in pixels.
    tiled: whether the image is computed in tiles.

  Returns:
    The two numbers by name.
  """
  fine, coarse = _CHANNELS
  draw = np.random.default_rng(0)
  kernel = jnp.asarray(draw.standard_normal((4, 4, coarse, fine)), jnp.float32)
  enlarge = lambda y: tconv.conv_transpose(y, kernel, 2)
  whole = jax.jit(enlarge)
  call = (tconv.tiled(enlarge, _TILE, _HALO) if tiled
          else lambda image: np.asarray(whole(image)))
  call(np.zeros((1, 8, 8, fine), np.float32))  # Loads libraries.
  before = _peak()
  image = draw.standard_normal(
      (1, size // 2, size // 2, fine), dtype=np.float32)
  times = []
  for _ in range(_TIMES + 1):
    start = time.perf_counter()
    call(image)
    times.append(1e3 * (time.perf_counter() - start))
  return {'ms': statistics.median(times[1:]), 'mib': _peak() - before}


def _peak() -> float:
  """Returns the peak memory of this process in MiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def steps(number: int, index: int, coordinator: str) -> dict[str, float]:
  """Measures 'steps_per_second' of a training that processes share.

  Args:
    number: number of processes.
    index: index of this process.
    coordinator: HOST:PORT of the first process.

  Returns:
    The number by name.
  """
  if number > 1:
    devices.connect(coordinator, number, index)
  config = config_lib.get_config()
  config.update({'train_images': config.batch_size, 'test_images': 1})
  config.update({'heads': (4,), 'decoders': ('learned',), 'seeds': (0,)})
  study = segmentation.Study(config)
  study.load()
  training = next(iter(study.trials())).training
  assert training
  batch = devices.shard_batch(next(training.batches(
      start=0, shard=devices.process_shard())))
  state, step = devices.replicate(training.state), jax.jit(training.step)
  state, _ = step(state, batch)
  jax.block_until_ready(state)
  start = time.perf_counter()
  for _ in range(_STEPS):
    state, _ = step(state, batch)
  jax.block_until_ready(state)
  return {'steps_per_second': _STEPS / (time.perf_counter() - start)}


def _measured(function: Callable[..., dict[str, float]], *arguments,
              number: int = 1) -> dict[str, float]:
  """Calls a function in new processes; returns the result of the first."""
  code = ('import json; from experiments import scaling; '
          'print(json.dumps(scaling.{}(*json.loads({!r}))))')
  address = f'127.0.0.1:{launch.free_port()}'
  processes = [
      subprocess.Popen(
          [sys.executable, '-c', code.format(function.__name__, json.dumps(
              arguments or [number, index, address]))],
          stdout=subprocess.PIPE, text=True)
      for index in range(number)]
  outputs = [process.communicate()[0] for process in processes]
  if any(process.returncode for process in processes):
    raise RuntimeError(f'{function.__name__}{arguments} failed.')
  return json.loads(outputs[0].splitlines()[-1])


def main(argv: list[str]) -> None:
  """Measures everything, and replaces the tables of the page."""
  with commands.started('scaling', argv):
    rows = []
    for size in map(int, _SIZES.value):
      whole, tiled = (_measured(layer, size, tiled) for tiled in (False, True))
      images = size**2 * 4 * (_CHANNELS[0] / 4 + _CHANNELS[1]) / 2**20
      rows.append((
          f'{size}²', f'{whole["ms"]:.1f}', f'{tiled["ms"]:.1f}', *(
              f'{mib:.0f}' for mib in (
                  whole['mib'], tiled['mib'], images, whole['mib'] - images,
                  tiled['mib'] - images))))
      print(*rows[-1], flush=True)
    speeds = {number: _measured(steps, number=number)['steps_per_second']
              for number in map(int, _PROCESSES.value)}
    one = next(iter(speeds.values()))
    measured = (f'Measured on {workdir_lib.environment()["device"]}, '
                f'{os.cpu_count()} cores, jax {jax.__version__}.')
    for table in (
        Table('', ('to', 'ms, whole', 'tiled', 'peak MiB, whole', 'tiled',
                   'images', 'besides, whole', 'tiled'), rows),
        Table('', ('processes', 'steps a second', 'relative to one process'), [
            (str(number), f'{speed:.1f}', f'{speed / one:.2f}')
            for number, speed in speeds.items()])):
      commands.replace_part(
          _PAGE.value, f'| {table.columns[0]} ', 'Measured on ',
          f'{table.markdown().lstrip()}\n\n{measured}')
  print(f'Results: {_PAGE.value}')


if __name__ == '__main__':
  app.run(main)
