"""One training loop for every study.

A study brings a pure function `step(state, batch) -> (state, metrics)`, in
which state is any pytree and metrics a dict of scalars. The loop compiles it,
feeds it, and says how it goes: on the screen, in `metrics.jsonl` and for
TensorBoard. It saves the state now and then; a training that was interrupted
goes on from there, and ends as if it had not been. Batches are shared by all
devices of all processes.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import json
import math
import pathlib
import time
from typing import Any

import jax
from rich import console as console_lib
from rich import progress as progress_lib

from experiments import checkpoints as checkpoints_lib
from experiments import devices
from experiments import events
from experiments import workdir as workdir_lib

_SECONDS_BETWEEN_LINES = 10

State = Any
Metrics = dict[str, jax.Array]


def train(step: Callable[[State, Any], tuple[State, Metrics]], state: State,
          batches: Callable[..., Iterator[Any]], *, num_steps: int,
          log_every: int, save_every: int, label: str,
          workdir: pathlib.Path) -> State:
  """Takes `num_steps` steps, or those that are left of them.

  Args:
    step: pure function of state and batch.
    state: pytree of arrays to start from.
    batches: gives an iterator of pytrees, of which at least `num_steps` make
      all, less the `start` that it is told to leave out; of a batch that many
      processes share it gives the part that `shard` says.
    num_steps: number of steps.
    log_every: steps between two looks at the metrics. They stay on the device
      until then, so that steps need not wait for each other.
    save_every: steps between two checkpoints, a multiple of `log_every`; the
      last step is always saved.
    label: name of this training, on screen and in the files.
    workdir: folder of the run. JSON lines are appended to its `metrics.jsonl`,
      one for each `log_every` steps, with the mean of each metric over these
      steps, and TensorBoard's events in `events/LABEL`; the last two
      checkpoints are kept in `checkpoints/LABEL`.

  Returns:
    The last state.

  Raises:
    RunError: a metric is NaN or infinite; names the first step where it was.
      Earlier checkpoints are kept. Or a checkpoint cannot be written.
  """
  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(
        checkpoints_lib.Checkpoints(workdir, label))
    done, state = checkpoints.newest(devices.replicate(state))
    if done:
      print(f'{label}: ' + (f'goes on after step {done}.' if done < num_steps
                            else 'was trained already.'), flush=True)
    if done == num_steps:
      return devices.own(state)
    record = stack.enter_context(_Record(workdir, label, done, num_steps)
                                 ) if devices.is_first() else None
    source = batches(start=done, shard=devices.process_shard())
    step, pending = jax.jit(step, donate_argnums=0), []
    for number in range(done + 1, num_steps + 1):
      state, metrics = step(state, devices.share(next(source)))
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
  return devices.own(state)


class _Record:
  """What is written, and shown, of a training; for a `with` statement."""

  def __init__(self, workdir: pathlib.Path, label: str, done: int,
               num_steps: int):
    """Goes on with the files, as they were after the step that was done."""
    self._label = label
    _forget(workdir / 'metrics.jsonl', label, done)
    self._stack = contextlib.ExitStack()
    self._lines = self._stack.enter_context(
        open(workdir / 'metrics.jsonl', 'a', encoding='utf-8'))
    self._events = self._stack.enter_context(events.Events(
        workdir / 'events' / workdir_lib.file_name(label), done))
    self._progress = self._stack.enter_context(Progress(label, num_steps))

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._stack.close()

  def add(self, number: int, means: dict[str, float]) -> None:
    """Writes the means of metrics at a step."""
    self._lines.write(
        json.dumps({'run': self._label, 'step': number, **means}) + '\n')
    self._lines.flush()
    self._events.add(number, means)
    self._progress.show(number, means)


def _forget(metrics_file: pathlib.Path, label: str, done: int) -> None:
  """Takes out what a training wrote after the step that it goes on from."""
  lines = [line for line in _lines(metrics_file)
           if line['run'] != label or line['step'] <= done]
  workdir_lib.write_text(metrics_file, ''.join(
      json.dumps(line) + '\n' for line in lines))


def _lines(metrics_file: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Reads what `_Record` writes; the last line may have been cut short."""
  for text in metrics_file.read_text('utf-8', errors='replace').splitlines():
    try:
      line = workdir_lib.read_json(text)
    except ValueError:
      continue
    if (isinstance(line, dict) and {'run', 'step'} <= set(line)
        and all(isinstance(value, str if name == 'run' else (int, float))
                for name, value in line.items())):
      yield line


def history(workdir: pathlib.Path
            ) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
  """Reads how all trainings of a run went.

  Args:
    workdir: folder of the run.

  Returns:
    By label and metric, the steps and the means that were written at them.
  """
  curves = {}
  for entry in _lines(workdir / 'metrics.jsonl'):
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
