"""Writes the metrics of a training for TensorBoard.

The writer of tensorboardX's `SummaryWriter` is a thread that dies when the disk
is full, and the training would then wait for it forever. Here, records are
written at once, and an error of the file system is raised.
"""

import pathlib
import time

from tensorboardX import event_file_writer
from tensorboardX import summary
from tensorboardX.proto import event_pb2


class Events:
  """Writes to a new file in a folder; a context manager."""

  def __init__(self, folder: pathlib.Path, done: int):
    """Opens the file, and invalidates what an interrupted training left.

    Args:
      folder: folder of the training, created if missing.
      done: last step that counts; those after it will be repeated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    self._writer = event_file_writer.EventsWriter(str(folder / 'events'))
    self._write(step=done + 1, session_log={'status': 'START'})

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._writer.close()

  def add(self, step: int, values: dict[str, float]) -> None:
    """Writes the values of a step, by name."""
    for name, value in values.items():
      self._write(step=step, summary=summary.scalar(name, value))
    self._writer.flush()

  def _write(self, **event):
    self._writer.write_event(
        event_pb2.Event(  # pyrefly: ignore[missing-attribute]
            wall_time=time.time(), **event))
