"""The metrics of a training: on the screen, in a file, and for TensorBoard."""

from collections.abc import Iterator
import contextlib
import json
import pathlib
import time
from typing import Any

from rich import console as console_lib
from rich import progress as progress_lib

from experiments.harness import events
from experiments.harness import workdir as workdir_lib

_SECONDS_BETWEEN_LINES = 10


class Record:
  """Writes and shows the metrics of one training; a context manager."""

  def __init__(self, workdir: pathlib.Path, label: str, done: int,
               num_steps: int):
    """Opens the files, and drops what they hold of later steps.

    Args:
      workdir: folder of the run.
      label: name of the training.
      done: number of steps that count; an interrupted training will repeat
        those after them.
      num_steps: number of steps in all.
    """
    self._label = label
    _forget(workdir / 'metrics.jsonl', label, done)
    self._stack = contextlib.ExitStack()
    self._lines = self._stack.enter_context(
        open(workdir / 'metrics.jsonl', 'a', encoding='utf-8'))
    self._events = self._stack.enter_context(events.Events(
        workdir / 'events' / workdir_lib.file_name(label), done))
    self._progress = self._stack.enter_context(_Progress(label, num_steps))

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._stack.close()

  def add(self, number: int, means: dict[str, float]) -> None:
    """Records metrics.

    Args:
      number: step.
      means: means of the metrics since the last record, by name.
    """
    self._lines.write(
        json.dumps({'run': self._label, 'step': number, **means}) + '\n')
    self._lines.flush()
    self._events.add(number, means)
    self._progress.show(number, means)


def _forget(metrics_file: pathlib.Path, label: str, done: int) -> None:
  """Removes the lines of a training after the step that it resumes from."""
  lines = [line for line in _lines(metrics_file)
           if line['run'] != label or line['step'] <= done]
  workdir_lib.write_text(metrics_file, ''.join(
      json.dumps(line) + '\n' for line in lines))


def _lines(metrics_file: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Reads what `Record` writes; the last line may have been cut short."""
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
  """Reads the metrics of all trainings of a run.

  Args:
    workdir: folder of the run.

  Returns:
    Steps and the means recorded at them, by label and name of the metric.
  """
  curves = {}
  for entry in _lines(workdir / 'metrics.jsonl'):
    of_run, step = curves.setdefault(entry.pop('run'), {}), entry.pop('step')
    for name, value in entry.items():
      steps, values = of_run.setdefault(name, ([], []))
      steps.append(step)
      values.append(value)
  return curves


class _Progress:
  """A progress bar on a terminal, and elsewhere a line now and then."""

  def __init__(self, label: str, num_steps: int):
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
    """Shows the number of the step, and metrics."""
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
