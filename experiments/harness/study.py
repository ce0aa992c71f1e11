"""What a study must provide, and how a study is run.

A study compares networks. It says which ones (`trials`), measures each of them
(`examine`), and turns all measurements into a page (`page`). All else is
the same for every study and is done here: training, resuming after an
interruption, writing files by one process only, and the order of these steps.
"""

import abc
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any

from matplotlib.figure import Figure
import ml_collections
import rich.console

from experiments.harness import devices
from experiments.harness import loop
from experiments.harness import page as page_lib
from experiments.harness import records
from experiments.harness import workdir as workdir_lib
from experiments.harness.results import Results

_DPI = 110

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Training:
  """How a network is trained.

  Attributes:
    label: name of the training on the screen and in files. Trials with the same
      label share one training.
    step: pure function (state, batch) -> (state, metrics).
    state: pytree of arrays to start from.
    batches: function of `start` and `shard` that iterates over batches.
    num_steps: number of steps.
  """
  label: str
  step: Callable[[Any, Any], tuple[Any, loop.Metrics]]
  state: Any
  batches: Callable[..., Iterator[Any]]
  num_steps: int


@dataclasses.dataclass(frozen=True)
class Trial:
  """One thing to be examined, such as an upsampler with a seed.

  Attributes:
    key: values of the columns that name the trial in the results.
    subject: whatever the study needs to examine it, such as the network before
      training.
    training: how it is trained, or None if it is not.
  """
  key: Mapping[str, Any]
  subject: Any = None
  training: Training | None = None


@dataclasses.dataclass(frozen=True)
class Run:
  """What a study reports on.

  Attributes:
    results: the rows of all trials.
    timings: the rows of `Study.timings`.
    curves: steps and means of each metric, by label of the training and name of
      the metric.
    save: function that saves a figure under a name, with a caption, and returns
      it for the page.
  """
  results: Results
  timings: Sequence[Row]
  curves: Mapping[str, Mapping[str, tuple[list[int], list[float]]]]
  save: Callable[[str, Figure, str], page_lib.Figure]


class Study(abc.ABC):
  """A study. Its package in `experiments.studies` exports it as `Study`."""

  def __init__(self, config: ml_collections.ConfigDict):
    """Keeps the config."""
    self.config = config

  @abc.abstractmethod
  def check(self) -> None:
    """Finds mistakes in the config, before anything is loaded.

    Raises:
      RunError: a field has a value that cannot be used.
    """

  @abc.abstractmethod
  def load(self) -> str:
    """Loads the data, and keeps it.

    Returns:
      A line that describes the data.

    Raises:
      RunError: the data cannot be used.
    """

  @abc.abstractmethod
  def trials(self) -> Iterable[Trial]:
    """Lists all trials, in order.

    Returns:
      The trials. Each one is trained and examined before the next is asked for.
    """

  @abc.abstractmethod
  def examine(self, trial: Trial, trained: Any) -> Iterable[Row]:
    """Measures a trial, and keeps what figures will show of it.

    Args:
      trial: one of `trials`.
      trained: the state after its training, or None.

    Returns:
      Rows of results, without the columns of the trial's key.
    """

  def timings(self) -> Sequence[Row]:
    """Rows of `timings.json`: times differ from run to run, unlike results."""
    return ()

  @abc.abstractmethod
  def page(self, run: Run) -> page_lib.Page:
    """Makes the report."""


def run(study: Study, workdir: pathlib.Path, *, command: str) -> None:
  """Runs a study whose config was checked.

  Args:
    study: the study.
    workdir: folder of the run.
    command: command that started the run, for the report.

  Raises:
    RunError: the data cannot be used, or a metric of a training was not finite.
  """
  print(study.load(), flush=True)
  rows, states = [], {}
  for trial in study.trials():
    state = None
    if training := trial.training:
      if training.label not in states:
        states[training.label] = _train(training, study.config, workdir)
      state = states[training.label]
    rows += [{**trial.key, **row} for row in study.examine(trial, state)]
  if not devices.is_primary():
    return
  columns = dict.fromkeys(column for row in rows for column in row)
  rows = [{column: row.get(column) for column in columns} for row in rows]
  workdir_lib.write_results(workdir, rows)
  timings = list(study.timings())
  workdir_lib.write_json(workdir / 'timings.json', timings)
  page = study.page(Run(Results(rows), timings, records.history(workdir),
                        functools.partial(_save, workdir)))
  for table in page.headlines:
    rich.console.Console(markup=False).print(table.screen())
  report = workdir / 'report.html'
  workdir_lib.write_text(report, page_lib.html(
      page, command=command, environment=workdir_lib.environment()))
  print(f'report: {report}')


def _train(training: Training, config: ml_collections.ConfigDict,
           workdir: pathlib.Path) -> Any:
  return loop.train(
      training.step, training.state, training.batches,
      num_steps=training.num_steps, log_every=config.log_every,
      save_every=config.save_every, label=training.label, workdir=workdir)


def _save(workdir: pathlib.Path, name: str, figure: Figure,
          caption: str) -> page_lib.Figure:
  """Saves a figure in the folder of the run."""
  return page_lib.Figure(workdir_lib.write_figure(
      workdir / 'figures' / f'{name}.png', figure, _DPI), caption)
