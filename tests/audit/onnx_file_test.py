"""Damaged and hostile ONNX files end in one line, in bounded time."""

import os
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import onnx
from onnx import helper

from tconv.audit import onnx_model
from tconv.audit.model import AuditError
from tests.audit import onnx_cases
from tests.audit.onnx_cases import node

WEIGHT = {'w': np.ones((2, 2, 3), 'f')}
UP = node('ConvTranspose', ['x', 'w'], ['y'], strides=[2])
MODEL = onnx_cases.model([UP], (1, 2, 4), WEIGHT)
del MODEL.opset_import[1:]  # So that no byte can be spared.
GOOD = MODEL.SerializeToString()


def changed(change):
  model = onnx.ModelProto.FromString(GOOD)
  change(model, model.graph.initializer[0])
  return model.SerializeToString()


def claims(*dims, **fields):
  """A tensor of another shape, with few bytes."""
  def change(_, tensor):
    tensor.ClearField('dims')
    tensor.dims.extend(dims)
    for field, value in fields.items():
      tensor.ClearField('raw_data')
      if isinstance(value, list):
        getattr(tensor, field).extend(value)
      else:
        setattr(tensor, field, value)
  return changed(change)


def functions(*bodies):
  """A model that calls the first of some functions."""
  made = [helper.make_function('own', name, ['a'], ['b'], [
      node(callee, ['a'], [f'b{i}' if i else 'b'], domain='own')
      for i, callee in enumerate(callees)], []) for name, callees in bodies]
  return onnx_cases.model(
      [node(bodies[0][0], ['x'], ['y'], domain='own')], (1, 2, 4),
      functions=made).SerializeToString()


# The bytes, and a part of the message.
CASES = dict(
    empty=(b'', 'no ONNX model'), text=(b'not a model at all\n' * 9, 'not an'),
    zeros=(bytes(10**4), 'not an'), half=(GOOD[:len(GOOD) // 2], 'truncated'),
    short=(GOOD[:-1], 'truncated'), noise=(b'\x0b\xff' * 999, 'not an'),
    no_graph=(changed(lambda m, _: m.ClearField('graph')), 'no ONNX model'),
    no_opset=(changed(lambda m, _: m.ClearField('opset_import')), 'no ONNX'),
    many=(claims(1000, 1000, 1000), 'claims 1000000000 elements'),
    overflow=(claims(2**62, 2**62, 2**62), 'claims'),
    negative=(claims(-1, 2, 3), 'invalid shape'),
    few=(claims(2, 2, 4), 'claims 16 elements .* has 12'),
    more=(claims(2, 2, 2), 'claims 8 elements .* has 12'),
    floats=(claims(10**9, float_data=[1.]), 'claims'),
    empty_weight=(claims(0, 2, 3, raw_data=b''), 'weight of shape'),
    rank=(claims(12), 'weight of shape'),
    dtype=(changed(lambda _, t: setattr(t, 'data_type', 77)), 'dtype'),
    no_dtype=(changed(lambda _, t: setattr(t, 'data_type', 0)), 'dtype'),
    cycle=(onnx_cases.model(
        [node('Add', ['x', 'b'], ['a']), node('Relu', ['a'], ['b']),
         node('Relu', ['b'], ['y'])], (1, 2, 4)).SerializeToString(), 'cycle'),
    itself=(onnx_cases.model(
        [node('Add', ['x', 'y'], ['y'])], (1, 2, 4)).SerializeToString(),
            'cycle'),
    twice=(onnx_cases.model(
        [node('Relu', ['x'], ['y']), node('Relu', ['x'], ['y'])], (1, 2, 4)
        ).SerializeToString(), 'twice'),
    same_name=(changed(lambda m, t: m.graph.initializer.add().CopyFrom(t)),
               'same name'),
    nothing=(changed(lambda m, _: m.graph.node[0].ClearField('input')),
             'lacks an input'),
    no_output=(changed(lambda m, _: m.graph.node[0].ClearField('output')),
               'lacks an'),
    memory=(onnx_cases.model(
        [node('ConstantOfShape', ['s'], ['c']), node('Add', ['c', 'x'], ['y'])],
        (1,), {'s': np.array([10**6, 10**6])}).SerializeToString(),
            'would have more'),
    recursion=(functions(('F', ['G']), ('G', ['F'])), 'without end'),
    unused_recursion=(functions(('E', ['H']), ('F', ['G']), ('G', ['F'])),
                      'without end'),
    bomb=(functions(*((f'F{i}', [f'F{i + 1}'] * 10) for i in range(20)),
                    ('F20', ['G'])), 'more than 1000000 nodes'),
    deep=(functions(*((f'F{i}', [f'F{i + 1}']) for i in range(2000))),
          'without end'))


class HostileFileTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.path = pathlib.Path(folder.name, 'model.onnx')

  def refused(self, message=''):
    with self.assertRaisesRegex(AuditError, message) as error:
      onnx_model.load(self.path)
    self.assertLen(str(error.exception).splitlines(), 1)
    self.assertStartsWith(str(error.exception), 'model.onnx')

  @parameterized.named_parameters(
      (name, *case) for name, case in CASES.items())
  def test_one_line(self, data, message):
    self.path.write_bytes(data)
    self.refused(message)

  def test_text_for_weights(self):
    self.path.write_bytes(claims(2, 2, 3, string_data=[b'1'] * 12,
                                 data_type=onnx.TensorProto.STRING))
    [unknown] = onnx_model.load(self.path).unknown
    self.assertIn('text', unknown.reason)

  def test_errors_of_onnxruntime(self):
    self.path.write_bytes(
        onnx_cases.model([UP], (1, 3, 4), WEIGHT).SerializeToString())
    with self.assertRaisesRegex(AuditError, '^model.onnx does not run: .*$'):
      onnx_model.load(self.path).run({'x': np.ones((1, 3, 4), 'f')})

  def test_the_good_one(self):
    self.path.write_bytes(GOOD)
    onnx_cases.check(onnx_model.load(self.path))

  def test_truncation_anywhere(self):
    for length in range(0, len(GOOD), 7):
      self.path.write_bytes(GOOD[:length])
      self.refused()

  def test_no_file(self):
    self.refused()
    self.path.mkdir()
    self.refused()

  def test_a_pipe_does_not_block(self):
    os.mkfifo(self.path)
    self.refused()

  def test_a_file_that_is_too_large(self):
    with open(self.path, 'wb') as file:
      file.truncate(2**31)  # Takes no space.
    self.refused('2 GiB')

  def test_changed_bytes(self):
    random = np.random.default_rng(0)
    for _ in range(300):
      data = bytearray(GOOD)
      for place in random.integers(len(data), size=random.integers(1, 4)):
        data[place] = random.integers(256)
      self.path.write_bytes(data)
      try:
        onnx_model.load(self.path)
      except AuditError as error:
        self.assertLen(str(error).splitlines(), 1)


if __name__ == '__main__':
  absltest.main()
