"""ONNX's ConvTranspose: its specification, its tests, onnxruntime."""

import itertools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tconv.dialects import onnx as dialect
from tests.references import integers

try:
  import onnx
  import onnxruntime
except ImportError:
  onnx = None

# By hand, from the specification's equations: attributes, and the result for X
# and W, which tell positions apart. Of what is disputed, then what onnxruntime
# gives, or a part of its error.
X, W = [1, 2, 3], [1, 10, 100]
FULL = [1, 10, 102, 20, 203, 30, 300]  # At stride 2.
SPECIFIED = (
    (dict(), [1, 12, 123, 230, 300]),
    (dict(strides=[2]), FULL),
    (dict(dilations=[2]), [1, 2, 13, 20, 130, 200, 300]),
    (dict(strides=[2], output_padding=[1]), [*FULL, 0]),
    (dict(strides=[2], pads=[1, 0]), FULL[1:]),
    (dict(strides=[2], pads=[1, 2], output_padding=[1]), FULL[1:-1]),
    (dict(strides=[2], auto_pad='VALID'), FULL),
    (dict(strides=[2], auto_pad='VALID', output_padding=[1]), [*FULL, 0]),
    # An odd pad: at the end with SAME_UPPER, else at the beginning.
    (dict(strides=[2], auto_pad='SAME_UPPER'), FULL[:-1]),
    (dict(strides=[2], auto_pad='SAME_LOWER'), FULL[1:]),
    (dict(strides=[2], output_shape=[6]), FULL[1:]),
    (dict(strides=[2], output_shape=[6], auto_pad='VALID'), FULL[1:]),
    (dict(strides=[2], output_shape=[6], auto_pad='SAME_UPPER'), FULL[:-1]),
    (dict(strides=[2], output_shape=[4], auto_pad='SAME_LOWER'), FULL[2:-1]),
    (dict(strides=[2], output_shape=[5]), FULL[1:-1]),
    (dict(strides=[2], output_shape=[1]), FULL[3:4]),
    (dict(strides=[2], output_shape=[6], pads=[0, 1]), FULL[1:]),
    # The output padding counts as part of what is then taken off.
    (dict(strides=[2], auto_pad='SAME_UPPER', output_padding=[1]), FULL[1:]),
    (dict(strides=[2], output_shape=[6], output_padding=[1]), FULL[1:]),
    (dict(strides=[2], output_shape=[7], output_padding=[1]), FULL[1:] + [0]),
    (dict(strides=[2], output_shape=[8], output_padding=[1]), [*FULL, 0]),
    # Less than nothing to take off.
    (dict(strides=[2], output_shape=[8]), [*FULL, 0]),
    (dict(strides=[2], output_shape=[8], auto_pad='SAME_LOWER'), [*FULL, 0]),
)
FULL_4 = [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300]
DISPUTED = (
    (dict(strides=[2], output_shape=[8], auto_pad='SAME_UPPER'),
     [0, *FULL], [*FULL, 0]),
    (dict(strides=[4], output_shape=[13]), [0, *FULL_4, 0], [*FULL_4, 0, 0]),
    (dict(strides=[2], output_shape=[9]), [0, *FULL, 0], 'inconsistent'),
    (dict(strides=[4], auto_pad='SAME_UPPER'), [0, *FULL_4], FULL_4),
    (dict(strides=[4], auto_pad='SAME_LOWER'), [*FULL_4, 0], FULL_4),
    (dict(strides=[5], auto_pad='SAME_LOWER', output_padding=[1]),
     [1, 10, 100, 0, 0, 2, 20, 200, 0, 0, 3, 30, 300, 0, 0],
     [1, 10, 100, 0, 0, 2, 20, 200, 0, 0, 3, 30, 300, 0]),
    (dict(dilations=[2], output_padding=[1]),
     [1, 2, 13, 20, 130, 200, 300, 0], 'inconsistent'),
)


def model(arrays, attributes, opset=22):
  """A graph of one node, of inputs X, W and perhaps B."""
  names = ['X', 'W', 'B'][:len(arrays)]
  node = onnx.helper.make_node('ConvTranspose', names, ['Y'], **attributes)
  value = lambda name, dtype, shape: onnx.helper.make_tensor_value_info(
      name, onnx.helper.np_dtype_to_tensor_dtype(dtype), shape)
  graph = onnx.helper.make_graph(
      [node], 'graph', [value(name, array.dtype, array.shape)
                        for name, array in zip(names, arrays)],
      [value('Y', arrays[0].dtype, None)])
  return onnx.helper.make_model(
      graph, ir_version=10,
      opset_imports=[onnx.helper.make_opsetid('', opset)])


def by_onnxruntime(arrays, attributes, opset=22):
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = 1
  options.log_severity_level = 4  # Errors are raised as well.
  session = onnxruntime.InferenceSession(
      model(arrays, attributes, opset).SerializeToString(), options,
      providers=['CPUExecutionProvider'])
  return session.run(None, dict(zip('XWB', arrays)))[0]


def line(values):
  return np.array(values, 'f').reshape(1, 1, -1)


def check(nodes, expected):
  """Compares the dialect with others, in a single compilation."""
  compute = lambda many: [
      dialect.onnx_conv_transpose(*arrays, **attributes)
      for arrays, (_, attributes) in zip(many, nodes)]
  found = jax.jit(compute)([arrays for arrays, _ in nodes])
  for result, other, (_, attributes) in zip(
      found, expected, nodes, strict=True):
    np.testing.assert_array_equal(result, other, str(attributes), strict=True)


class SpecificationTest(parameterized.TestCase):

  def test_the_equations(self):
    rows = *SPECIFIED, *(row[:2] for row in DISPUTED)
    check([([line(X), line(W)], attributes) for attributes, _ in rows],
          [line(expected) for _, expected in rows])

  def test_axes_and_pads_keep_their_order(self):
    x, w = np.ones((1, 1, 2, 5), 'f'), np.ones((1, 1, 3, 1), 'f')
    up = lambda **attributes: dialect.onnx_conv_transpose(x, w, **attributes)
    np.testing.assert_array_equal(  # [x1_begin, x2_begin, x1_end, x2_end]
        up(pads=[0, 1, 2, 3]), [[[[1], [2]]]])
    self.assertEqual(up(auto_pad='SAME_LOWER', strides=[2, 1]).shape,
                     (1, 1, 4, 5))
    self.assertEqual(up(output_shape=[4, 3]).shape, (1, 1, 4, 3))

  def test_bytes_as_of_the_onnx_package(self):
    up = lambda name: dialect.onnx_conv_transpose(
        line(X), line(W), strides=[2], auto_pad=name)
    np.testing.assert_array_equal(up(b'SAME_LOWER'), up('SAME_LOWER'))
    with self.assertRaisesRegex(ValueError, "auto_pad must be .*got 'HALF'"):
      up(b'HALF')

  def test_half_types_and_no_images(self):
    x, w, b = integers(0, (1, 2, 3)), integers(1, (2, 1, 2)), np.ones(1, 'f')
    half = [a.astype('float16') for a in (x, w, b)]
    np.testing.assert_array_equal(
        dialect.onnx_conv_transpose(*half),
        dialect.onnx_conv_transpose(x, w, b).astype('float16'), strict=True)
    self.assertEqual(dialect.onnx_conv_transpose(x[:0], w, b).shape, (0, 1, 4))


@absltest.skipIf(onnx is None, 'onnx or onnxruntime cannot be imported')
class AgreementTest(parameterized.TestCase):

  def test_onnxruntime(self):
    nodes = []
    for (num_axes, group, opset), auto_pad in itertools.product(
        ((1, 3, 11), (2, 2, 22), (3, 1, 22)), dialect.AUTO_PADS):
      size, taps = (3, 2, 2)[:num_axes], (3, 4, 2)[:num_axes]
      x = integers(0, (2, 2 * group, *size))
      w, b = integers(1, (2 * group, 3, *taps)), integers(2, (3 * group,))
      attributes = dict(
          auto_pad=auto_pad, group=group, strides=(2, 3, 1)[:num_axes],
          dilations=(1, 2, 2)[:num_axes],
          output_padding=(1, 2, 0)[:num_axes])
      shapes = [{}, dict(output_shape=(4, 5, 2)[:num_axes])]
      if auto_pad == 'NOTSET':
        shapes.append(
            dict(pads=(1, 0, 2)[:num_axes] + (0, 3, 1)[:num_axes]))
      nodes += [(([x, w], [x, w, b])[len(nodes) % 2],
                 attributes | shape, opset) for shape in shapes]
    check([node[:2] for node in nodes],
          [by_onnxruntime(*node) for node in nodes])

  def test_onnxruntime_and_the_equations(self):
    for attributes, expected in SPECIFIED:
      np.testing.assert_array_equal(
          by_onnxruntime([line(X), line(W)], attributes), line(expected),
          str(attributes))


  def test_disputes_with_onnxruntime(self):
    # Fails once others come to agree; `tconv.dialects.onnx` must then say so.
    for attributes, _, found in DISPUTED:
      if isinstance(found, str):
        with self.assertRaisesRegex(Exception, found):
          by_onnxruntime([line(X), line(W)], attributes)
      else:
        np.testing.assert_array_equal(
            by_onnxruntime([line(X), line(W)], attributes), line(found))


# An argument, and what the specification forbids for it.
ILLEGAL = (
    ('auto_pad', 'SAME'), ('auto_pad', 'same_upper'), ('auto_pad', 'EXPLICIT'),
    *((name, value) for name in ('strides', 'dilations', 'kernel_shape')
      for value in ([0], [-1], [3, 3], [2.5])),
    ('output_padding', [1]), ('output_padding', [-1]), ('pads', [0]),
    ('pads', [0, -1]), ('pads', [3, 2]), ('output_shape', [0]),
    ('output_shape', [1, 1, 3]), ('kernel_shape', [2]), ('group', 0),
    ('group', 2), ('group', 1.5), ('X', line(X)[0]),
    ('X', line(X).astype(int)), ('W', line(W).astype('float16')),
    ('W', np.concatenate([line(W)] * 2)), ('B', np.ones(2, 'f')),
    ('B', np.ones((1, 1), 'f')), ('B', np.ones(1, 'float16')),
)


class ErrorsTest(parameterized.TestCase):

  def test_the_argument_is_named(self):
    for name, value in ILLEGAL:
      attributes = {name: value}
      arrays = [attributes.pop(operand, default) for operand, default in (
          ('X', line(X)), ('W', line(W)), ('B', np.ones(1, 'f')))]
      with self.subTest(name=name, value=str(value)):
        with self.assertRaisesRegex(ValueError, f'^{name} must '):
          dialect.onnx_conv_transpose(*arrays, **attributes)
        if onnx is not None:
          with self.assertRaisesRegex(Exception, 'ONNXRuntimeError'):
            by_onnxruntime(arrays, attributes)

  @parameterized.parameters(
      (dict(X=[[[1, 'x']]]), 'X must be an array'),
      (dict(X=np.ones((1,) * 6, 'f')), 'X must have 3 to 5 axes; got'),
      (dict(strides=[]), r'strides must .* 1 of them; got \[\]'),
      (dict(W=np.ones((1, 1, 0), 'f')), 'kernel_shape must .*>= 1.*got .0,'),
      (dict(X=np.ones((1, 1, 0), 'f'), auto_pad='SAME_UPPER'),
       r'pads must leave .* size \(0,\) for X of size \(0,\)'),
      (dict(pads=[3, 2]), r'pads must leave .*\(\(3, 2\),\).* size \(0,\) for'),
      (dict(auto_pad=None), 'auto_pad must be one of NOTSET, .*; got None'))
  def test_messages(self, arguments, message):
    call = dict(X=line(X), W=line(W)) | arguments
    with self.assertRaisesRegex(ValueError, f'^{message}'):
      dialect.onnx_conv_transpose(**call)


if __name__ == '__main__':
  absltest.main()
