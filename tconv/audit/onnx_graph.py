"""The graph of an ONNX model: who makes and uses a value, and constants.

A weight may stand behind nodes that only arrange or convert it. `Graph.trace`
finds the tensor that holds its elements, and where each of them is, so that
they can be replaced.
"""

from collections.abc import Sequence
import dataclasses
import math
import os
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tconv.audit import onnx_tensors
from tconv.audit.model import AuditError
from tconv.audit.onnx_tensors import one_line

STANDARD = ('', 'ai.onnx')  # Domains of the standard operators.
_LONGEST_CHAIN = 64
_LARGE = 1024  # Elements of a tensor, too many to be those of a shape.
_MOST_ELEMENTS = 2**30  # Of a value whose size the file determines.
_FLOATS = ('float16', 'bfloat16', 'float32', 'float64')
# What may stand between a weight and the tensor that holds it.
_RESHAPES = ('Reshape', 'Unsqueeze', 'Squeeze', 'Flatten')
_ARRANGES = ('Identity', 'Cast', 'Transpose', 'DequantizeLinear', *_RESHAPES)

Shape = tuple[int | None, ...]


class UntracedError(Exception):
  """Something cannot be found in a graph; the message says what."""


@dataclasses.dataclass(frozen=True)
class Constant:
  """A constant, and the tensor that holds it.

  Attributes:
    root: name of the tensor.
    values: elements as they are used; an array of float32 or float64, unless
      they are integers.
    index: array like `values` with the position of each element in the tensor,
      which is flattened.
    dtype: dtype of the tensor.
    obstacle: why the elements cannot be replaced; empty if they can.
  """
  root: str
  values: np.ndarray
  index: np.ndarray
  dtype: str
  obstacle: str = ''


class Graph:
  """The main graph of a model.

  Attributes:
    model: the model.
    nodes: its nodes, in order.
    names: a printable and unique name of each node.
    producers: node that computes a value, by the name of the value.
    consumers: pairs (node, number of its input) that use a value. Number -1
      stands for a use in an inner graph. The node is None for an output.
    tensors: constant tensors by the name of their value.
    shapes: shape of each value where it is known.
  """

  def __init__(self, model: onnx.ModelProto, folder: str | os.PathLike,
               shapes: dict[str, Shape] | None = None):
    self.model, self._folder = model, folder
    self.nodes = list(model.graph.node)
    self.names = _names(self.nodes)
    self.tensors = {t.name: t for t in model.graph.initializer}
    self.producers = {}
    self.consumers = {}
    for node in self.nodes:
      for name in filter(None, node.output):
        self.producers[name] = node
      uses = list(enumerate(node.input))
      for graph in onnx_tensors.nested([node]):
        uses += [(-1, name) for inner in graph.node for name in inner.input]
        uses += [(-1, output.name) for output in graph.output]
      for slot, name in uses:
        self.consumers.setdefault(name, []).append((node, slot))
      if node.op_type == 'Constant' and len(node.output) == 1:
        for attribute in node.attribute:
          if attribute.name == 'value' and attribute.HasField('t'):
            self.tensors[node.output[0]] = attribute.t
    for output in model.graph.output:
      self.consumers.setdefault(output.name, []).append((None, 0))
    self.shapes = _shapes(model) if shapes is None else shapes

  def uses(self, name: str) -> list:
    """Finds what uses a value, directly or through nodes that arrange it."""
    found, names = [], [name]
    while names:
      for node, slot in self.consumers.get(names.pop(), ()):
        if node is not None and not slot and node.op_type in _ARRANGES:
          names += node.output
        else:
          found.append((node, slot))
    return found

  def trace(self, name: str) -> Constant:
    """Finds the tensor that holds a constant.

    Args:
      name: name of the value.

    Returns:
      The constant.

    Raises:
      UntracedError: the value is not a constant, or it cannot be traced.
    """
    steps = []
    while name not in self.tensors:
      node = self.producers.get(name)
      if node is None:
        raise UntracedError(f'{shown(name)} is an input of the model')
      if node.op_type not in _ARRANGES or len(steps) == _LONGEST_CHAIN:
        raise UntracedError(
            f'{shown(name)} is computed at run time, by {shown(node.op_type)}')
      steps.append(node)
      name = node.input[0]
    tensor = self.tensors[name]
    if tensor.data_type == onnx.TensorProto.STRING:
      raise UntracedError(f'{shown(name)} is text')
    array = onnx_tensors.values(tensor, self._folder)
    dtype = array.dtype.name
    index = np.arange(array.size).reshape(array.shape)
    for node in reversed(steps):
      array, index = self._arrange(node, array, index)
    obstacle = '' if dtype in _FLOATS else f'its weights are stored as {dtype}'
    if array.dtype.name in _FLOATS:
      array = array.astype(np.promote_types(
          np.float32, np.float64 if array.dtype.name == 'float64' else 'f4'))
    return Constant(name, array, index, dtype, obstacle)

  def _arrange(self, node, array, index):
    """What a node of `_ARRANGES` does to values and their positions."""
    if node.op_type == 'Cast':
      kind = integer(node, 'to', 0)
      try:
        return array.astype(helper.tensor_dtype_to_np_dtype(kind)), index
      except (KeyError, TypeError, ValueError) as error:
        raise UntracedError('it is behind a Cast to a strange dtype') from error
    if node.op_type == 'Transpose':
      axes = integers(node, 'perm', range(array.ndim)[::-1])
      if sorted(axes) != list(range(array.ndim)):
        raise AuditError(f'{shown(node.output[0])}: perm {axes} is invalid.')
      return array.transpose(axes), index.transpose(axes)
    if node.op_type in _RESHAPES:
      shape = self.shapes.get(node.output[0], (None,))
      sizes = tuple(n for n in shape if n is not None)
      if sizes != shape or math.prod(sizes) != array.size:
        raise UntracedError(
            f'it is behind a {node.op_type} to a shape that is unknown')
      return array.reshape(sizes), index.reshape(sizes)
    if node.op_type == 'DequantizeLinear':
      return self._dequantize(node, array), index
    return array, index

  def _dequantize(self, node, array):
    """(x - zero point) * scale, for a tensor or each slice along an axis."""
    axis = integer(node, 'axis', 1)
    blocks = integer(node, 'block_size', 0)
    names = [name for name in node.input[1:] if name]
    tensors = [self.tensors[name] for name in names if name in self.tensors]
    if blocks or not tensors or len(tensors) < len(names):
      raise UntracedError('its weights are quantized in a form that is unknown')
    parts = [onnx_tensors.values(t, self._folder).astype(np.float32)
             for t in tensors]
    shape = [1] * array.ndim
    if parts[0].size > 1:
      if not -array.ndim <= axis < array.ndim:
        raise AuditError(f'{shown(node.output[0])}: axis {axis} is invalid.')
      shape[axis] = array.shape[axis]
    if any(part.size != math.prod(shape) for part in parts):
      raise AuditError(f'{shown(node.output[0])}: the scale does not fit.')
    scale, *zero = (part.reshape(shape) for part in parts)
    array = array.astype(np.float32)
    return (array - zero[0] if zero else array) * scale


def integer(node: onnx.NodeProto, name: str, default: int) -> int:
  """Reads an attribute of one integer."""
  return _attribute(node, name, onnx.AttributeProto.INT, default)


def integers(node: onnx.NodeProto, name: str, default: Sequence[int] = ()
             ) -> tuple[int, ...]:
  """Reads an attribute of integers."""
  return tuple(_attribute(node, name, onnx.AttributeProto.INTS, default))


def floats(node: onnx.NodeProto, name: str) -> tuple[float, ...]:
  """Reads an attribute of floats; empty by default."""
  return tuple(_attribute(node, name, onnx.AttributeProto.FLOATS, ()))


def text(node: onnx.NodeProto, name: str, default: str) -> str:
  """Reads an attribute of text."""
  return _attribute(node, name, onnx.AttributeProto.STRING, default)


def _attribute(node: onnx.NodeProto, name: str, kind: int, default) -> Any:
  for each in node.attribute:
    if each.name == name:
      if each.type != kind:
        raise AuditError(f'{shown(node.op_type)} has an attribute {name} of a '
                         'wrong type.')
      value = helper.get_attribute_value(each)
      if isinstance(value, bytes):
        return value.decode(errors='replace')
      return value
  return default


def shown(name: str) -> str:
  """A name for a message."""
  return repr(one_line(name or 'nothing'))


def _names(nodes: Sequence[onnx.NodeProto]) -> list[str]:
  """Names of nodes; that of an output where a node has none of its own."""
  clean = lambda text: one_line(text) if text else ''
  own = [clean(node.name) for node in nodes]
  outputs = [clean(node.output[0]) if node.output else '' for node in nodes]
  count = {}
  for name in own:
    count[name] = count.get(name, 0) + 1
  found, taken = [], {name for name in own if count[name] == 1}
  for name, output in zip(own, outputs):
    if not name or count[name] > 1:
      name, number = output, 1
      while not name or name in taken:
        number += 1
        name = f'{output}#{number}'
      taken.add(name)
    found.append(name)
  return found


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
  """Infers the shapes of values; large tensors are left out of the copy."""
  copy = onnx.ModelProto()
  copy.CopyFrom(model)
  for tensor in onnx_tensors.tensors(copy):
    if math.prod(tensor.dims) > _LARGE and not onnx_tensors.is_external(tensor):
      dims, kind, name = list(tensor.dims), tensor.data_type, tensor.name
      tensor.Clear()
      tensor.dims.extend(dims)
      tensor.data_type, tensor.name = kind, name
      tensor.data_location = onnx.TensorProto.EXTERNAL
      tensor.external_data.add(key='location', value='left out')
  try:
    copy = onnx.shape_inference.infer_shapes(copy, data_prop=True)
  except Exception:  # Shapes help, but the file may do without.
    pass
  found = {}
  graph = copy.graph
  for value in (*graph.input, *graph.value_info, *graph.output):
    kind = value.type.tensor_type
    if not value.type.HasField('tensor_type') or not kind.HasField('shape'):
      continue
    found[value.name] = tuple(
        d.dim_value if d.HasField('dim_value') and d.dim_value > 0 else None
        for d in kind.shape.dim)
  for tensor in graph.initializer:
    found[tensor.name] = tuple(tensor.dims)
  for name, shape in found.items():
    if math.prod(d for d in shape if d) > _MOST_ELEMENTS:
      raise AuditError(f'{shown(name)} would have more than {_MOST_ELEMENTS} '
                       'elements.')
  return found
