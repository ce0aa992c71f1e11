"""Inserts averaging filters after upsamplers of an ONNX model."""

from collections.abc import Sequence

import onnx
from onnx import helper

from tconv.audit.onnx_graph import Graph
from tconv.audit.onnx_graph import Shape
from tconv.audit.onnx_layers import Found


def insert(proto: onnx.ModelProto, graph: Graph, layers: Sequence[Found]
           ) -> dict[str, Shape]:
  """Averages the results of layers, as `tconv.zero_order_hold` does.

  A filter gets the name of the result that it averages. So all that uses this
  result, outputs of the model included, uses the average.

  Args:
    proto: copy of the graph's model; filters are inserted in it.
    graph: graph of the model without the filters.
    layers: layers of the graph.

  Returns:
    Shapes of the values of the new model, where they are known.
  """
  shapes = dict(graph.shapes)
  names = {output: name for node, name in zip(graph.nodes, graph.names)
           for output in node.output}
  for layer in layers:
    after, window = layer.after, layer.upsampler.strides
    unfiltered = f'{after}/unfiltered'
    while unfiltered in graph.consumers or unfiltered in graph.producers:
      unfiltered += '_'
    place, node = next((i, node) for i, node in enumerate(proto.graph.node)
                       if after in node.output)
    # A node without a name goes by that of its output, which changes.
    node.name = names[after]
    node.output[list(node.output).index(after)] = unfiltered
    # By default, zeros outside the image do not count in the average.
    proto.graph.node.insert(place + 1, helper.make_node(
        'AveragePool', [unfiltered], [after], f'{after}/filter',
        kernel_shape=window, strides=[1] * len(window),
        pads=[(s - 1) // 2 for s in window] + [s // 2 for s in window]))
    if after in shapes:
      shapes[unfiltered] = shapes[after]
  return shapes
