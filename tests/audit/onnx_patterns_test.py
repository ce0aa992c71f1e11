"""Upsamplers in ONNX graphs, against onnxruntime and a loop over taps."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from onnx import helper

from tconv.audit.model import AuditError
from tests.audit import onnx_cases
from tests.audit.onnx_cases import check
from tests.audit.onnx_cases import constant
from tests.audit.onnx_cases import FLOAT
from tests.audit.onnx_cases import node
from tests.references import integers


class PatternsTest(onnx_cases.FolderTest):

  def one(self, *args, **kwargs):
    """The only upsampler of a model, after its check."""
    found = self.load(*args, **kwargs)
    self.assertEmpty(found.unknown)
    check(found)
    [upsampler] = found.upsamplers
    return upsampler

  def reason(self, *args, **kwargs):
    """Why the only unknown node of a model is unknown."""
    found = self.load(*args, **kwargs)
    self.assertEmpty(found.upsamplers)
    [unknown] = found.unknown
    return unknown.reason


class ConvTransposeTest(PatternsTest):

  @parameterized.parameters(
      dict(strides=[2]),
      dict(strides=[3], dilations=[2], pads=[3, 1], output_padding=[2]),
      dict(strides=[2], group=2),
      dict(strides=[2], auto_pad='VALID'),
      dict(strides=[2], auto_pad='SAME_UPPER'),
      dict(strides=[2], auto_pad='SAME_LOWER'),
      dict(strides=[5], auto_pad='SAME_UPPER'),  # No padding to crop.
      dict(strides=[2], auto_pad='SAME_LOWER', output_padding=[1]),
      dict(strides=[2], output_shape=[6]),
      dict(strides=[2], output_shape=[7], auto_pad='SAME_UPPER'),
      dict(strides=[1, 2], pads=[0, 1, 0, 1], output_padding=[0, 1], group=4),
      dict(strides=[2, 3], dilations=[2, 1], pads=[1, 2, 3, 0]),
      dict(strides=[3, 2], auto_pad='SAME_LOWER', dilations=[1, 3]),
      dict(strides=[2, 1, 3], pads=[1, 0, 2, 0, 1, 0], group=2))
  def test_every_attribute(self, **attributes):
    n = len(attributes['strides'])
    weight = integers(0, (4, 3, *(3, 4, 2)[:n]))
    bias = integers(1, (3 * attributes.get('group', 1),))
    for more in ({}, {'b': bias}):
      found = self.one(
          [node('ConvTranspose', ['x', 'w', *more], ['y'], 'up', **attributes)],
          (2, 4, *(4, 3, 2)[:n]), {'w': weight, **more}, opset=11)
      self.assertEqual(found.name, 'up')
      self.assertEqual(found.op, 'ConvTranspose')
      self.assertEqual(found.kernel_size, (3, 4, 2)[:n])
      self.assertEmpty(found.obstacle)

  def test_output_shape_needs_the_size_of_the_input(self):
    up = node('ConvTranspose', ['x', 'w'], ['y'], strides=[2], output_shape=[6])
    weight = {'w': integers(0, (2, 1, 3))}
    self.assertIn('output_shape', self.reason([up], (1, 2, None), weight))

  def test_nothing_to_enlarge(self):
    found = self.load([node('ConvTranspose', ['x', 'w'], ['y'])], (1, 2, 4),
                      {'w': integers(0, (2, 1, 3))})
    self.assertEmpty([*found.upsamplers, *found.unknown])

  def test_weights_from_elsewhere_are_unknown(self):
    up = lambda name: node('ConvTranspose', ['x', name], ['y'], strides=[2])
    weight = {'w': integers(0, (2, 1, 3))}
    self.assertIn('input', self.reason([up('x')], (2, 2, 3)))
    self.assertIn('Mul', self.reason(
        [node('Mul', ['w', 'w'], ['v']), up('v')], (1, 2, 3), weight))
    nan = {'w': np.full((2, 1, 3), np.nan, 'f')}
    self.assertIn('finite', self.reason([up('w')], (1, 2, 3), nan))

  @parameterized.parameters(
      dict(strides=[0]), dict(strides=[2, 2]), dict(strides=[2], pads=[1]),
      dict(strides=[2], group=3), dict(strides=[2], kernel_shape=[7]),
      dict(strides=[2.5]), dict(strides='2'))
  def test_invalid_attributes(self, **attributes):
    up = node('ConvTranspose', ['x', 'w'], ['y'], **attributes)
    with self.assertRaises(AuditError):
      self.load([up], (1, 2, 4), {'w': integers(0, (2, 1, 3))})


class SubPixelTest(PatternsTest):

  @parameterized.product(
      mode=('DCR', 'CRD'), bias=(None, 'input', 'added'),
      pads=(dict(pads=[1, 0, 2, 1]), dict(auto_pad='SAME_UPPER'),
            dict(auto_pad='SAME_LOWER'), dict(auto_pad='VALID')))
  def test_depth_to_space(self, mode, bias, pads):
    constants = {'w': integers(0, (12, 2, 3, 2))}
    inputs, nodes, value = ['x', 'w'], [], 'c'
    if bias == 'input':
      constants['b'] = integers(1, (12,))
      inputs += ['b']
    elif bias:
      constants['b'] = integers(1, (12, 1, 1))
      nodes, value = [node('Add', ['b', 'c'], ['d'])], 'd'
    found = self.one(
        [node('Conv', inputs, ['c'], **pads), *nodes,
         node('DepthToSpace', [value], ['y'], 'up', blocksize=2, mode=mode)],
        (1, 2, 4, 5), constants)
    self.assertTrue(found.is_exact)
    self.assertEmpty(found.obstacle)
    self.assertEqual(found.op, 'Conv + DepthToSpace')
    self.assertEqual((found.strides, found.kernel_size), ((2, 2), (3, 2)))
    self.assertEqual(found.weights.kernel.shape, (6, 4, 3, 2))
    self.assertEqual(found.weights.bias is None, bias is None)

  @parameterized.product(strides=((3,), (2, 3), (2, 1, 3)),
                         mode=('DCR', 'CRD'), is_static=(True, False))
  def test_reshape_transpose_reshape(self, strides, mode, is_static):
    n, blocks = len(strides), np.prod(strides)
    size = (4, 3, 2)[:n]
    if mode == 'CRD':
      split = [1, 2, *strides, *size]
      axes = [0, 1, *(a for i in range(n) for a in (2 + n + i, 2 + i))]
    else:
      split = [1, *strides, 2, *size]
      axes = [0, n + 1, *(a for i in range(n) for a in (2 + n + i, 1 + i))]
    joined = [1, 2, *(a * b for a, b in zip(size, strides))]
    if not is_static:
      split[-1] = joined[-1] = -1
    found = self.one(
        [node('Conv', ['x', 'w', 'b'], ['c'], auto_pad='SAME_UPPER'),
         node('Reshape', ['c', 'split'], ['r']),
         node('Transpose', ['r'], ['t'], 'shuffle', perm=axes),
         node('Reshape', ['t', 'joined'], ['y'])],
        (1, 3, *size[:-1], size[-1] if is_static else None),
        {'w': integers(0, (2 * blocks, 3, *(3, 2, 3)[:n])),
         'b': integers(1, (2 * blocks,)), 'split': np.array(split),
         'joined': np.array(joined)})
    self.assertEqual((found.name, found.strides), ('shuffle', strides))

  def test_other_transposes(self):
    shape, axes = np.array([1, 2, 2, 2, 3, 3]), [0, 3, 1, 4, 2, 5]
    found = self.load(
        [node('Conv', ['x', 'w'], ['c']), node('Reshape', ['c', 's'], ['r']),
         node('Transpose', ['r'], ['t'], perm=axes),
         node('Reshape', ['t', 'j'], ['y'])], (1, 2, 3, 3),
        {'w': integers(0, (8, 2, 1, 1)), 's': shape,
         'j': np.array([1, 2, 6, 6])})
    self.assertEmpty([*found.upsamplers, *found.unknown])

  def test_groups(self):
    nodes = lambda mode: [
        node('Conv', ['x', 'w', 'b'], ['c'], group=2),
        node('DepthToSpace', ['c'], ['y'], blocksize=2, mode=mode)]
    weights = {'w': integers(0, (8, 2, 2, 2)), 'b': integers(1, (8,))}
    self.assertEqual(self.one(nodes('CRD'), (1, 4, 3, 3), weights).groups, 2)
    self.assertIn('groups', self.reason(nodes('DCR'), (1, 4, 3, 3), weights))

  @parameterized.parameters(
      node('Relu', ['c'], ['d']), node('PRelu', ['c', 'p'], ['d']),
      node('Clip', ['c', 'low'], ['d']), node('Mul', ['p', 'c'], ['d']),
      node('LeakyRelu', ['c'], ['d']),
      node('BatchNormalization', ['c', 'v', 'v', 'v', 'v'], ['d']))
  def test_what_stands_between_makes_it_inexact(self, between):
    found = self.one(
        [node('Conv', ['x', 'w'], ['c']), between,
         node('DepthToSpace', ['d'], ['y'], blocksize=2)], (1, 2, 3, 3),
        {'w': integers(0, (4, 2, 3, 3)), 'p': np.ones((4, 1, 1), 'f'),
         'low': np.float32(0), 'v': np.ones(4, 'f')})
    self.assertFalse(found.is_exact)
    self.assertEmpty(found.obstacle)
    self.assertEqual(found.weights.kernel.shape, (6, 6, 1, 2))

  def test_an_identity_changes_nothing(self):
    self.assertTrue(self.one(
        [node('Conv', ['x', 'w'], ['c']), node('Identity', ['c'], ['d']),
         node('DepthToSpace', ['d'], ['y'], blocksize=2)], (1, 2, 3, 3),
        {'w': integers(0, (4, 2, 3, 3))}).is_exact)

  def test_what_cannot_be_traced(self):
    shuffle = node('DepthToSpace', ['c'], ['y'], blocksize=2)
    weights = {'w': integers(0, (4, 2, 3, 3))}
    for nodes, reason in (
        ([node('Conv', ['x', 'w'], ['c'], strides=[2, 2])], 'strides'),
        ([node('Conv', ['x', 'w'], ['c'], dilations=[2, 1])], 'dilations'),
        ([node('Conv', ['x', 'w'], ['d']), node('Add', ['d', 'd'], ['c'])],
         'Add'),
        ([node('Conv', ['x', 'w'], ['d']), node('Softmax', ['d'], ['c'])],
         'Softmax')):
      self.assertIn(reason, self.reason([*nodes, shuffle], (1, 2, 6, 6),
                                        weights))
    self.assertIn('input', self.reason(
        [node('DepthToSpace', ['x'], ['y'], blocksize=2)], (1, 4, 3, 3)))
    found = self.load(
        [node('Conv', ['x', 'w'], ['c']),
         node('DepthToSpace', ['c'], ['y'], blocksize=1)], (1, 2, 3, 3),
        weights)
    self.assertEmpty([*found.upsamplers, *found.unknown])

  def test_a_convolution_with_other_uses(self):
    self.assertIn('other uses', self.one(
        [node('Conv', ['x', 'w'], ['c']), node('Relu', ['c'], ['z']),
         node('DepthToSpace', ['c'], ['y'], blocksize=2)], (1, 2, 3, 3),
        {'w': integers(0, (4, 2, 3, 3))}, outputs=('y', 'z')).obstacle)


class InterpolationTest(PatternsTest):

  @parameterized.parameters(
      ([1, 1, 2, 3], 'nearest', (2, 3)), ([1, 1, 4, 1], 'linear', (4, 1)),
      ([1, 2, 3, 1], 'nearest', (2, 3)), ([1, 1, 2], 'linear', (2,)),
      ([1, 1, 2, 2], 'cubic', (2, 2)))
  def test_scales(self, scales, mode, strides):
    shape = (1, 3, 4, 4)[:len(scales)]
    scales = np.array(scales, 'f')
    resize = node('Resize', ['x', '', 's'], ['y'], 'r', mode=mode)
    for nodes, constants in (([resize], {'s': scales}),
                             ([constant('s', scales), resize], {})):
      found = self.one(nodes, shape, constants)
      self.assertEqual((found.op, found.strides), ('Resize', strides))
      self.assertIsNone(found.weights)
    self.assertEqual(strides, self.one(
        [node('Resize', ['x', 's'], ['y'])], shape, {'s': scales}, opset=10
        ).strides)
    self.assertEqual(strides, self.one(
        [node('Upsample', ['x', 's'], ['y'])], shape, {'s': scales}, opset=9
        ).strides)
    self.assertEqual(strides, self.one(
        [node('Upsample', ['x'], ['y'], scales=scales.tolist())], shape,
        opset=8).strides)

  def test_axes_and_sizes(self):
    self.assertEqual((2, 3), self.one(
        [node('Resize', ['x', '', 's'], ['y'], axes=[3, 2])], (1, 1, 4, 4),
        {'s': np.array([3, 2], 'f')}).strides)
    sizes = {'s': np.array([1, 1, 8, 12])}
    resize = node('Resize', ['x', '', '', 's'], ['y'])
    self.assertEqual((2, 3), self.one([resize], (1, 1, 4, 4), sizes).strides)
    self.assertIn('constant', self.reason([resize], (1, 1, 4, None), sizes))

  def test_a_convolution_behind(self):
    self.assertEqual('Resize + Conv', self.one(
        [node('Resize', ['x', '', 's'], ['r']),
         node('Conv', ['r', 'w'], ['y'])], (1, 2, 3, 3),
        {'s': np.array([1, 1, 2, 2], 'f'), 'w': integers(0, (1, 2, 3, 3))}).op)

  def test_what_is_no_upsampler(self):
    for scales in ([1, 1, 1, 1], [1, 1, .5, 1]):
      found = self.load([node('Resize', ['x', '', 's'], ['y'])], (1, 1, 4, 4),
                        {'s': np.array(scales, 'f')})
      self.assertEmpty([*found.upsamplers, *found.unknown])

  def test_what_is_unknown(self):
    resize = node('Resize', ['x', '', 's'], ['y'])
    for scales in ([1, 1, 1.5, 2], [1, 1, .5, 2], [1, 2, 2, 2], [2, 1, 1, 1]):
      self.assertIn('scale', self.reason(
          [resize], (1, 1, 4, 4), {'s': np.array(scales, 'f')}))
    self.assertIn('constant', self.reason(
        [node('Cast', ['x'], ['s'], to=FLOAT), resize], (4,)))


class StrangeTest(PatternsTest):

  def test_what_is_not_understood(self):
    self.assertIn('grid', self.reason(
        [node('GridSample', ['x', 'g'], ['y'])], (1, 1, 4, 4),
        {'g': np.zeros((1, 8, 8, 2), 'f')}))
    self.assertIn('domain', self.reason(
        [node('QLinearConvTranspose', ['x'], ['y'], domain='com.microsoft')],
        (1, 1, 4, 4)))

  def test_inside_a_subgraph(self):
    up = node('ConvTranspose', ['x', 'w'], ['z'], 'deep', strides=[2])
    branch = lambda: helper.make_graph(
        [up], 'b', [], [helper.make_tensor_value_info('z', FLOAT, None)])
    found = self.load(
        [node('If', ['t'], ['y'], then_branch=branch(), else_branch=branch())],
        (1, 2, 3), {'w': integers(0, (2, 1, 3)), 't': np.array(True)})
    self.assertEqual([tuple(u)[:2] for u in found.unknown],
                     [('deep', 'ConvTranspose')] * 2)
    self.assertIn('subgraph', found.unknown[0].reason)

  def test_inside_a_function(self):
    function = helper.make_function(
        'own', 'Up', ['a'], ['b'], [node('DepthToSpace', ['a'], ['b'],
                                         blocksize=2)],
        [helper.make_opsetid('', 22)])
    self.assertIn('function', self.reason(
        [node('Up', ['x'], ['y'], domain='own')], (1, 4, 3, 3),
        functions=[function]))

  def test_names_are_unique_and_printable(self):
    up = lambda name, x, y: node('ConvTranspose', [x, 'w'], [y], name,
                                 strides=[2])
    found = self.load(
        [up('', 'x', 'a'), up('b', 'a', 'b'), up('twice', 'b', 'c'),
         up('twice', 'c', 'd'), up('\x1b[2J', 'd', 'y')], (1, 1, 3),
        {'w': integers(0, (1, 1, 3))})
    check(found)
    self.assertEqual([u.name for u in found.upsamplers],
                     ['a', 'b', 'c', 'd', '?[2J'])


if __name__ == '__main__':
  absltest.main()
