"""The folder of a run, and the files in it."""

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
  """A run cannot start or continue; the message is one line for the user."""


@contextlib.contextmanager
def opened(path: str, config: ml_collections.ConfigDict
           ) -> Iterator[pathlib.Path]:
  """Opens the folder of a run, and locks it until it is closed.

  A folder with a run of the same config is used again: trainings resume, and
  results are replaced. A folder with a run of another config is left as it is.

  Args:
    path: the folder, created if missing.
    config: settings of the run, written to `config.json`.

  Yields:
    The folder.

  Raises:
    RunError: another process uses the folder, it holds a run of another config,
      or it cannot be created or written.
  """
  workdir = pathlib.Path(path)
  with _named_workdir():
    workdir.mkdir(parents=True, exist_ok=True)
    lock = open(workdir / _LOCK, 'a', encoding='utf-8')
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise RunError(f'another run uses {path}; wait for it, or choose another '
                     '--workdir.') from None
    with _named_workdir():
      _prepare(workdir, config)
    yield workdir


@contextlib.contextmanager
def _named_workdir():
  """Turns errors of the file system into a `RunError` about --workdir."""
  try:
    yield
  except OSError as error:
    raise RunError(f'--workdir cannot be written: {error}') from error


def _prepare(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
  """Checks that a run of this config can use the folder, and writes it."""
  file = workdir / 'config.json'
  settings = json.loads(json.dumps(config.to_dict()))
  if file.exists() and _recorded(file) != settings:
    raise RunError(
        f'{workdir} holds a run of another config; choose another --workdir or '
        'delete it.')
  # Obstacles are to be found now, and not after all trainings.
  for name in _FOLDERS:
    (workdir / name).mkdir(exist_ok=True)
  for name in _FILES:
    if (workdir / name).is_dir():
      raise IsADirectoryError(
          errno.EISDIR, os.strerror(errno.EISDIR), str(workdir / name))
  write_json(file, {'config': settings, **environment()})
  (workdir / 'metrics.jsonl').touch()


def _recorded(file: pathlib.Path) -> Any:
  """The config in a `config.json`, or None if it cannot be read."""
  try:
    return read_json(file.read_text())['config']
  except (ValueError, KeyError, TypeError):
    return None


def read_json(text: str) -> Any:
  """Reads JSON from an untrusted source.

  Raises:
    ValueError: the text is not JSON, or nested too deeply.
  """
  try:
    return json.loads(text)
  except RecursionError as error:
    raise ValueError('nested too deeply') from error


def environment() -> dict[str, Any]:
  """Describes what a run depends on besides its config.

  Returns:
    'versions' of packages, the 'device', and the 'git_revision' of the
    checkout, which ends in '-dirty' if files were changed and is None outside
    of git.
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
  """Replaces all but letters and digits, so that the result is no path."""
  return re.sub(r'\W+', '-', label)


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes a file atomically: readers see the old file or the new one."""
  partial = path.with_name(path.name + '.partial')
  partial.write_bytes(content)
  partial.replace(path)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file in UTF-8, atomically."""
  write_bytes(path, text.encode('utf-8'))


def write_figure(path: pathlib.Path, figure: Any, dpi: int) -> bytes:
  """Writes a figure of matplotlib as PNG, atomically; returns the contents."""
  png = io.BytesIO()
  figure.savefig(png, dpi=dpi)
  write_bytes(path, png.getvalue())
  return png.getvalue()


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes indented JSON atomically; NaN and infinity are errors."""
  write_text(path, json.dumps(value, indent=2, allow_nan=False) + '\n')


def write_results(workdir: pathlib.Path,
                  rows: Sequence[dict[str, Any]]) -> None:
  """Writes `results.json` and `results.csv`.

  Args:
    workdir: folder of the run.
    rows: rows with the same columns; None is an empty cell in CSV.
  """
  write_json(workdir / 'results.json', rows)
  table = io.StringIO()
  writer = csv.DictWriter(table, rows[0], lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  write_text(workdir / 'results.csv', table.getvalue())
