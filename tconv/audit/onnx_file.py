"""Reads ONNX files, which may be damaged or hostile, and writes them safely."""

from collections.abc import Collection
from collections.abc import Iterable
import os
import pathlib
import tempfile

from google.protobuf import message
import onnx

from tconv.audit import onnx_tensors
from tconv.audit.model import AuditError
from tconv.audit.onnx_tensors import one_line

_MOST_BYTES = 2**31 - 1  # Of a message of protobuf.
_MOST_NODES = 10**6  # After functions are expanded.
_ALIGNMENT = 4096  # Of external data, as ONNX recommends for memory mapping.


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
  try:
    if not path.is_file():
      raise AuditError('it is not a file.')
    if path.stat().st_size > _MOST_BYTES:
      raise AuditError(
          'it is larger than 2 GiB; keep the weights in external data.')
    data = path.read_bytes()
  except (OSError, ValueError) as error:
    raise AuditError(f'it cannot be read: {one_line(error)}') from error
  try:
    model = onnx.ModelProto.FromString(data)
  except message.DecodeError as error:
    raise AuditError('it is not an ONNX file, or is truncated.') from error
  if not model.graph.node or not model.opset_import:
    raise AuditError('it holds no ONNX model.')
  _check_functions(model)
  _check_order(model.graph)
  for tensor in onnx_tensors.tensors(model):
    onnx_tensors.check(tensor, path.parent)
  return model


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
  data_path = pathlib.Path(f'{path}.data')
  copy = onnx.ModelProto()
  copy.CopyFrom(model)
  copy.ir_version = max(4, copy.ir_version)  # The checker refuses IR 3.
  outside = [
      t for t in onnx_tensors.tensors(copy) if onnx_tensors.is_external(t)]
  own = [source, *{onnx_tensors.external(t, source.parent)[0] for t in outside}]
  outside += [t for t in copy.graph.initializer
              if t.name in external and not onnx_tensors.is_external(t)]
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
      new_data = new.with_name(data_path.name)
      if outside:
        _write_external(outside, new_data, source.parent)
      new.write_bytes(copy.SerializeToString())
      _check_model(new, source)
      if outside:
        os.replace(new_data, data_path)
      os.replace(new, path)
  except OSError as error:
    raise AuditError(f'{one_line(path.name)} cannot be written: '
                     f'{one_line(error.strerror or error)}') from error
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
      if onnx_tensors.is_external(tensor):
        old, offset, length = onnx_tensors.external(tensor, folder)
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
      tensor.data_location = onnx.TensorProto.EXTERNAL


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
            f'a node {one_line(node.op_type)} uses {one_line(name)!r}, which '
            'is not computed before; the graph may have a cycle.')
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
    for body in (nodes, *(graph.node for graph in onnx_tensors.nested(nodes))):
      for node in body:
        key = node.domain, node.op_type, node.overload
        if key in above or len(above) > 100:
          raise AuditError('its functions call each other without end.')
        if key in functions and key not in sizes:
          sizes[key] = size(functions[key].node, above | {key})
        total += 1 + sizes.get(key, 0)
    return total

  bodies = [(f.node, frozenset([key])) for key, f in functions.items()]
  bodies.append((model.graph.node, frozenset()))
  if max(size(*body) for body in bodies) > _MOST_NODES:
    raise AuditError(f'it has more than {_MOST_NODES} nodes.')
