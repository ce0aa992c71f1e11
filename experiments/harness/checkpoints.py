"""Checkpoints of a training, and the newest one that is intact."""

import collections
import contextlib
import hashlib
import logging
import pathlib
import re
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp

from experiments.harness import devices
from experiments.harness import workdir as workdir_lib

_KEPT = 2  # The newest may turn out to be damaged.
_SUMS = 'SHA256SUMS'  # As `sha256sum --check` reads it.


class Checkpoints:
  """The checkpoints of one training; a context manager.

  Orbax writes a checkpoint as a whole or not at all. Digests of its files are
  kept beside them and compared before Orbax reads it, because Orbax does not
  notice all damage, and leaves pending reads behind when it does.
  """

  def __init__(self, workdir: pathlib.Path, label: str):
    """Opens the folder of a training, whose name is `label`."""
    self._label = label
    self._folder = (
        workdir.absolute() / 'checkpoints' / workdir_lib.file_name(label))
    with _quiet():
      self._manager = ocp.CheckpointManager(
          self._folder, options=ocp.CheckpointManagerOptions(
              max_to_keep=_KEPT, enable_async_checkpointing=False),
          item_handlers=ocp.StandardCheckpointHandler())

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._manager.close()

  def save(self, step: int, state: Any) -> None:
    """Writes a checkpoint.

    Args:
      step: number of steps taken.
      state: pytree of arrays.

    Raises:
      RunError: the checkpoint cannot be written.
    """
    folder = self._folder / str(step)
    try:
      with _quiet():
        self._manager.save(step, args=ocp.args.StandardSave({'state': state}))
      if devices.is_primary():
        workdir_lib.write_text(folder / _SUMS, _sums(folder))
    except (OSError, ValueError, RuntimeError) as error:  # As the disk is full.
      raise workdir_lib.RunError(
          f'{self._label}: the checkpoint of step {step} cannot be written: '
          f'{_line(error)}') from error

  def newest(self, state: Any) -> tuple[int, Any]:
    """Reads the newest intact checkpoint; reports and moves away damaged ones.

    Args:
      state: state to start from, with the structure of those that were saved.

    Returns:
      The step and the state; 0 and `state` if there is no checkpoint.

    Raises:
      RunError: the newest intact checkpoint has another structure.
    """
    for step in sorted(self._manager.all_steps(), reverse=True):
      damage = _damage(self._folder / str(step))
      if damage is None:
        return step, self._read(step, state)
      aside = self._folder.with_name(f'{self._folder.name}-{step}-damaged')
      print(f'{self._label}: the checkpoint of step {step} is damaged, and '
            f'moved to {aside}: {damage}', flush=True)
      devices.barrier('compared')
      if devices.is_primary():
        shutil.rmtree(aside, ignore_errors=True)
        (self._folder / str(step)).rename(aside)
      devices.barrier('moved')
      with _quiet():
        self._manager.reload()
    return 0, state

  def _read(self, step, state):
    shapes = lambda tree: collections.Counter(
        x.shape for x in jax.tree.leaves(tree))
    try:
      with _quiet():
        kept = shapes(self._manager.item_metadata(step).tree)
        asked = shapes(state)
        if kept != asked:  # Orbax would leave its other reads behind.
          raise ValueError(f'it has arrays of shapes {list(kept - asked)}, not '
                           f'{list(asked - kept)}')
        return self._manager.restore(
            step, args=ocp.args.StandardRestore({'state': state}))['state']
    except Exception as error:  # Of many kinds; the files are all right.
      raise workdir_lib.RunError(
          f'{self._label}: the checkpoint of step {step} is whole, but cannot '
          'be read as a state of this program; take another --workdir, or the '
          f'version that wrote it: {_line(error)}') from error


@contextlib.contextmanager
def _quiet():
  """Silences the logger of Orbax, which is that of absl."""
  logger = logging.getLogger('absl')
  before, logger.disabled = logger.disabled, True
  try:
    yield
  finally:
    logger.disabled = before


def _sums(folder: pathlib.Path) -> str:
  """A line for each file, with the digest of what it holds."""
  files = sorted(path for path in folder.rglob('*')
                 if path.is_file() and path.name != _SUMS)
  return ''.join(
      f'{hashlib.sha256(file.read_bytes()).hexdigest()}  '
      f'{file.relative_to(folder)}\n' for file in files)


def _damage(folder: pathlib.Path) -> str | None:
  """What is wrong with the files of a checkpoint."""
  sums = folder / _SUMS
  try:
    if not sums.exists():
      return f'it has no {_SUMS}, as when a run ends while it writes'
    if sums.read_bytes() != _sums(folder).encode():
      return f'its files are not as they were written; {_SUMS} tells which'
  except OSError as error:
    return _line(error)
  return None


def _line(error: Exception) -> str:
  """What an error says, on one line; of a long text, beginning and end."""
  text = re.sub(r'\s+', ' ', f'{type(error).__name__}: {error}')
  return text if len(text) < 300 else f'{text[:120]} ... {text[-170:]}'
