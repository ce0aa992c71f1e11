"""One training loop for every study.

A study brings a pure function `step(state, batch) -> (state, metrics)`, in
which state is any pytree and metrics a dict of scalars. The loop compiles it,
feeds it, and says how it goes: on the screen, and in `metrics.jsonl`.
"""

from collections.abc import Callable
from collections.abc import Iterator
import json
import math
import pathlib
import time
from typing import Any

import jax
from rich import console as console_lib
from rich import progress as progress_lib

from experiments import workdir as workdir_lib

_SECONDS_BETWEEN_LINES = 10

State = Any
Metrics = dict[str, jax.Array]


def train(step: Callable[[State, Any], tuple[State, Metrics]], state: State,
          batches: Iterator[Any], *, num_steps: int, log_every: int, label: str,
          metrics_file: pathlib.Path) -> State:
  """Takes `num_steps` steps.

  Args:
    step: pure function of state and batch.
    state: pytree to start from; its buffers are given up to the steps.
    batches: iterator of pytrees, at least `num_steps` of them.
    num_steps: number of steps.
    log_every: steps between two looks at the metrics. They stay on the device
      until then, so that steps need not wait for each other.
    label: name of this training, on screen and in the file.
    metrics_file: JSON lines are appended to it, one for each `log_every` steps,
      with the mean of each metric over these steps.

  Returns:
    The last state.

  Raises:
    RunError: a metric is NaN or infinite; names the first step where it was.
  """
  step = jax.jit(step, donate_argnums=0)
  pending = []
  with Progress(label, num_steps) as progress, open(metrics_file, 'a') as file:
    for number in range(1, num_steps + 1):
      state, metrics = step(state, next(batches))
      pending.append(metrics)
      if number % log_every and number < num_steps:
        continue
      history = jax.device_get(pending)
      _check_finite(history, number - len(history) + 1, label)
      means = {name: math.fsum(float(m[name]) for m in history) / len(history)
               for name in history[0]}
      json.dump({'run': label, 'step': number, **means}, file)
      file.write('\n')
      file.flush()
      progress.show(number, means)
      pending = []
  return state


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
