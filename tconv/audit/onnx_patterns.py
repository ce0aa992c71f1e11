"""Finds the upsamplers in the graph of an ONNX model.

What may enlarge, and is not understood, is returned as unknown.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses

import onnx

from tconv.audit import onnx_layers
from tconv.audit import onnx_resize
from tconv.audit import onnx_sub_pixel
from tconv.audit import onnx_tensors
from tconv.audit.model import AuditError
from tconv.audit.model import Unknown
from tconv.audit.onnx_graph import Graph
from tconv.audit.onnx_graph import shown
from tconv.audit.onnx_graph import STANDARD
from tconv.audit.onnx_graph import UntracedError
from tconv.audit.onnx_layers import Found
from tconv.audit.onnx_tensors import one_line

# Reads a node, or returns None if it does not enlarge.
_RULES = {'ConvTranspose': onnx_layers.conv_transpose,
          'DepthToSpace': onnx_sub_pixel.depth_to_space,
          'Transpose': onnx_sub_pixel.reshaped,
          'Resize': onnx_resize.interpolation,
          'Upsample': onnx_resize.interpolation}
_STRANGE = {'MaxUnpool': 'its result depends on where maxima were',
            'GridSample': 'its sampling grid is computed at run time',
            'Col2Im': 'its columns are computed at run time'}
_NAMED = (*(set(_RULES) - {'Transpose'}), *_STRANGE)


def find(graph: Graph) -> tuple[list[Found], list[Unknown]]:
  """Finds upsamplers.

  Args:
    graph: graph of a model.

  Returns:
    The upsamplers and what may be one, in order of execution.

  Raises:
    AuditError: the model is not valid.
  """
  found, unknown = [], []
  for node, name in zip(graph.nodes, graph.names):
    op = one_line(node.op_type)
    try:
      each = _read(graph, node, name)
      if each is not None:
        found.append(each)
    except UntracedError as error:
      unknown.append(Unknown(name, op, str(error)))
    for inner in onnx_tensors.nested([node]):
      unknown += _inside(inner.node, f'inside a subgraph of {op}', name)
  for function in graph.model.functions:
    name = one_line(function.name)
    graphs = onnx_tensors.nested(function.node)
    for nodes in (function.node, *(graph.node for graph in graphs)):
      unknown += _inside(nodes, f'inside the function {name}', name)
  return _with_shared(graph, found), unknown


def _inside(nodes: Iterable[onnx.NodeProto], reason: str, outer: str
            ) -> Iterator[Unknown]:
  """Yields what may enlarge in an inner graph."""
  for node in nodes:
    if node.op_type in _NAMED:
      yield Unknown(one_line(node.name or outer), node.op_type, reason)


def _read(graph: Graph, node: onnx.NodeProto, name: str) -> Found | None:
  """Reads a node; None if it is not an upsampler."""
  op = node.op_type
  if node.domain not in STANDARD:
    if any(part in op for part in _NAMED):
      raise UntracedError(f'it is of the domain {shown(node.domain)}')
  elif op in _STRANGE:
    raise UntracedError(_STRANGE[op])
  elif op in _RULES:
    least = 1 if op != 'ConvTranspose' else 2
    if len(node.input) < least or not all(node.input[:least]) or (
        not node.output or not node.output[0]):
      raise AuditError(f'{shown(name)}: {op} lacks an input or output.')
    return _RULES[op](graph, node, name)
  return None


def _with_shared(graph: Graph, found: list[Found]) -> list[Found]:
  """Adds an obstacle where a weight has a use of another kind."""
  slots = {id(f.node): f.upsampler for f in found if f.kernel is not None}
  result = []
  for each in found:
    obstacle = ''
    if each.kernel is not None:
      for node, slot in graph.uses(each.kernel.root):
        other = slots.get(id(node)) if slot == 1 else None
        if other is None:
          obstacle = 'its weights are used by other nodes, too'
        elif (other.op, other.strides) != (
            each.upsampler.op, each.upsampler.strides):
          obstacle = 'its weights are shared with a layer of other strides'
    if obstacle and not each.upsampler.obstacle:
      each = dataclasses.replace(each, upsampler=dataclasses.replace(
          each.upsampler, obstacle=obstacle))
    result.append(each)
  return result
