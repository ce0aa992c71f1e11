"""What TensorBoard is given."""

import pathlib
import resource
import struct
import tempfile

from absl.testing import absltest
import numpy as np
from tensorboardX.proto import event_pb2

from experiments.harness import events


def read(folder):
  """The events of all files: records of a length, a sum, data, and a sum."""
  for file in sorted(folder.iterdir()):
    content = file.read_bytes()
    while content:
      length, = struct.unpack('<Q', content[:8])
      yield event_pb2.Event.FromString(content[12:12 + length])
      content = content[16 + length:]


class EventsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory())) / 'a' / 'b'

  def test_numbers_are_there_at_once(self):
    with events.Events(self.folder, 6) as opened:
      opened.add(8, {'loss': 1.5, 'norm': 2.})
      opened.add(10, {'loss': 1.25, 'norm': 3.})
      version, start, *numbers = read(self.folder)
    self.assertEqual(version.file_version, 'brain.Event:2')
    # TensorBoard leaves out what it has of this step and of later ones.
    self.assertEqual(start.session_log.status, event_pb2.SessionLog.START)
    self.assertEqual(start.step, 7)
    self.assertEqual(
        [(event.step, value.tag, value.simple_value)
         for event in numbers for value in event.summary.value],
        [(8, 'loss', 1.5), (8, 'norm', 2), (10, 'loss', 1.25),
         (10, 'norm', 3)])

  def test_a_full_disk_is_an_error(self):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with self.assertRaises(OSError), events.Events(self.folder, 0) as opened:
      resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
      try:
        for step in range(1000):
          opened.add(step, {'loss': np.pi})
      finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


if __name__ == '__main__':
  absltest.main()
