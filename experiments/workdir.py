"""The folder of one run, and the tables and settings written into it."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import csv
import errno
import fcntl
from importlib import metadata
import io
import json
import os
import pathlib
import platform
import re
import subprocess
from typing import Any

import jax
import ml_collections

_LOCK = 'lock'
_FOLDERS = ('checkpoints', 'events', 'figures')
_FILES = ('metrics.jsonl', 'results.json', 'results.csv', 'timings.json',
          'report.html')
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain',
             'numpy', 'scikit-image', 'scikit-learn')


class RunError(Exception):
  """A run cannot start or go on; the message is one line for its user."""


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
  """Keeps a folder to this process, until it ends or is killed.

  Args:
    path: the folder, made if need be.

  Yields:
    Nothing.

  Raises:
    RunError: another process has it, or it cannot be made or written.
  """
  with _named_workdir():
    pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    file = open(pathlib.Path(path) / _LOCK, 'a', encoding='utf-8')
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise RunError(f'another run is going on in {path}; wait for it, or take '
                     'another --workdir.') from None
    yield


@contextlib.contextmanager
def _named_workdir():
  """Says of errors that they are those of the folder."""
  try:
    yield
  except OSError as error:
    raise RunError(f'--workdir cannot be written: {error}') from error


def open_workdir(path: str, config: ml_collections.ConfigDict) -> pathlib.Path:
  """Makes the folder of a run and writes its `config.json`.

  A folder that holds a run of the same config is used again: what was trained
  need not be trained once more, and results are replaced. One that holds a run
  of another config is left as it is.

  Args:
    path: the folder, made if need be.
    config: all settings of the run.

  Returns:
    The folder.

  Raises:
    RunError: the folder cannot be made or written, or belongs to another
      config.
  """
  workdir = pathlib.Path(path)
  file = workdir / 'config.json'
  settings = json.loads(json.dumps(config.to_dict()))
  with _named_workdir():
    workdir.mkdir(parents=True, exist_ok=True)
    if file.exists() and _recorded(file) != settings:
      raise RunError(
          f'{workdir} holds a run of another config; take another --workdir or '
          'delete it.')
    # What is in the way is to be found now, and not after all trainings.
    for name in _FOLDERS:
      (workdir / name).mkdir(exist_ok=True)
    for name in _FILES:
      if (workdir / name).is_dir():
        raise IsADirectoryError(
            errno.EISDIR, os.strerror(errno.EISDIR), str(workdir / name))
    write_json(file, {'config': settings, **environment()})
    (workdir / 'metrics.jsonl').touch()
  return workdir


def _recorded(file: pathlib.Path) -> Any:
  """The config in a `config.json`, or None where there is none to be read."""
  try:
    return read_json(file.read_text())['config']
  except (ValueError, KeyError, TypeError):
    return None


def read_json(text: str) -> Any:
  """Reads JSON that anybody may have written.

  Args:
    text: to read.

  Returns:
    Its value.

  Raises:
    ValueError: it is no JSON, or nested too deeply to be read.
  """
  try:
    return json.loads(text)
  except RecursionError as error:
    raise ValueError('nested too deeply') from error


def environment() -> dict[str, Any]:
  """What a run depended on besides its config.

  Returns:
    Package versions, the device, and the git revision of the checkout, ending
    in '-dirty' where files were changed, or None outside of git.
  """
  device = jax.devices()[0]
  git = subprocess.run(
      ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'],
      cwd=pathlib.Path(__file__).parent, capture_output=True, text=True,
      check=False)
  return {
      'versions': {'python': platform.python_version(),
                   **{name: metadata.version(name) for name in _PACKAGES}},
      'device': f'{jax.device_count()} x {device.platform} '
                f'({device.device_kind})',
      'git_revision': git.stdout.strip() or None,
  }


def file_name(label: str) -> str:
  """Makes a name for files of what is only to be read otherwise.

  Args:
    label: any text.

  Returns:
    Its letters and digits, the rest replaced: no path to anywhere else.
  """
  return re.sub(r'\W+', '-', label)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file so that it is there as a whole, or as it was before.

  Args:
    path: the file.
    text: what it is to hold.
  """
  partial = path.with_name(path.name + '.partial')
  partial.write_text(text, encoding='utf-8')
  partial.replace(path)


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a value as readable JSON, in which NaN and infinity are errors.

  Args:
    path: the file.
    value: dicts, lists, strings and numbers.
  """
  write_text(path, json.dumps(value, indent=2, allow_nan=False) + '\n')


def write_results(workdir: pathlib.Path,
                  rows: Sequence[dict[str, Any]]) -> None:
  """Writes `results.json` and `results.csv`.

  Args:
    workdir: folder of the run.
    rows: of one table, all with the same keys; None is an empty cell in CSV.
  """
  write_json(workdir / 'results.json', rows)
  table = io.StringIO()
  writer = csv.DictWriter(table, rows[0], lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  write_text(workdir / 'results.csv', table.getvalue())
