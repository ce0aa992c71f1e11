"""The tensors of an ONNX model, which may be damaged or hostile.

A tensor must have as many bytes as its shape says. Data in other files must lie
in the model's folder.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import math
import os
import pathlib

import numpy as np
import onnx
from onnx import helper
from onnx import numpy_helper

from tconv.audit.model import AuditError

# Bits of the dtypes that pack several elements into a byte.
_BITS: dict[int, int] = {
    onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4,
    onnx.TensorProto.FLOAT4E2M1: 4, onnx.TensorProto.INT2: 2,
    onnx.TensorProto.UINT2: 2}


def one_line(error: object) -> str:
  """The first line of a message, without characters that move the cursor."""
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return ''.join(c if c.isprintable() else '?' for c in lines[0])[:300]


def nested(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
  """Yields the graphs in attributes of nodes (If, Loop), at any depth."""
  for node in nodes:
    for attribute in node.attribute:
      graphs = list(attribute.graphs)
      if attribute.HasField('g'):
        graphs.append(attribute.g)
      for graph in graphs:
        yield graph
        yield from nested(graph.node)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
  """Yields all constant tensors of a model."""
  bodies = [model.graph.node, *(f.node for f in model.functions)]
  graphs = [model.graph, *(g for nodes in bodies for g in nested(nodes))]
  for graph in graphs:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
      yield from (sparse.values, sparse.indices)
  for nodes in [*bodies, *(graph.node for graph in graphs[1:])]:
    for node in nodes:
      for attribute in node.attribute:
        if attribute.HasField('t'):
          yield attribute.t
        yield from attribute.tensors
        sparse = list(attribute.sparse_tensors)
        if attribute.HasField('sparse_tensor'):
          sparse.append(attribute.sparse_tensor)
        for each in sparse:
          yield from (each.values, each.indices)


def is_external(tensor: onnx.TensorProto) -> bool:
  """Whether the data of a tensor is in another file."""
  return tensor.data_location == onnx.TensorProto.EXTERNAL


def values(tensor: onnx.TensorProto, folder: str | os.PathLike) -> np.ndarray:
  """The elements of a tensor.

  Args:
    tensor: tensor of a model.
    folder: folder of the model, for external data.

  Returns:
    [*dims] array.

  Raises:
    AuditError: the elements cannot be read.
  """
  try:
    if is_external(tensor):
      path, offset, length = external(tensor, folder)
      with open(path, 'rb') as file:
        file.seek(offset)
        tensor = onnx.TensorProto(
            data_type=tensor.data_type, dims=tensor.dims,
            raw_data=file.read(length))
    return numpy_helper.to_array(tensor)
  except (OSError, ValueError, TypeError) as error:
    raise AuditError(
        f'tensor {one_line(tensor.name)!r} cannot be read: {one_line(error)}'
        ) from error


def set_values(tensor: onnx.TensorProto, array: np.ndarray) -> None:
  """Replaces the elements of a tensor, which keeps its name and dtype."""
  new = numpy_helper.from_array(np.ascontiguousarray(array), tensor.name)
  for field in ('float_data', 'int32_data', 'int64_data', 'double_data',
                'uint64_data', 'external_data', 'data_location'):
    tensor.ClearField(field)
  tensor.raw_data = new.raw_data


def check(tensor: onnx.TensorProto, folder: str | os.PathLike) -> None:
  """Raises AuditError unless a tensor has as many elements as it claims."""
  name = one_line(tensor.name)
  count, length = _count(tensor)
  if is_external(tensor):
    external(tensor, folder)
    return
  kind = tensor.data_type
  per_unit = 8 // _BITS.get(kind, 8)
  if tensor.raw_data:
    holds = count if len(tensor.raw_data) == length else (
        len(tensor.raw_data) * count // max(length, 1))
  else:
    holds = per_unit * max(map(len, (
        tensor.float_data, tensor.int32_data, tensor.int64_data,
        tensor.double_data, tensor.uint64_data, tensor.string_data)))
    if kind in (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128):
      holds //= 2
  if not count <= holds < count + per_unit:
    raise AuditError(
        f'tensor {name!r} claims {count} elements of shape '
        f'{_short(tensor.dims)}, and has {holds}.')


def external(tensor: onnx.TensorProto, folder: str | os.PathLike
              ) -> tuple[str, int, int]:
  """Finds external data.

  Args:
    tensor: tensor with external data.
    folder: folder of the model.

  Returns:
    The path of the file, and the offset and number of the bytes.

  Raises:
    AuditError: the data is missing, too short, or outside the folder.
  """
  name = one_line(tensor.name)
  entries = {e.key: e.value for e in tensor.external_data}
  location = entries.get('location', '')
  shown = one_line(location or 'nothing')
  posix = pathlib.PurePosixPath(location)
  windows = pathlib.PureWindowsPath(location)
  if (not location or '\0' in location or posix.is_absolute()
      or windows.anchor or '..' in (*posix.parts, *windows.parts)):
    raise AuditError(f'external data of {name!r} must be a file in the folder '
                     f'of the model; got {shown}.')
  root = os.path.realpath(folder)
  path = os.path.realpath(os.path.join(root, location))
  try:
    if os.path.commonpath([root, path]) != root:
      raise AuditError(f'external data of {name!r}, {shown}, is a link to a '
                       'place outside the folder of the model.')
    if not os.path.isfile(path):
      raise AuditError(f'external data of {name!r} is missing: {shown}.')
    available = os.path.getsize(path)
    _, expected = _count(tensor)
    offset = int(entries.get('offset', 0))
    length = int(entries.get('length', expected))
  except (OSError, ValueError) as error:
    raise AuditError(f'external data of {name!r} cannot be read: '
                     f'{one_line(error)}') from error
  if length != expected or offset < 0 or offset + length > available:
    raise AuditError(
        f'tensor {name!r} of shape {_short(tensor.dims)} needs {expected} '
        f'bytes; its external data has {length} at {offset} of {available}.')
  return path, offset, length


def _count(tensor: onnx.TensorProto) -> tuple[int, int]:
  """The number of elements of a tensor, and of their bytes."""
  name = one_line(tensor.name)
  try:
    bits = _BITS.get(tensor.data_type)
    if bits is None:
      bits = 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
  except KeyError as error:
    raise AuditError(f'tensor {name!r} has no valid dtype.') from error
  if any(d < 0 for d in tensor.dims):
    raise AuditError(
        f'tensor {name!r} has an invalid shape, {_short(tensor.dims)}.')
  count = math.prod(tensor.dims)
  return count, -(-count * bits // 8)


def _short(dims) -> str:
  return f'[{", ".join(map(str, dims[:8]))}{", ..." if len(dims) > 8 else ""}]'
