"""Finds the upsamplers in the graph of an ONNX model.

A transposed convolution is one node. A sub-pixel convolution is a Conv and a
pixel shuffle, which is DepthToSpace or Reshape, Transpose and Reshape. There
may be elementwise nodes between the two. Of an interpolation, the scale is all
that counts.

What enlarges, and is not understood, is returned as unknown.
"""

from collections.abc import Callable
import dataclasses
import math

import numpy as np
import onnx

from tconv import sub_pixel
from tconv.audit import onnx_file
from tconv.audit.model import AuditError
from tconv.audit.model import Unknown
from tconv.audit.model import Upsampler
from tconv.audit.model import Weights
from tconv.audit.onnx_graph import attribute
from tconv.audit.onnx_graph import Constant
from tconv.audit.onnx_graph import Graph
from tconv.audit.onnx_graph import shown
from tconv.audit.onnx_graph import UntracedError

_INT = onnx.AttributeProto.INT
_INTS = onnx.AttributeProto.INTS
_STRING = onnx.AttributeProto.STRING
_MOST_PHASES = 2**16
# Of one input, or with parameters at the others.
_ELEMENTWISE = (
    'PRelu', 'BatchNormalization', 'Clip', 'Relu', 'LeakyRelu', 'Elu', 'Selu',
    'Celu', 'Sigmoid', 'Tanh', 'HardSigmoid', 'HardSwish', 'Gelu', 'Softplus',
    'Mish', 'ThresholdedRelu', 'QuantizeLinear', 'DequantizeLinear', 'Cast')
_ARITHMETIC = ('Add', 'Mul', 'Sub', 'Div')  # With a constant.
_EXACT = ('Identity', 'Dropout')
_STRANGE = {'MaxUnpool': 'its result depends on where maxima were',
            'GridSample': 'its sampling grid is computed at run time',
            'Col2Im': 'its columns are computed at run time'}
_STANDARD = ('', 'ai.onnx')


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
    op = onnx_file.one_line(node.op_type)
    try:
      each = _read(graph, node, name)
      if each is not None:
        found.append(each)
    except UntracedError as error:
      unknown.append(Unknown(name, op, str(error)))
    for inner in onnx_file.nested([node]):
      unknown += _inside(inner.node, f'inside a subgraph of {op}', name)
  for function in graph.model.functions:
    name = onnx_file.one_line(function.name)
    bodies = [function.node, *(g.node for g in onnx_file.nested(function.node))]
    for nodes in bodies:
      unknown += _inside(nodes, f'inside the function {name}', name)
  return _with_shared(graph, found), unknown


def _inside(nodes, reason: str, outer: str):
  for node in nodes:
    if node.op_type in (*_RULES, *_STRANGE):
      yield Unknown(onnx_file.one_line(node.name or outer), node.op_type, reason)


def _read(graph, node, name) -> Found | None:
  op = node.op_type
  if node.domain not in _STANDARD:
    if any(part in op for part in _RULES):
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


def _transposed(graph, node, name) -> Found | None:
  kernel = graph.trace(node.input[1])
  size, groups = _kernel_size(kernel, node, name)
  n = len(size)
  strides = _per_axis(node, 'strides', n, 1)
  dilation = _per_axis(node, 'dilations', n, 1)
  if all(s == 1 for s in strides):
    return None
  if math.prod(strides) > _MOST_PHASES:
    raise UntracedError(f'its strides {strides} are too large')
  if kernel.values.shape[0] % groups:
    raise AuditError(f'{shown(name)}: group does not divide its channels.')
  offset = _cropped(graph, node, size, strides, dilation)
  kernel = _laid_out(kernel, _channels_last)
  channels = kernel.values.shape[-2] * groups
  bias = _bias(graph, node, name, channels)
  if bias is not None:
    bias = _laid_out(
        bias, lambda b: np.broadcast_to(b.reshape(-1), (*strides, channels)))
  return Found(Upsampler(
      name, node.op_type, strides, size, dilation, groups,
      _weights(kernel, bias), offset, obstacle=kernel.obstacle),
               node, node.input[0], node.output[0], kernel, bias)


def _cropped(graph, node, size, strides, dilation):
  """Number of positions that are cropped at the low end of each axis."""
  n = len(size)
  mode = attribute(node, 'auto_pad', _STRING, 'NOTSET')
  extra = _per_axis(node, 'output_padding', n, 0)
  wanted = attribute(node, 'output_shape', _INTS, ())[-n:]
  if not wanted and not mode.startswith('SAME'):
    pads = attribute(node, 'pads', _INTS, (0,) * 2 * n)
    if len(pads) != 2 * n:
      raise AuditError(f'{shown(node.output[0])}: pads {pads} do not fit.')
    return pads[:n] if mode == 'NOTSET' else (0,) * n
  total = [(k - 1) * d + 1 + e - s
           for k, d, e, s in zip(size, dilation, extra, strides)]
  if wanted:
    coarse = graph.shapes.get(node.input[0], ())[2:]
    if len(coarse) != n or None in coarse or len(wanted) != n:
      raise UntracedError(
          'its output_shape is fixed, but the size of its input is not')
    total = [t + m * s - w for t, m, s, w in zip(total, coarse, strides, wanted)]
  # As onnxruntime does, which adds all zeros at the high end.
  total = [max(0, t) for t in total]
  return tuple(t // 2 if mode == 'SAME_UPPER' else t - t // 2 for t in total)


def _depth_to_space(graph, node, name) -> Found | None:
  block = attribute(node, 'blocksize', _INT, 0)
  mode = attribute(node, 'mode', _STRING, 'DCR')
  if block < 1 or mode not in ('DCR', 'CRD'):
    raise AuditError(f'{shown(name)}: blocksize or mode is invalid.')
  if block == 1:
    return None
  return _sub_pixel(graph, name, 'Conv + DepthToSpace', node.input[0],
                    node.output[0], (block, block), mode)


def _shuffled(graph, node, name) -> Found | None:
  """A pixel shuffle written as Reshape, Transpose and Reshape."""
  axes = attribute(node, 'perm', _INTS, ())
  n = (len(axes) - 2) // 2
  if len(axes) % 2 or n not in (1, 2, 3):
    return None
  pairs = lambda sizes, blocks: [v for i in range(n)
                                 for v in (sizes + i, blocks + i)]
  if list(axes) == [0, 1, *pairs(2 + n, 2)]:
    mode, first = 'CRD', 2
  elif list(axes) == [0, n + 1, *pairs(n + 2, 1)]:
    mode, first = 'DCR', 1
  else:
    return None
  split = graph.producers.get(node.input[0])
  joins = graph.consumers.get(node.output[0], ())
  joined = joins[0][0] if len(joins) == 1 else None
  if any(x is None or x.op_type != 'Reshape' for x in (split, joined)):
    return None
  depth = graph.shapes.get(split.input[0], ())
  shape = graph.shapes.get(split.output[0], ())
  result = graph.shapes.get(joined.output[0], ())
  if len(depth) not in (0, n + 2) or len(result) not in (0, n + 2):
    return None
  strides = shape[first:first + n]
  if len(strides) != n or None in strides or len(result) != n + 2:
    raise UntracedError('it may be a pixel shuffle to a shape that is unknown')
  if all(s == 1 for s in strides):
    return None
  found = _sub_pixel(graph, name, 'Conv + pixel shuffle', split.input[0],
                     joined.output[0], strides, mode)
  channels = found.kernel.values.shape[-2] * found.upsampler.groups
  return found if result[1] in (None, channels) else None


def _sub_pixel(graph, name, op, value, after, strides, mode) -> Found:
  node, constant, is_exact, is_private = _convolution(graph, value)
  shown_name = graph.names[next(
      i for i, each in enumerate(graph.nodes) if each is node)]
  kernel = graph.trace(node.input[1])
  size, groups = _kernel_size(kernel, node, shown_name)
  n = len(size)
  if n != len(strides):
    raise AuditError(f'{shown(name)} has another number of axes than its Conv.')
  for key in ('strides', 'dilations'):
    if any(v != 1 for v in _per_axis(node, key, n, 1)):
      raise UntracedError(f'its Conv has {key} other than 1')
  channels = kernel.values.shape[0]
  if channels % (math.prod(strides) * groups):
    raise UntracedError('a pixel of its result mixes groups of channels'
                        if not channels % math.prod(strides) else
                        'its block size does not fit the channels of its Conv')
  if groups > 1 and mode == 'DCR':
    raise UntracedError('a pixel of its result mixes groups of channels')
  offset = tuple((k - 1 - low) * s for k, low, s in zip(
      size, _low_pads(node, size), strides))
  kernel = _laid_out(kernel, lambda w: _reordered(
      _channels_last(w), strides, mode, groups))
  bias = _bias(graph, node, shown_name, channels) if constant is None else (
      constant)
  if bias is not None:
    bias = _laid_out(bias, lambda b: _reordered(
        b.reshape((1,) * (n + 1) + (-1,)), strides, mode, 1)[..., 0])
  obstacle = kernel.obstacle or (bias.obstacle if bias is not None else '')
  if not is_private:
    obstacle = obstacle or 'its convolution has other uses'
  return Found(Upsampler(
      name, op, strides, size, (1,) * n, groups, _weights(kernel, bias), offset,
      is_exact, obstacle), node, node.input[0], after, kernel, bias)


def _convolution(graph, value):
  """Finds the Conv that a pixel shuffle rearranges.

  Returns:
    The Conv; a constant that is added as its bias, or None; whether nothing
    else stands between them; and whether nothing else uses their values.
  """
  behind, is_private = [], True
  while True:
    is_private &= len(graph.consumers[value]) == 1
    node = graph.producers.get(value)
    op = 'an input of the model' if node is None else node.op_type
    if node is not None and node.domain in _STANDARD:
      if op == 'Conv' and len(node.input) > 1 and node.input[1]:
        break
      if op in (*_ELEMENTWISE, *_EXACT):
        behind += [] if op in _EXACT else [None]
        value = node.input[0]
        continue
      if op in _ARITHMETIC and len(node.input) == 2:
        computed = [name for name in node.input if not _is_constant(graph, name)]
        if len(computed) == 1:
          [other] = set(node.input) - {*computed} or {''}
          behind.append(other if op == 'Add' else None)
          value = computed[0]
          continue
    raise UntracedError(f'it follows {onnx_file.one_line(op)} and no Conv')
  if len(behind) == 1 and behind[0] and len(node.input) < 3:
    bias = graph.trace(behind[0])
    weight = graph.shapes.get(node.input[1]) or graph.trace(
        node.input[1]).values.shape
    shape = (1,) * (len(weight) - bias.values.ndim) + bias.values.shape
    if shape == (1, weight[0]) + (1,) * (len(weight) - 2):
      return node, _exclusive(graph, bias), True, is_private
  return node, None, not behind, is_private


def _is_constant(graph, name) -> bool:
  try:
    graph.trace(name)
  except UntracedError:
    return False
  return True


def _interpolation(graph, node, name) -> Found | None:
  scales = _scales(graph, node)
  if not all(math.isfinite(s) and s > 0 for s in scales):
    raise AuditError(f'{shown(name)}: scales must be positive.')
  if all(s <= 1 for s in scales):
    return None
  if any(abs(s - round(s)) > 1e-4 or s < 1 for s in scales):
    raise UntracedError(
        f'its scales {tuple(round(s, 4) for s in scales)} are not whole')
  scales = tuple(round(s) for s in scales)
  is_last = len(scales) > 2 and scales[1] > 1 and scales[-1] == 1
  strides = scales[1:-1] if is_last else scales[2:]
  if math.prod(strides) != math.prod(scales) or math.prod(
      strides) > _MOST_PHASES:
    raise UntracedError(f'its scales {scales} are not those of an image')
  uses = graph.consumers.get(node.output[0], ())
  behind = len(uses) == 1 and uses[0][0] is not None and (
      uses[0][0].op_type == 'Conv')
  return Found(Upsampler(name, node.op_type + ' + Conv' * behind, strides),
               node, node.input[0], node.output[0])


def _scales(graph, node) -> tuple[float, ...]:
  """The factor of each axis, batch and channels included."""
  if attribute(node, 'coordinate_transformation_mode', _STRING,
               '') == 'tf_crop_and_resize':
    raise UntracedError('it crops to a region of interest')
  before = graph.shapes.get(node.input[0], ())
  after = graph.shapes.get(node.output[0], ())
  scales = attribute(node, 'scales', onnx.AttributeProto.FLOATS, ())
  slots = [1] if node.op_type == 'Upsample' or len(node.input) == 2 else [2]
  for slot in slots:
    if not scales and len(node.input) > slot and node.input[slot]:
      try:
        scales = tuple(map(float, graph.trace(node.input[slot]).values.flat))
      except UntracedError:
        pass
  if len(node.input) > 3 and node.input[3] and not scales:
    try:
      sizes = graph.trace(node.input[3]).values.ravel()
    except UntracedError:
      sizes = ()
    axes = attribute(node, 'axes', _INTS, tuple(range(len(sizes))))
    if before and len(axes) == len(sizes):
      after = list(before)
      for axis, size in zip(axes, sizes):
        if -len(before) <= axis < len(before):
          after[axis] = int(size)
  elif scales:
    axes = attribute(node, 'axes', _INTS, ())
    if not axes:
      return scales
    if before and len(axes) == len(scales):
      full = dict(zip((a % len(before) for a in axes), scales))
      return tuple(full.get(i, 1.) for i in range(len(before)))
  if before and len(before) == len(after) and all(
      b and a for b, a in zip(before[1:], after[1:])):
    return (1., *(a / b for b, a in zip(before[1:], after[1:])))
  raise UntracedError('its scale is not a constant')


def _per_axis(node, name, n, default) -> tuple[int, ...]:
  values = attribute(node, name, _INTS, (default,) * n)
  if len(values) != n or any(v < default for v in values):
    raise AuditError(
        f'{shown(node.output[0])}: {name} {values} of {node.op_type} are '
        'invalid.')
  return values


def _kernel_size(kernel: Constant, node, name):
  """Checks a weight, [channels, channels / groups, *K]."""
  shape = kernel.values.shape
  groups = attribute(node, 'group', _INT, 1)
  if not 3 <= len(shape) <= 5 or 0 in shape or groups < 1:
    raise AuditError(f'{shown(name)}: a weight of shape {shape} in {groups} '
                     'groups is invalid.')
  if not np.isfinite(kernel.values).all():
    raise UntracedError('its weights are not finite')
  if attribute(node, 'kernel_shape', _INTS, shape[2:]) != shape[2:]:
    raise AuditError(f'{shown(name)}: kernel_shape is not that of its weight.')
  return shape[2:], groups


def _low_pads(node, size):
  """Padding of a Conv of stride 1 at the low end of each axis."""
  mode = attribute(node, 'auto_pad', _STRING, 'NOTSET')
  if mode == 'NOTSET':
    pads = attribute(node, 'pads', _INTS, (0,) * 2 * len(size))
    if len(pads) != 2 * len(size):
      raise AuditError(f'{shown(node.output[0])}: pads {pads} do not fit.')
    return pads[:len(size)]
  if mode == 'VALID':
    return (0,) * len(size)
  return tuple((k - 1) // 2 if mode == 'SAME_UPPER' else k // 2 for k in size)


def _bias(graph, node, name, channels) -> Constant | None:
  if len(node.input) < 3 or not node.input[2]:
    return None
  bias = graph.trace(node.input[2])
  if bias.values.shape != (channels,):
    raise AuditError(f'{shown(name)}: a bias of shape {bias.values.shape} does '
                     f'not fit {channels} channels.')
  if not np.isfinite(bias.values).all():
    raise UntracedError('its bias is not finite')
  return _exclusive(graph, bias)


def _exclusive(graph, bias: Constant) -> Constant:
  if len(graph.uses(bias.root)) == 1 or bias.obstacle:
    return bias
  return dataclasses.replace(
      bias, obstacle='its bias is used by other nodes, too')


def _with_shared(graph, found: list[Found]) -> list[Found]:
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


def _weights(kernel: Constant, bias: Constant | None) -> Weights:
  return Weights(kernel.values, None if bias is None else bias.values)


def _laid_out(constant: Constant, layout: Callable) -> Constant:
  return dataclasses.replace(constant, values=layout(constant.values),
                             index=layout(constant.index))


def _channels_last(weight: np.ndarray) -> np.ndarray:
  """[*K, C / groups, O] from [O, C / groups, *K]."""
  return np.moveaxis(weight, (0, 1), (-1, -2))


def _reordered(kernel, strides, mode, groups) -> np.ndarray:
  """The elements of a convolution's kernel as `sub_pixel` arranges them."""
  places = np.arange(kernel.size, dtype=np.int32).reshape(kernel.shape)
  return kernel.ravel()[np.asarray(sub_pixel.transposed_kernel(
      places, strides, mode=mode, feature_group_count=groups))]


_RULES = {'ConvTranspose': _transposed, 'DepthToSpace': _depth_to_space,
          'Transpose': _shuffled, 'Resize': _interpolation,
          'Upsample': _interpolation}
