"""The states of a training on disk, and the newest that can be trusted."""

import contextlib
import gc
import hashlib
import logging
import pathlib
import re
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments import devices
from experiments import workdir as workdir_lib

_KEPT = 2  # The newest may turn out to be damaged.


class Checkpoints:
  """Those of one training; to be used in a `with` statement.

  Orbax writes them, so that a step is there as a whole or not at all. A digest
  of all numbers is kept beside them and compared, as damage to files would
  otherwise go unseen.
  """

  def __init__(self, workdir: pathlib.Path, label: str):
    """Opens the folder.

    Args:
      workdir: folder of the run.
      label: name of the training.
    """
    self._label = label
    self._folder = (
        workdir.absolute() / 'checkpoints' / workdir_lib.file_name(label))
    self._manager = ocp.CheckpointManager(
        self._folder, options=ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT, enable_async_checkpointing=False))

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._manager.close()

  def save(self, step: int, state: Any) -> None:
    """Writes a state.

    Args:
      step: after which the state was this.
      state: pytree of arrays.

    Raises:
      RunError: it cannot be written.
    """
    try:
      with _quiet():
        self._manager.save(step, args=ocp.args.Composite(
            state=ocp.args.StandardSave({'state': state}),
            digest=ocp.args.JsonSave({'sha256': _digest(state)})))
    except (OSError, ValueError, RuntimeError) as error:  # As the disk is full.
      raise workdir_lib.RunError(
          f'{self._label}: the checkpoint of step {step} cannot be written: '
          f'{_line(error)}') from error

  def newest(self, state: Any) -> tuple[int, Any]:
    """Reads the newest state that is whole; says and moves away what is not.

    Args:
      state: to start from, in the shape of those that were saved.

    Returns:
      The step and the state, or 0 and the one to start from.
    """
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        with _quiet():
          read: Any = self._manager.restore(step, args=ocp.args.Composite(
              state=ocp.args.StandardRestore({'state': state}),
              digest=ocp.args.JsonRestore()))
        found = read.state['state']
        if _digest(found) != read.digest['sha256']:
          raise ValueError('its numbers are not those that were saved')
        return step, found
      except Exception as error:  # Anything can come of a damaged file.
        aside = self._folder.with_name(f'{self._folder.name}-{step}-damaged')
        print(f'{self._label}: the checkpoint of step {step} is damaged, and '
              f'moved to {aside}: {_line(error)}', flush=True)
        if devices.is_first():
          shutil.rmtree(aside, ignore_errors=True)
          (self._folder / str(step)).rename(aside)
        devices.wait('moved')
        self._manager.reload()
    return 0, state


@contextlib.contextmanager
def _quiet():
  """Keeps pages of what goes on inside of Orbax from the screen."""
  logging.disable(logging.CRITICAL)
  try:
    yield
  except Exception:
    gc.collect()  # What was not waited for complains when it is deleted.
    raise
  finally:
    logging.disable(logging.NOTSET)


def _digest(state: Any) -> str:
  """A fingerprint of all arrays, with their places, shapes and dtypes."""
  sha = hashlib.sha256()
  for path, leaf in jax.tree.leaves_with_path(state):
    array = np.asarray(leaf)
    sha.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'
               .encode())
    sha.update(array.tobytes())
  return sha.hexdigest()


def _line(error: Exception) -> str:
  """What an error says, on one line; of a long text, beginning and end."""
  text = re.sub(r'\s+', ' ', f'{type(error).__name__}: {error}')
  return text if len(text) < 300 else f'{text[:120]} ... {text[-170:]}'
