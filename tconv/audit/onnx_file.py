"""Reads ONNX files, which may be damaged or hostile, and writes them safely.

Nothing of a file is believed before it is checked: each tensor must have as
many bytes as its shape says, and data in other files must lie in the model's
folder.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
import math
import os
import pathlib
import tempfile

from google.protobuf import message
import numpy as np
import onnx
from onnx import helper
from onnx import numpy_helper

from tconv.audit.model import AuditError

_MOST_BYTES = 2**31 - 1  # Of a message of protobuf.
_MOST_NODES = 10**6  # After functions are expanded.
_ALIGNMENT = 4096  # Of external data, as ONNX recommends for memory mapping.
# Bits of the dtypes that pack several elements into a byte.
_BITS = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4,
         onnx.TensorProto.FLOAT4E2M1: 4, onnx.TensorProto.INT2: 2,
         onnx.TensorProto.UINT2: 2}
_IS_EXTERNAL = onnx.TensorProto.EXTERNAL


def one_line(error: object) -> str:
  """The first line of a message, without characters that move the cursor."""
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return ''.join(c if c.isprintable() else '?' for c in lines[0])[:300]


def read(path: str | os.PathLike) -> onnx.ModelProto:
  """Reads and checks a model; external data stays where it is.

  Args:
    path: path of the file.

  Returns:
    The model.

  Raises:
    AuditError: the file cannot be read, or is not a valid ONNX file.
  """
  path = pathlib.Path(path)
  name = one_line(path.name)
  try:
    if not path.is_file():
      raise AuditError(f'{name} is not a file.')
    size = path.stat().st_size
    if size > _MOST_BYTES:
      raise AuditError(
          f'{name} is larger than 2 GiB; keep its weights in external data.')
    data = path.read_bytes()
  except (OSError, ValueError) as error:
    raise AuditError(f'{name} cannot be read: {one_line(error)}') from error
  try:
    model = onnx.ModelProto.FromString(data)
  except message.DecodeError as error:
    raise AuditError(f'{name} is not an ONNX file, or is truncated.') from error
  if not model.graph.node or not model.opset_import:
    raise AuditError(f'{name} holds no ONNX model.')
  _check_functions(model)
  _check_order(model.graph)
  for tensor in tensors(model):
    _check(tensor, path.parent)
  return model


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
  return tensor.data_location == _IS_EXTERNAL


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
      path, offset, length = _external(tensor, folder)
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


def write(model: onnx.ModelProto, path: str | os.PathLike,
          source: str | os.PathLike, external: Collection[str]) -> None:
  """Writes a checked model to a new file; external data goes beside it.

  The files get their names once they are complete.

  Args:
    model: model to write. Files of external data are those of `source`.
    path: path of the new file. External data goes to this path + '.data'.
    source: path of the file that the model was read from.
    external: names of further initializers that belong in external data.

  Raises:
    AuditError: a file of the source would be overwritten, the model is not
      valid, or a file cannot be written.
  """
  path, source = pathlib.Path(path), pathlib.Path(source)
  data_path = path.with_name(path.name + '.data')
  copy = onnx.ModelProto()
  copy.CopyFrom(model)
  copy.ir_version = max(4, copy.ir_version)  # The checker refuses IR 3.
  outside = [t for t in tensors(copy) if is_external(t)]
  own = [source, *{_external(t, source.parent)[0] for t in outside}]
  outside += [t for t in copy.graph.initializer
              if t.name in external and not is_external(t)]
  try:
    for target in (path, data_path)[:2 if outside else 1]:
      for file in own:
        if target.exists() and os.path.samefile(target, file):
          raise AuditError(
              f'{one_line(target.name)} belongs to the model that was read, '
              'which is never changed; choose another name.')
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix='.tconv-') as staging:
      new = pathlib.Path(staging, path.name)
      if outside:
        new_data = new.with_name(data_path.name)
        _write_external(outside, new_data, source.parent)
      new.write_bytes(copy.SerializeToString())
      _check_model(new, source)
      if outside:
        os.replace(new_data, data_path)
      os.replace(new, path)
  except OSError as error:
    raise AuditError(f'{one_line(path.name)} cannot be written: '
                     f'{one_line(error.strerror or error)}.') from error
  except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError,
          message.EncodeError, ValueError) as error:
    raise AuditError(f'{one_line(path.name)} would not be a valid model: '
                     f'{one_line(error)}') from error


def _check_model(new: pathlib.Path, source: pathlib.Path) -> None:
  """Checks a model; its shapes only if those of the source are valid."""
  inference_error = onnx.shape_inference.InferenceError
  try:
    onnx.checker.check_model(new, full_check=True)
  except inference_error:
    try:
      onnx.checker.check_model(source, full_check=True)
    except inference_error:
      onnx.checker.check_model(new)
    else:
      raise


def _write_external(outside: Iterable[onnx.TensorProto], path: pathlib.Path,
                    folder: pathlib.Path) -> None:
  """Moves the data of tensors to one file, a piece at a time."""
  with open(path, 'wb') as file:
    for tensor in outside:
      file.write(b'\0' * (-file.tell() % _ALIGNMENT))
      start = file.tell()
      if is_external(tensor):
        old, offset, length = _external(tensor, folder)
        with open(old, 'rb') as data:
          data.seek(offset)
          while length:
            piece = data.read(min(length, 2**24))
            if not piece:
              raise AuditError(f'{one_line(old)} became shorter.')
            file.write(piece)
            length -= len(piece)
      else:
        file.write(tensor.raw_data)
      entries = dict(location=path.name, offset=start,
                     length=file.tell() - start)
      tensor.ClearField('raw_data')
      tensor.ClearField('external_data')
      for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
      tensor.data_location = _IS_EXTERNAL


def _check(tensor: onnx.TensorProto, folder: pathlib.Path) -> None:
  """Checks that a tensor has as many elements as it claims."""
  name = one_line(tensor.name)
  count, length = _count(tensor)
  if is_external(tensor):
    _external(tensor, folder)
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


def _external(tensor: onnx.TensorProto, folder: str | os.PathLike
              ) -> tuple[str, int, int]:
  """The file, offset and length of external data, if it is in the folder."""
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


def _check_order(graph: onnx.GraphProto) -> None:
  """Checks that each value is computed once, and before it is used."""
  known = {i.name for i in graph.input} | {i.name for i in graph.initializer}
  known |= {i.values.name for i in graph.sparse_initializer}
  if len({i.name for i in graph.initializer}) < len(graph.initializer):
    raise AuditError('two initializers have the same name.')
  for node in graph.node:
    for name in node.input:
      if name and name not in known:
        raise AuditError(
            f'{one_line(name)!r} is used by a node {one_line(node.op_type)} '
            'before it is computed, or never computed; the graph may have a '
            'cycle.')
    for name in filter(None, node.output):
      if name in known:
        raise AuditError(f'{one_line(name)!r} is computed twice.')
      known.add(name)


def _check_functions(model: onnx.ModelProto) -> None:
  """Checks that the functions of a model can be expanded."""
  functions = {(f.domain, f.name, f.overload): f for f in model.functions}
  sizes = {}

  def size(nodes, above):
    total = 0
    for body in (nodes, *(graph.node for graph in nested(nodes))):
      for node in body:
        key = node.domain, node.op_type, node.overload
        if key in above or len(above) > 100:
          raise AuditError('its functions call each other without end.')
        if key in functions and key not in sizes:
          sizes[key] = size(functions[key].node, above | {key})
        total += 1 + sizes.get(key, 0)
    return total

  if size(model.graph.node, frozenset()) > _MOST_NODES:
    raise AuditError(f'it has more than {_MOST_NODES} nodes.')
