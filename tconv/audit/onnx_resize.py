"""Finds interpolations in an ONNX graph: Resize and Upsample."""

import math

import onnx

from tconv.audit import onnx_layers
from tconv.audit.model import AuditError
from tconv.audit.model import Upsampler
from tconv.audit.onnx_graph import floats
from tconv.audit.onnx_graph import Graph
from tconv.audit.onnx_graph import integers
from tconv.audit.onnx_graph import shown
from tconv.audit.onnx_graph import text
from tconv.audit.onnx_graph import UntracedError

_ROUNDING = 1e-4  # Of scales that were computed from sizes in float32.


def interpolation(graph: Graph, node: onnx.NodeProto, name: str
                  ) -> onnx_layers.Found | None:
  """Reads a Resize or Upsample.

  Args:
    graph: graph of the node.
    node: the node.
    name: name of the node.

  Returns:
    The upsampler; None if it does not enlarge.

  Raises:
    AuditError: the node is not valid.
    UntracedError: its scale is unknown, or not a whole number.
  """
  scales = _scales(graph, node)
  if not all(math.isfinite(s) and s > 0 for s in scales):
    raise AuditError(f'{shown(name)}: scales must be positive.')
  if all(s <= 1 for s in scales):
    return None
  if any(s < 1 or abs(s - round(s)) > _ROUNDING for s in scales):
    raise UntracedError(
        f'its scales {tuple(round(s, 4) for s in scales)} are not whole')
  scales = tuple(round(s) for s in scales)
  is_last = len(scales) > 2 and scales[1] > 1 and scales[-1] == 1
  strides = scales[1:-1] if is_last else scales[2:]
  if not 1 <= len(strides) <= 3 or math.prod(strides) != math.prod(scales) or (
      math.prod(strides) > onnx_layers.MOST_PHASES):
    raise UntracedError(f'its scales {scales} are not those of an image')
  uses = [use for use, _ in graph.consumers.get(node.output[0], ())]
  has_conv = len(uses) == 1 and uses[0] is not None and (
      uses[0].op_type == 'Conv')
  op = node.op_type + ' + Conv' * has_conv
  return onnx_layers.Found(
      Upsampler(name, op, strides), node, node.input[0], node.output[0])


def _scales(graph: Graph, node: onnx.NodeProto) -> tuple[float, ...]:
  """The factor of each axis, batch and channels included."""
  if text(node, 'coordinate_transformation_mode', '') == 'tf_crop_and_resize':
    raise UntracedError('it crops to a region of interest')
  before = graph.shapes.get(node.input[0], ())
  after = graph.shapes.get(node.output[0], ())
  scales = floats(node, 'scales')  # In opset 7.
  is_second = node.op_type == 'Upsample' or len(node.input) == 2
  for name in node.input[1:2] if is_second else node.input[2:3]:
    try:
      scales = tuple(map(float, graph.trace(name).values.flat)) if name else ()
    except UntracedError:
      pass  # The shapes may tell.
  axes = integers(node, 'axes', range(len(scales)))
  if scales and len(axes) != len(scales):
    raise AuditError(f'{shown(node.output[0])}: axes do not fit the scales.')
  if scales and axes == tuple(range(len(scales))) and len(scales) > 2:
    return scales
  if scales and before:
    full = {axis % len(before): s for axis, s in zip(axes, scales)}
    return tuple(full.get(i, 1.) for i in range(len(before)))
  known = [(b, a) for b, a in zip(before[1:], after[1:]) if b and a]
  if len(known) == len(before) - 1 == len(after) - 1 > 0:
    return (1., *(a / b for b, a in known))
  raise UntracedError('its scale is not a constant')
