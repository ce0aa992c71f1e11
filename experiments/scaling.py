"""How time and memory grow with an image, and steps with the processes.

    python -m experiments.scaling --page=docs/scaling.md

Each measurement is made by a process of its own, so that its peak of memory is
its own, too.
"""

from collections.abc import Callable
from collections.abc import Sequence
import json
import os
import pathlib
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
from experiments import launch
from experiments.harness import devices
from experiments.harness import workdir as workdir_lib
from experiments.studies import segmentation
import tconv

_PAGE = flags.DEFINE_string('page', None, 'File to write.', required=True)
_SIZES = flags.DEFINE_list(
    'sizes', ['256', '512', '1024', '2048', '4096', '8192'],
    'Pixels on a side of the enlarged image.')
_PROCESSES = flags.DEFINE_list('processes', ['1', '2', '4'], 'How many.')
_STEPS = 20
_CHANNELS = (8, 3)
_TILE, _HALO = 512, 2  # Pixels of the image before it is enlarged.
_TIMES = 3

_PAGE_TEXT = '''# Large images, many processes

Measured by `python -m experiments.scaling` on {device}, {cores} cores, jax
{jax}.

## One layer, and an image that grows

A transposed convolution, 4x4 at stride 2, from {fine} to {coarse} channels,
float32. *Whole* is a call on the whole image; *tiled* is `tconv.tiled` with
tiles of {tile} pixels and a halo of {halo}, from and to NumPy arrays in memory.
Times are medians of {times} calls after a first one. Memory is the peak of the
process over what it was before, and has both images in it; with `numpy.memmap`
these can stay on disk, and the last columns are what is needed besides.

| to | ms, whole | tiled | peak MiB, whole | tiled | images | besides | tiled |
|---|---|---|---|---|---|---|---|
{sizes}

## One batch, and more processes

Steps of study 3 (head 4, learned decoder, batches of {batch}), all processes on
this machine and on the same cores, which one process can use by itself: this is
what it costs to share them, and not what more machines would gain.

| processes | steps a second | of one process |
|---|---|---|
{processes}

Much of the cost is Gloo's, which carries numbers between processes on CPUs.
Seen with jax 0.10.2 and two processes: a step adds up 61 arrays (gradients,
batch statistics), one message each, at .5 ms per message between processes that
do nothing else; and while they compute, the thread that waits for messages
spends 32 ms of each step in the kernel, on the same cores. Pinned to a core
each, processes take twice as long again.
'''


def layer(size: int, tiled: bool) -> dict[str, float]:
  """Measures a layer, in this process.

  Args:
    size: of the enlarged image.
    tiled: whether it is computed in tiles.

  Returns:
    'ms' and 'mib'.
  """
  fine, coarse = _CHANNELS
  draw = np.random.default_rng(0)
  kernel = jnp.asarray(draw.standard_normal((4, 4, coarse, fine)), jnp.float32)
  enlarge = lambda y: tconv.conv_transpose(y, kernel, 2)
  whole = jax.jit(enlarge)
  call = (tconv.tiled(enlarge, _TILE, _HALO) if tiled
          else lambda image: np.asarray(whole(image)))
  call(np.zeros((1, 8, 8, fine), np.float32))  # What is loaded on first use.
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
  """MiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def steps(number: int, index: int, coordinator: str) -> dict[str, float]:
  """Measures steps of a training that processes share.

  Args:
    number: of processes.
    index: of this one.
    coordinator: HOST:PORT of the first.

  Returns:
    'steps_per_second'.
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
  """Calls a function in processes of its own; the first tells."""
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


def main(argv: Sequence[str]) -> None:
  """Measures all, and writes the page."""
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  rows = []
  for size in map(int, _SIZES.value):
    whole, tiled = (_measured(layer, size, tiled) for tiled in (False, True))
    images = size**2 * 4 * (_CHANNELS[0] / 4 + _CHANNELS[1]) / 2**20
    rows.append(
        f'| {size}² | {whole["ms"]:.1f} | {tiled["ms"]:.1f} '
        f'| {whole["mib"]:.0f} | {tiled["mib"]:.0f} | {images:.0f} '
        f'| {whole["mib"] - images:.0f} | {tiled["mib"] - images:.0f} |')
    print(rows[-1], flush=True)
  speeds = {number: _measured(steps, number=number)['steps_per_second']
            for number in map(int, _PROCESSES.value)}
  one = next(iter(speeds.values()))
  pathlib.Path(_PAGE.value).write_text(_PAGE_TEXT.format(
      device=workdir_lib.environment()['device'], cores=os.cpu_count(),
      jax=jax.__version__, fine=_CHANNELS[0], coarse=_CHANNELS[1], tile=_TILE,
      halo=_HALO, times=_TIMES, batch=config_lib.get_config().batch_size,
      sizes='\n'.join(rows), processes='\n'.join(
          f'| {number} | {speed:.1f} | {speed / one:.2f} |'
          for number, speed in speeds.items())), encoding='utf-8')
  print(f'page: {_PAGE.value}')


if __name__ == '__main__':
  app.run(main)
