"""Finds sub-pixel convolutions in an ONNX graph: a Conv and a pixel shuffle.

The shuffle is DepthToSpace, or Reshape, Transpose and Reshape. There may be
elementwise nodes between the Conv and the shuffle.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import onnx

from tconv import sub_pixel
from tconv.audit import onnx_layers
from tconv.audit.model import AuditError
from tconv.audit.model import Upsampler
from tconv.audit.onnx_graph import Constant
from tconv.audit.onnx_graph import Graph
from tconv.audit.onnx_graph import integer
from tconv.audit.onnx_graph import integers
from tconv.audit.onnx_graph import shown
from tconv.audit.onnx_graph import STANDARD
from tconv.audit.onnx_graph import text
from tconv.audit.onnx_graph import UntracedError
from tconv.audit.onnx_layers import Found
from tconv.audit.onnx_tensors import one_line
from tconv.geometry import Size

# Functions of the first input, element by element or channel by channel.
_ELEMENTWISE = (
    'PRelu', 'BatchNormalization', 'Clip', 'Relu', 'LeakyRelu', 'Elu', 'Selu',
    'Celu', 'Sigmoid', 'Tanh', 'HardSigmoid', 'HardSwish', 'Gelu', 'Softplus',
    'Mish', 'ThresholdedRelu', 'QuantizeLinear', 'DequantizeLinear', 'Cast')
_ARITHMETIC = ('Add', 'Mul', 'Sub', 'Div')  # With a constant.
_NOTHING = ('Identity', 'Dropout')


def depth_to_space(graph: Graph, node: onnx.NodeProto, name: str
                   ) -> Found | None:
  """Reads a DepthToSpace and the Conv before it.

  Args:
    graph: graph of the node.
    node: the node.
    name: name of the node.

  Returns:
    The upsampler; None for a block size of 1.

  Raises:
    AuditError: a node is not valid.
    UntracedError: there is no Conv, or its parameters cannot be found.
  """
  block = integer(node, 'blocksize', 0)
  mode = text(node, 'mode', 'DCR')
  if block < 1 or mode not in ('DCR', 'CRD'):
    raise AuditError(f'{shown(name)}: blocksize or mode is invalid.')
  if block == 1:
    return None
  return _read(graph, name, 'Conv + DepthToSpace', node.input[0],
               node.output[0], (block, block), mode)


def reshaped(graph: Graph, node: onnx.NodeProto, name: str) -> Found | None:
  """Reads a pixel shuffle that is a Reshape, this Transpose and a Reshape.

  Args:
    graph: graph of the node.
    node: the node.
    name: name of the node.

  Returns:
    The upsampler; None if the Transpose is not part of a pixel shuffle.

  Raises:
    AuditError: a node is not valid.
    UntracedError: there is no Conv, or its parameters cannot be found.
  """
  axes = integers(node, 'perm')
  n = (len(axes) - 2) // 2
  if len(axes) % 2 or n not in (1, 2, 3):
    return None
  # Axes are [N, C, *strides, *size] for 'CRD', [N, *strides, C, *size] for
  # 'DCR'. A size comes before its stride in the result.
  pairs = lambda first: [axis for i in range(n) for axis in (n + 2 + i,
                                                             first + i)]
  if list(axes) == [0, 1, *pairs(2)]:
    mode, first = 'CRD', 2
  elif list(axes) == [0, n + 1, *pairs(1)]:
    mode, first = 'DCR', 1
  else:
    return None
  split = graph.producers.get(node.input[0])
  uses = graph.consumers.get(node.output[0], ())
  joined = uses[0][0] if len(uses) == 1 else None
  if (split is None or joined is None or split.op_type != 'Reshape'
      or joined.op_type != 'Reshape'):
    return None
  depth = graph.shapes.get(split.input[0], ())
  result = graph.shapes.get(joined.output[0], ())
  if len(depth) not in (0, n + 2) or len(result) not in (0, n + 2):
    return None
  strides = tuple(
      s for s in graph.shapes.get(split.output[0], ())[first:first + n] if s)
  if len(strides) != n or not result:
    raise UntracedError('it may be a pixel shuffle to a shape that is unknown')
  if all(s == 1 for s in strides):
    return None
  found = _read(graph, name, 'Conv + pixel shuffle', split.input[0],
                joined.output[0], strides, mode)
  blocks = math.prod(strides)
  channels = graph.trace(found.node.input[1]).values.shape[0] // blocks
  return found if result[1] in (None, channels) else None


class _Convolution(NamedTuple):
  """The Conv before a pixel shuffle.

  Attributes:
    node: the Conv.
    added: constant that is added to its result as a bias, or None.
    is_exact: whether nothing else stands between the two.
    is_private: whether nothing else uses what it computes.
  """
  node: onnx.NodeProto
  added: Constant | None
  is_exact: bool
  is_private: bool


def _read(graph: Graph, name: str, op: str, value: str, after: str,
          strides: Size, mode: str) -> Found:
  """Reads the Conv that computes `value`, which is shuffled to `after`."""
  conv = _convolution(graph, value)
  kernel, groups = onnx_layers.read_kernel(graph, conv.node, name)
  channels, _, *size = kernel.values.shape
  size, n = tuple(size), len(size)
  if n != len(strides):
    raise AuditError(f'{shown(name)} has another number of axes than its Conv.')
  for key in ('strides', 'dilations'):
    if any(v != 1 for v in onnx_layers.per_axis(conv.node, key, size, 1)):
      raise UntracedError(f'its Conv has {key} other than 1')
  if channels % math.prod(strides):
    raise AuditError(f'{shown(name)} does not fit the channels of its Conv.')
  if groups > 1 and (mode == 'DCR' or channels % (math.prod(strides) * groups)):
    raise UntracedError('a block of its result mixes groups of channels')
  offset = tuple((k - 1 - low) * s for k, low, s in zip(
      size, _low_pads(conv.node, size), strides))
  kernel = onnx_layers.laid_out(kernel, lambda w: _transposed(
      onnx_layers.channels_last(w), strides, mode, groups))
  bias = conv.added or onnx_layers.read_bias(graph, conv.node, name, channels)
  if bias is not None:
    bias = onnx_layers.laid_out(bias, lambda b: _transposed(
        b.reshape((1,) * (n + 1) + (-1,)), strides, mode, 1)[..., 0])
  obstacle = kernel.obstacle or (bias.obstacle if bias is not None else '')
  if not conv.is_private:
    obstacle = obstacle or 'its convolution has other uses'
  return Found(
      Upsampler(name, op, strides, size, (1,) * n, groups,
                onnx_layers.weights(kernel, bias), offset, conv.is_exact,
                obstacle, kernel.dtype),
      conv.node, conv.node.input[0], after, kernel, bias)


def _convolution(graph: Graph, value: str) -> _Convolution:
  """Finds the Conv that `value` is the result of, or a function of it."""
  between, is_private = [], True
  while True:
    is_private &= len(graph.consumers[value]) == 1
    node = graph.producers.get(value)
    if node is None:
      raise UntracedError('it follows an input of the model and no Conv')
    op = node.op_type if node.domain in STANDARD else ''
    if op == 'Conv' and len(node.input) > 1 and node.input[1]:
      break
    computed = [name for name in node.input if not _is_constant(graph, name)]
    if op in _ARITHMETIC and len(node.input) == 2 and len(computed) == 1:
      between.append(node)
      value = computed[0]
    elif op in (*_ELEMENTWISE, *_NOTHING):
      between += [] if op in _NOTHING else [node]
      value = node.input[0]
    else:
      raise UntracedError(f'it follows {one_line(node.op_type)} and no Conv')
  if [each.op_type for each in between] == ['Add'] and not any(node.input[2:]):
    [other] = [name for name in between[0].input if name != value]
    added = graph.trace(other)
    kernel = graph.trace(node.input[1]).values
    shape = (1,) * (kernel.ndim - added.values.ndim) + added.values.shape
    if shape == (1, kernel.shape[0]) + (1,) * (kernel.ndim - 2):
      return _Convolution(
          node, onnx_layers.exclusive(graph, added), True, is_private)
  return _Convolution(node, None, not between, is_private)


def _is_constant(graph: Graph, name: str) -> bool:
  try:
    graph.trace(name)
  except UntracedError:
    return False
  return True


def _low_pads(node: onnx.NodeProto, size: Size) -> Size:
  """Padding of a Conv of stride 1 at the low end of each axis."""
  mode = text(node, 'auto_pad', 'NOTSET')
  if mode == 'NOTSET':
    return onnx_layers.low_pads(node, len(size))
  if mode == 'VALID':
    return (0,) * len(size)
  return tuple((k - 1) // 2 if mode == 'SAME_UPPER' else k // 2 for k in size)


def _transposed(kernel: np.ndarray, strides: Size, mode: str, groups: int
                ) -> np.ndarray:
  """Arranges elements as `sub_pixel.transposed_kernel` does, in any dtype."""
  places = jnp.arange(kernel.size).reshape(kernel.shape)
  return kernel.ravel()[np.asarray(sub_pixel.transposed_kernel(
      places, strides, mode=mode, feature_group_count=groups))]
