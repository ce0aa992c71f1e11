"""Reads the parameters of convolutions in an ONNX graph, transposed or not."""

from collections.abc import Callable
import dataclasses
import math

import numpy as np
import onnx

from tconv.audit.model import AuditError
from tconv.audit.model import Upsampler
from tconv.audit.model import Weights
from tconv.audit.onnx_graph import Constant
from tconv.audit.onnx_graph import Graph
from tconv.audit.onnx_graph import integer
from tconv.audit.onnx_graph import integers
from tconv.audit.onnx_graph import shown
from tconv.audit.onnx_graph import text
from tconv.audit.onnx_graph import UntracedError
from tconv.geometry import Size

MOST_PHASES = 2**16


@dataclasses.dataclass(frozen=True)
class Found:
  """An upsampler, and where it is in the graph.

  Attributes:
    upsampler: the upsampler.
    node: node with the weights.
    before: name of the value before it.
    after: name of its result.
    kernel: constant in the layout of `Weights.kernel`; None without weights.
    bias: constant in the layout of `Weights.bias`, or None.
  """
  upsampler: Upsampler
  node: onnx.NodeProto
  before: str
  after: str
  kernel: Constant | None = None
  bias: Constant | None = None


def conv_transpose(graph: Graph, node: onnx.NodeProto, name: str
                   ) -> Found | None:
  """Reads a ConvTranspose.

  Args:
    graph: graph of the node.
    node: the node.
    name: name of the node.

  Returns:
    The upsampler; None for strides of 1.

  Raises:
    AuditError: the node is not valid.
    UntracedError: its parameters cannot be found.
  """
  kernel, groups = read_kernel(graph, node, name)
  size = kernel.values.shape[2:]
  strides = per_axis(node, 'strides', size, 1)
  dilation = per_axis(node, 'dilations', size, 1)
  if all(s == 1 for s in strides):
    return None
  if math.prod(strides) > MOST_PHASES:
    raise UntracedError(f'its strides {strides} are too large')
  offset = _cropped(graph, node, size, strides, dilation)
  kernel = laid_out(kernel, channels_last)
  channels = kernel.values.shape[-2] * groups
  bias = read_bias(graph, node, name, channels)
  if bias is not None:
    bias = laid_out(bias, lambda b: np.broadcast_to(b, (*strides, channels)))
  return Found(
      Upsampler(name, node.op_type, strides, size, dilation, groups,
                weights(kernel, bias), offset, obstacle=kernel.obstacle,
                dtype=kernel.dtype),
      node, node.input[0], node.output[0], kernel, bias)


def _cropped(graph: Graph, node: onnx.NodeProto, size: Size, strides: Size,
             dilation: Size) -> Size:
  """Number of positions that are cropped at the low end of each axis."""
  n = len(size)
  mode = text(node, 'auto_pad', 'NOTSET')
  extra = per_axis(node, 'output_padding', size, 0)
  wanted = integers(node, 'output_shape')[-n:]
  if not wanted and not mode.startswith('SAME'):
    return (0,) * n if mode == 'VALID' else low_pads(node, n)
  total = [(k - 1) * d + 1 + e - s
           for k, d, e, s in zip(size, dilation, extra, strides)]
  if wanted:
    coarse = [m for m in graph.shapes.get(node.input[0], ())[2:] if m]
    if len(coarse) != n or len(wanted) != n:
      raise UntracedError(
          'its output_shape is fixed, but the size of its input is not')
    total = [t + m * s - w
             for t, m, s, w in zip(total, coarse, strides, wanted)]
  # Like onnxruntime, which never adds zeros at the low end.
  total = [max(0, t) for t in total]
  return tuple(t // 2 if mode == 'SAME_UPPER' else t - t // 2 for t in total)


def low_pads(node: onnx.NodeProto, n: int) -> Size:
  """The attribute `pads` at the low end of each of n axes."""
  pads = integers(node, 'pads', (0,) * 2 * n)
  if len(pads) != 2 * n:
    raise AuditError(f'{shown(node.output[0])}: pads {pads} do not fit.')
  return pads[:n]


def per_axis(node: onnx.NodeProto, name: str, size: Size, default: int) -> Size:
  """An attribute with a number for each axis, at least its default."""
  values = integers(node, name, (default,) * len(size))
  if len(values) != len(size) or any(v < default for v in values):
    raise AuditError(f'{shown(node.output[0])}: {name} {values} of '
                     f'{node.op_type} are invalid.')
  return values


def read_kernel(graph: Graph, node: onnx.NodeProto, name: str
                ) -> tuple[Constant, int]:
  """Reads the weight, [O, C / groups, *K], and the number of groups."""
  kernel = graph.trace(node.input[1])
  shape = kernel.values.shape
  groups = integer(node, 'group', 1)
  if not 3 <= len(shape) <= 5 or 0 in shape or groups < 1 or shape[0] % groups:
    raise AuditError(f'{shown(name)}: a weight of shape {shape} in {groups} '
                     'groups is invalid.')
  if integers(node, 'kernel_shape', shape[2:]) != shape[2:]:
    raise AuditError(f'{shown(name)}: kernel_shape is not that of its weight.')
  if not np.isfinite(kernel.values).all():
    raise UntracedError('its weights are not finite')
  return kernel, groups


def read_bias(graph: Graph, node: onnx.NodeProto, name: str, channels: int
              ) -> Constant | None:
  """Reads the bias of a convolution, [channels]."""
  if len(node.input) < 3 or not node.input[2]:
    return None
  bias = graph.trace(node.input[2])
  if bias.values.shape != (channels,):
    raise AuditError(f'{shown(name)}: a bias of shape {bias.values.shape} does '
                     f'not fit {channels} channels.')
  return exclusive(graph, bias)


def exclusive(graph: Graph, bias: Constant) -> Constant:
  """Checks a bias; one with several uses cannot be replaced."""
  if not np.isfinite(bias.values).all():
    raise UntracedError('its bias is not finite')
  if len(graph.uses(bias.root)) == 1 or bias.obstacle:
    return bias
  return dataclasses.replace(
      bias, obstacle='its bias is used by other nodes, too')


def weights(kernel: Constant, bias: Constant | None) -> Weights:
  """The values of parameters."""
  return Weights(kernel.values, None if bias is None else bias.values)


def laid_out(constant: Constant, layout: Callable[[np.ndarray], np.ndarray]
             ) -> Constant:
  """Rearranges the elements of a constant."""
  return dataclasses.replace(constant, values=layout(constant.values),
                             index=layout(constant.index))


def channels_last(weight: np.ndarray) -> np.ndarray:
  """[*K, C / groups, O] from [O, C / groups, *K]."""
  return np.moveaxis(weight, (0, 1), (-1, -2))
