"""Parameters, runs and files of ONNX models."""

import os
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import onnx
from onnx import helper
from onnx import numpy_helper

from tconv.audit import onnx_model
from tconv.audit.model import AuditError
from tconv.audit.model import Weights
from tests.audit import onnx_cases
from tests.audit.onnx_cases import check
from tests.audit.onnx_cases import constant
from tests.audit.onnx_cases import node
from tests.references import integers

WEIGHT = integers(0, (2, 3, 4, 3))  # As ConvTranspose has it.
KERNEL = np.moveaxis(WEIGHT, (0, 1), (-1, -2))
SHAPE = (1, 2, 3, 3)
HALF = onnx.TensorProto.FLOAT16
UP = node('ConvTranspose', ['x', 'w'], ['y'], 'up', strides=[2, 2])

# Where a weight may come from: nodes that give w, and their constants.
SOURCES = dict(
    initializer=([], {'w': WEIGHT}),
    constant=([constant('w', WEIGHT)], {}),
    identity=([node('Identity', ['v'], ['w'])], {'v': WEIGHT}),
    transpose=([node('Transpose', ['v'], ['w'], perm=[3, 2, 0, 1])],
               {'v': WEIGHT.transpose(2, 3, 1, 0)}),
    reversed=([node('Transpose', ['v'], ['w'])], {'v': WEIGHT.T}),
    reshape=([constant('s', [2, 3, 4, -1]), node('Reshape', ['v', 's'], ['w'])],
             {'v': WEIGHT.reshape(6, 12)}),
    unsqueeze=([node('Squeeze', ['v', 'a'], ['u']),
                node('Unsqueeze', ['u', 'b'], ['t']),
                node('Squeeze', ['t', 'b'], ['w'])],
               {'v': WEIGHT[None], 'a': np.array([0]), 'b': np.array([3])}),
    half=([node('Cast', ['v'], ['w'], to=onnx.TensorProto.FLOAT)],
          {'v': WEIGHT.astype('float16')}),
    chain=([constant('v', WEIGHT.T.reshape(3, 4, 6).astype('float16')),
            constant('s', [3, 4, 3, 2]), node('Cast', ['v'], ['u'], to=1),
            node('Reshape', ['u', 's'], ['t']), node('Transpose', ['t'], ['r']),
            node('Identity', ['r'], ['w'])], {}))


def written(model, folder):
  """The file that `save` writes, and what `load` reads from it."""
  path = pathlib.Path(folder, 'new.onnx')
  model.save(path)
  return onnx.load(path), onnx_model.load(path)


class FolderTest(onnx_cases.FolderTest):

  def files(self):
    return {path.name: path.read_bytes()
            for path in pathlib.Path(self.folder).iterdir()}


class ParametersTest(FolderTest):

  @parameterized.named_parameters((name, *s) for name, s in SOURCES.items())
  def test_parameters_are_found_and_replaced(self, nodes, constants):
    found = self.load([*nodes, UP], SHAPE, constants)
    check(found)
    [upsampler] = found.upsamplers
    np.testing.assert_array_equal(upsampler.weights.kernel, KERNEL)
    self.assertEqual(upsampler.weights.kernel.dtype, np.float32)
    files = self.files()
    new = Weights(integers(1, KERNEL.shape))
    changed = found.replaced({'up': new})
    np.testing.assert_array_equal(changed.upsamplers[0].weights.kernel,
                                  new.kernel)
    check(changed, weights={'up': new})
    check(found)  # As before.
    file, again = written(changed, self.folder)
    check(again, weights={'up': new})
    self.assertEqual(self.files() | files, self.files())
    # All but the tensor is unchanged.
    back, _ = written(changed.replaced({'up': Weights(KERNEL)}), self.folder)
    self.assertEqual(back, onnx.load(f'{self.folder}/model.onnx'))
    self.assertNotEqual(back, file)

  def test_half_precision(self):
    found = self.load([UP], SHAPE, {'w': WEIGHT.astype('float16')}, dtype=HALF)
    check(found)
    self.assertEqual(found.upsamplers[0].dtype, 'float16')
    changed = found.replaced({'up': Weights(KERNEL + np.float32(1e-5))})
    file, again = written(changed, self.folder)
    self.assertEqual(file.graph.initializer[0].data_type, HALF)
    np.testing.assert_array_equal(
        again.upsamplers[0].weights.kernel,
        (KERNEL + np.float32(1e-5)).astype('float16').astype('float32'))
    with self.assertRaisesRegex(AuditError, 'finite in float16'):
      found.replaced({'up': Weights(KERNEL * np.float32(1e5))})

  def test_double_precision(self):
    found = self.load([UP], SHAPE, {'w': WEIGHT / 3.},
                      dtype=onnx.TensorProto.DOUBLE)
    np.testing.assert_array_equal(found.upsamplers[0].weights.kernel,
                                  KERNEL / 3.)

  def test_quantized_weights_cannot_be_replaced(self):
    scale = np.array([.5, 2, 1], 'f')
    for axis, size, inputs in ((1, 3, 'qsz'), (-4, 2, 'qs'), (0, 1, 'qs')):
      constants = {'q': WEIGHT.astype('int8'), 's': scale[:size],
                   'z': np.array([1, 0, 2], 'int8')}
      if size == 1:
        constants['s'] = scale[0]
      found = self.load(
          [node('DequantizeLinear', [*inputs], ['w'], axis=axis), UP], SHAPE,
          {name: constants[name] for name in inputs})
      check(found)
      self.assertIn('int8', found.upsamplers[0].obstacle)
      with self.assertRaisesRegex(AuditError, 'int8'):
        found.replaced({'up': found.upsamplers[0].weights})

  def test_sub_pixel(self):
    for mode in ('DCR', 'CRD'):
      found = self.load(
          [node('Conv', ['x', 'w', 'b'], ['c'], group=1),
           node('DepthToSpace', ['c'], ['y'], 'up', blocksize=2, mode=mode)],
          SHAPE, {'w': integers(0, (12, 2, 3, 2)), 'b': integers(1, (12,))})
      new = Weights(integers(2, (6, 4, 3, 2)), integers(3, (2, 2, 3)))
      check(written(found.replaced({'up': new}), self.folder)[1],
            weights={'up': new})

  def test_biases(self):
    up = node('ConvTranspose', ['x', 'w', 'b'], ['y'], 'up', strides=[2, 2])
    found = self.load([up], SHAPE, {'w': WEIGHT, 'b': integers(1, (3,))})
    new = Weights(KERNEL, np.broadcast_to(integers(2, (3,)), (2, 2, 3)))
    check(found.replaced({'up': new}), weights={'up': new})
    with self.assertRaisesRegex(AuditError, 'phases'):
      found.replaced({'up': Weights(KERNEL, integers(2, (2, 2, 3)))})
    with self.assertRaisesRegex(AuditError, 'bias'):
      found.replaced({'up': Weights(KERNEL)})
    shared = self.load([up, node('Relu', ['b'], ['z'])], SHAPE,
                       {'w': WEIGHT, 'b': integers(1, (3,))},
                       outputs=('y', 'z'))
    shared.replaced({'up': shared.upsamplers[0].weights})
    with self.assertRaisesRegex(AuditError, 'bias is used'):
      shared.replaced({'up': new})

  def test_shared_weights_change_together(self):
    up = lambda x, y, s: node('ConvTranspose', [x, 'w'], [y], y, strides=[s])
    weight = {'w': integers(0, (2, 2, 3))}
    found = self.load([up('x', 'a', 2), up('a', 'y', 2)], (1, 2, 3), weight)
    new = Weights(integers(1, (3, 2, 2)))
    check(found.replaced({'a': new}), weights={'a': new, 'y': new})
    with self.assertRaisesRegex(AuditError, 'different'):
      found.replaced({'a': new, 'y': Weights(new.kernel + 1)})
    other = self.load([up('x', 'a', 2), up('a', 'y', 3)], (1, 2, 3), weight)
    self.assertIn('other strides', other.upsamplers[0].obstacle)
    other = self.load([up('x', 'y', 2), node('Relu', ['w'], ['z'])], (1, 2, 3),
                      weight, outputs=('y', 'z'))
    self.assertIn('other nodes', other.upsamplers[0].obstacle)

  def test_what_does_not_fit(self):
    found = self.load([UP], SHAPE, {'w': WEIGHT})
    for name, kernel, message in (('up', KERNEL[1:], 'shape'),
                                  ('down', KERNEL, 'no weights'),
                                  ('up', KERNEL * np.nan, 'finite')):
      with self.assertRaisesRegex(AuditError, message):
        found.replaced({name: Weights(kernel)})


class RunTest(FolderTest):

  def test_channels_last(self):
    found = self.load(
        [UP, node('Transpose', ['y'], ['last'], perm=[0, 2, 3, 1]),
         node('ReduceMean', ['y', 'axes'], ['flat'], keepdims=0),
         node('Cast', ['y'], ['bytes'], to=onnx.TensorProto.UINT8)],
        SHAPE, {'w': WEIGHT, 'axes': np.array([2, 3])},
        outputs=('y', 'last', 'flat', 'bytes'))
    x = integers(1, SHAPE)
    activations = found.run({'x': x})
    self.assertEqual(set(activations.outputs), {'y', 'last', 'bytes'})
    for array in activations.outputs.values():
      self.assertEqual((array.shape, array.dtype), ((1, 8, 7, 3), np.float32))
    np.testing.assert_array_equal(activations.outputs['last'],
                                  activations.after['up'])
    np.testing.assert_array_equal(activations.before['up'],
                                  np.moveaxis(x, 1, -1))

  @parameterized.parameters(
      ((None, 3, None, None), 1), ((1, None, None, 3), 3), ((1, 3, 8, 3), 1),
      ((1, 8, 8, 4), 3), ((1, 64, 8, 8), 1), ((1, 80, None), 1),
      ((1, None, 80), 2), ((1, 1, 8, 8, 8), 1), ((1, 8), None))
  def test_inputs(self, shape, axis):
    found = self.load([node('Relu', ['x'], ['y'])], shape)
    [read] = found.inputs
    self.assertEqual(read, ('x', shape, np.float32, axis))

  def test_only_real_inputs(self):
    model = onnx_cases.model([UP], SHAPE, {'w': WEIGHT}, opset=8)
    model.ir_version = 3
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info(
        'w', onnx_cases.FLOAT, WEIGHT.shape))
    onnx.save(model, f'{self.folder}/model.onnx')
    found = onnx_model.load(f'{self.folder}/model.onnx')
    self.assertEqual([i.name for i in found.inputs], ['x'])
    check(found)
    file, again = written(found, self.folder)
    check(again)
    self.assertEqual((file.ir_version, file.opset_import[0].version), (4, 8))
    self.assertEqual(file.graph, model.graph)

  def test_wrong_inputs(self):
    found = self.load([UP], SHAPE, {'w': WEIGHT})
    for feeds in ({}, {'z': WEIGHT}, {'x': WEIGHT}, {'x': np.zeros(SHAPE)}):
      with self.assertRaises(AuditError) as error:
        found.run(feeds)
      self.assertNotIn('\n', str(error.exception))


class ExternalDataTest(FolderTest):

  def setUp(self):
    super().setUp()
    self.model = onnx_cases.model(
        [UP, node('Add', ['y', 'b'], ['z'])], SHAPE,
        {'w': WEIGHT, 'b': integers(1, (3, 1, 1))}, outputs=('z',))
    self.path = f'{self.folder}/model.onnx'
    onnx.save(self.model, self.path, save_as_external_data=True,
              location='weights.bin', size_threshold=0)

  def test_it_stays_external(self):
    files = self.files()
    found = onnx_model.load(self.path)
    check(found)
    new = Weights(integers(2, KERNEL.shape))
    changed = found.replaced({'up': new})
    check(changed, weights={'up': new})
    _, again = written(changed, self.folder)
    check(again, weights={'up': new})
    self.assertEqual(self.files() | files, self.files())
    self.assertEqual(set(self.files()) - set(files),
                     {'new.onnx', 'new.onnx.data'})
    file = onnx.load(f'{self.folder}/new.onnx', load_external_data=False)
    for tensor in file.graph.initializer:
      self.assertEqual(tensor.data_location, onnx.TensorProto.EXTERNAL)
      self.assertEmpty(tensor.raw_data)
    [_, bias] = onnx.load(f'{self.folder}/new.onnx').graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(bias),
                                  integers(1, (3, 1, 1)))
    with self.assertRaisesRegex(AuditError, 'never changed'):
      again.save(f'{self.folder}/new.onnx')

  def test_the_data_is_never_overwritten(self):
    os.rename(f'{self.folder}/weights.bin', f'{self.folder}/new.onnx.data')
    model = onnx.load(self.path, load_external_data=False)
    for tensor in model.graph.initializer:
      tensor.external_data[0].value = 'new.onnx.data'
    onnx.save(model, self.path)
    files = self.files()
    with self.assertRaisesRegex(AuditError, 'never changed'):
      onnx_model.load(self.path).save(f'{self.folder}/new.onnx')
    self.assertEqual(self.files(), files)

  def test_data_elsewhere_is_refused(self):
    with tempfile.TemporaryDirectory() as outside:
      data = pathlib.Path(outside, 'data.bin')
      data.write_bytes(bytes(10**4))
      os.symlink(data, f'{self.folder}/link.bin')
      os.symlink(outside, f'{self.folder}/folder')
      for location in (
          str(data), f'../{data.parent.name}/data.bin', 'link.bin', '', '.',
          'folder/data.bin', 'missing.bin', 'C:\\data.bin', '..\\data.bin',
          '*/_ORT_MEM_ADDR_/*', 'weights.bin/../weights.bin', 'a\0b'):
        model = onnx.load(self.path, load_external_data=False)
        model.graph.initializer[0].external_data[0].value = location
        onnx.save(model, f'{self.folder}/bad.onnx')
        with self.assertRaisesRegex(AuditError, 'external data', msg=location):
          onnx_model.load(f'{self.folder}/bad.onnx')

  @parameterized.parameters(
      ('offset', '-1'), ('offset', '10000'), ('length', '3'), ('length', 'x'),
      ('offset', '99999999999999999999999'))
  def test_data_of_a_wrong_size_is_refused(self, key, value):
    model = onnx.load(self.path, load_external_data=False)
    # Of a tensor that is not read.
    for entry in model.graph.initializer[1].external_data:
      if entry.key == key:
        entry.value = value
    onnx.save(model, self.path)
    with self.assertRaises(AuditError):
      onnx_model.load(self.path)


class SaveTest(FolderTest):

  def test_the_original_is_never_overwritten(self):
    found = self.load([UP], SHAPE, {'w': WEIGHT})
    path = f'{self.folder}/model.onnx'
    os.link(path, f'{self.folder}/hard.onnx')
    os.symlink(path, f'{self.folder}/soft.onnx')
    files = self.files()
    changed = found.replaced({'up': Weights(KERNEL + 1)})
    for name in ('model.onnx', 'hard.onnx', 'soft.onnx', 'missing/a.onnx'):
      with self.assertRaises(AuditError, msg=name):
        changed.save(f'{self.folder}/{name}')
    self.assertEqual(self.files(), files)

  def test_another_file_is_replaced(self):
    found = self.load([UP], SHAPE, {'w': WEIGHT})
    pathlib.Path(self.folder, 'new.onnx').write_text('old', encoding='utf-8')
    check(written(found, self.folder)[1])
    self.assertEqual(set(self.files()), {'model.onnx', 'new.onnx'})

  def test_nothing_is_written_if_it_is_not_valid(self):
    model = onnx_cases.model([UP], SHAPE, {'w': WEIGHT})
    model.graph.node[0].attribute.add(
        name='nothing', type=onnx.AttributeProto.INT, i=1)
    onnx.save(model, f'{self.folder}/model.onnx')
    with self.assertRaisesRegex(AuditError, 'valid'):
      onnx_model.load(f'{self.folder}/model.onnx').save(
          f'{self.folder}/new.onnx')
    self.assertEqual(set(self.files()), {'model.onnx'})

  def test_shapes_that_were_never_valid(self):
    model = onnx_cases.model([UP], SHAPE, {'w': WEIGHT, 'm': np.ones((7, 7))})
    model.graph.node.append(node('MatMul', ['x', 'm'], ['z']))
    model.graph.output.append(helper.make_tensor_value_info(
        'z', onnx_cases.FLOAT, SHAPE))
    with self.assertRaises(onnx.shape_inference.InferenceError):
      onnx.checker.check_model(model, full_check=True)
    onnx.save(model, f'{self.folder}/model.onnx')
    written(onnx_model.load(f'{self.folder}/model.onnx'), self.folder)


if __name__ == '__main__':
  absltest.main()
