"""The training loop of all studies.

A study provides a pure function `step(state, batch) -> (state, metrics)`, where
state is a pytree of arrays and metrics are scalars by name. The loop compiles
the step, feeds it batches that are sharded over all devices of all processes,
records the metrics, and saves checkpoints. An interrupted training resumes from
its last checkpoint and ends with the same values as one without interruption.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import math
import pathlib
from typing import Any

import jax

from experiments.harness import checkpoints as checkpoints_lib
from experiments.harness import devices
from experiments.harness import records
from experiments.harness import workdir as workdir_lib

State = Any
Metrics = dict[str, jax.Array]


def train(step: Callable[[State, Any], tuple[State, Metrics]], state: State,
          batches: Callable[..., Iterator[Any]], *, num_steps: int,
          log_every: int, save_every: int, label: str,
          workdir: pathlib.Path) -> State:
  """Trains for `num_steps` steps, or resumes a training.

  Args:
    step: pure function of state and batch.
    state: pytree of arrays to start from.
    batches: function that yields batches from step `start` on, `num_steps` less
      `start` of them; each is this process's `shard` of a batch.
    num_steps: number of steps.
    log_every: number of steps between two records of the metrics. Metrics stay
      on the device until then, so that steps need not wait for each other.
    save_every: number of steps between two checkpoints, a multiple of
      `log_every`; the last step is always saved.
    label: name of this training on the screen and in files.
    workdir: folder of the run. Every `log_every` steps, a JSON line with the
      mean of each metric over these steps is appended to its `metrics.jsonl`,
      and the same to TensorBoard's files in `events/LABEL`. The last two
      checkpoints are kept in `checkpoints/LABEL`.

  Returns:
    The last state.

  Raises:
    RunError: a metric is NaN or infinite; the message names the first step at
      which it was, and earlier checkpoints are kept. Or a checkpoint cannot be
      written.
  """
  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(
        checkpoints_lib.Checkpoints(workdir, label))
    done, state = checkpoints.newest(devices.replicate(state))
    if done:
      print(f'{label}: ' + (f'resumes after step {done}.' if done < num_steps
                            else 'already complete, skipped.'), flush=True)
    if done == num_steps:
      return devices.to_local(state)
    record = stack.enter_context(records.Record(workdir, label, done, num_steps)
                                 ) if devices.is_primary() else None
    source = batches(start=done, shard=devices.process_shard())
    step, pending = jax.jit(step, donate_argnums=0), []
    for number in range(done + 1, num_steps + 1):
      state, metrics = step(state, devices.shard_batch(next(source)))
      pending.append(metrics)
      if number % log_every and number < num_steps:
        continue
      history = jax.device_get(pending)
      _check_finite(history, number - len(history) + 1, label)
      if record:
        record.add(number, {
            name: math.fsum(float(m[name]) for m in history) / len(history)
            for name in history[0]})
      pending = []
      if number % save_every == 0 or number == num_steps:
        checkpoints.save(number, state)
  return devices.to_local(state)


def _check_finite(history, first, label):
  for number, metrics in enumerate(history, start=first):
    for name, value in metrics.items():
      if not math.isfinite(value):
        raise workdir_lib.RunError(
            f'{label}: {name} is {float(value)} at step {number}; stopped.')
