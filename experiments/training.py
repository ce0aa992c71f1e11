"""One training loop for every study.

A study brings a pure function `step(state, batch) -> (state, metrics)`, in
which state is any pytree and metrics a dict of scalars. The loop compiles it,
feeds it, and says how it goes: on the screen, and in `metrics.jsonl`. It saves
the state now and then; a training that was interrupted goes on from there, and
ends as if it had not been.
"""

from collections.abc import Callable
from collections.abc import Iterator
import json
import math
import pathlib
import re
import time
from typing import Any

import jax
import orbax.checkpoint as ocp
from rich import console as console_lib
from rich import progress as progress_lib

from experiments import workdir as workdir_lib

_SECONDS_BETWEEN_LINES = 10

State = Any
Metrics = dict[str, jax.Array]


def train(step: Callable[[State, Any], tuple[State, Metrics]], state: State,
          batches: Callable[[int], Iterator[Any]], *, num_steps: int,
          log_every: int, save_every: int, label: str,
          workdir: pathlib.Path) -> State:
  """Takes `num_steps` steps, or those that are left of them.

  Args:
    step: pure function of state and batch.
    state: pytree of arrays to start from; its buffers are given up.
    batches: gives an iterator of pytrees that has left out as many batches as
      it is told, and has at least `num_steps` in all.
    num_steps: number of steps.
    log_every: steps between two looks at the metrics. They stay on the device
      until then, so that steps need not wait for each other.
    save_every: steps between two checkpoints, a multiple of `log_every`; the
      last step is always saved.
    label: name of this training, on screen and in the files.
    workdir: folder of the run. JSON lines are appended to its `metrics.jsonl`,
      one for each `log_every` steps, with the mean of each metric over these
      steps; the last two checkpoints are kept in `checkpoints/LABEL`.

  Returns:
    The last state.

  Raises:
    RunError: a metric is NaN or infinite; names the first step where it was.
      Earlier checkpoints are kept.
  """
  metrics_file = workdir / 'metrics.jsonl'
  with ocp.CheckpointManager(
      workdir.absolute() / 'checkpoints' / re.sub(r'\W+', '-', label),
      options=ocp.CheckpointManagerOptions(
          max_to_keep=2, enable_async_checkpointing=False)) as checkpoints:
    done = checkpoints.latest_step() or 0
    if done:
      state = checkpoints.restore(
          done, args=ocp.args.StandardRestore({'state': state}))['state']
      print(f'{label}: ' + (f'goes on after step {done}.' if done < num_steps
                            else 'was trained already.'), flush=True)
    _forget(metrics_file, label, done)
    if done == num_steps:
      return state
    step, source, pending = jax.jit(step, donate_argnums=0), batches(done), []
    with Progress(label, num_steps) as progress, open(
        metrics_file, 'a') as file:
      for number in range(done + 1, num_steps + 1):
        state, metrics = step(state, next(source))
        pending.append(metrics)
        if number % log_every and number < num_steps:
          continue
        history = jax.device_get(pending)
        _check_finite(history, number - len(history) + 1, label)
        means = {name: math.fsum(float(m[name]) for m in history) / len(history)
                 for name in history[0]}
        file.write(json.dumps({'run': label, 'step': number, **means}) + '\n')
        file.flush()
        progress.show(number, means)
        pending = []
        if number % save_every == 0 or number == num_steps:
          checkpoints.save(number, args=ocp.args.StandardSave({'state': state}))
  return state


def _forget(metrics_file: pathlib.Path, label: str, done: int) -> None:
  """Takes out what a training wrote after the step that it goes on from."""
  lines = []
  for line in metrics_file.read_text().splitlines(keepends=True):
    try:
      entry = json.loads(line)
    except ValueError:  # Its writing was cut short.
      continue
    if entry['run'] != label or entry['step'] <= done:
      lines.append(line)
  partial = metrics_file.with_suffix('.partial')
  partial.write_text(''.join(lines))
  partial.replace(metrics_file)


def history(workdir: pathlib.Path
            ) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
  """Reads how all trainings of a run went.

  Args:
    workdir: folder of the run.

  Returns:
    By label and metric, the steps and the means that were written at them.
  """
  curves = {}
  for line in (workdir / 'metrics.jsonl').read_text().splitlines():
    entry = json.loads(line)
    of_run, step = curves.setdefault(entry.pop('run'), {}), entry.pop('step')
    for name, value in entry.items():
      steps, values = of_run.setdefault(name, ([], []))
      steps.append(step)
      values.append(value)
  return curves


def _check_finite(history, first, label):
  for number, metrics in enumerate(history, start=first):
    for name, value in metrics.items():
      if not math.isfinite(value):
        raise workdir_lib.RunError(
            f'{label}: {name} is {float(value)} at step {number}; stopped.')


class Progress:
  """A progress bar on a terminal; elsewhere a plain line now and then."""

  def __init__(self, label: str, num_steps: int):
    """Prepares the display.

    Args:
      label: what is in progress.
      num_steps: where it ends.
    """
    self._label, self._num_steps = label, num_steps
    self._last_line = time.monotonic()
    self._console = console_lib.Console()
    self._bar = progress_lib.Progress(
        progress_lib.TextColumn('{task.description:24}'),
        progress_lib.BarColumn(),
        progress_lib.MofNCompleteColumn(),
        progress_lib.TimeRemainingColumn(elapsed_when_finished=True),
        progress_lib.TextColumn('{task.fields[metrics]}'),
        console=self._console, disable=not self._console.is_terminal)

  def __enter__(self):
    self._bar.start()
    self._task = self._bar.add_task(
        self._label, total=self._num_steps, metrics='')
    return self

  def __exit__(self, *_):
    self._bar.stop()

  def show(self, number: int, metrics: dict[str, float]) -> None:
    """Says how far it is.

    Args:
      number: steps done.
      metrics: numbers to show beside it.
    """
    text = ', '.join(f'{name} {value:.4g}' for name, value in metrics.items())
    self._bar.update(self._task, completed=number, metrics=text)
    now = time.monotonic()
    if self._console.is_terminal or (
        number < self._num_steps
        and now - self._last_line < _SECONDS_BETWEEN_LINES):
      return
    self._last_line = now
    print(f'{self._label}: step {number} of {self._num_steps}, {text}',
          flush=True)
