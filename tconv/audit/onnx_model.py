"""ONNX files as models to audit and repair.

    model = onnx_model.load('model.onnx')
    activations = model.run({'image': image})
    model.replaced({'up1': weights}).save('repaired.onnx')
    model.filtered(['up1']).save('filtered.onnx')

onnxruntime runs the models, on the CPU.
"""

from collections.abc import Collection
from collections.abc import Mapping
import functools
import os
import pathlib
import threading

import numpy as np
import onnx
from onnx import helper
import onnxruntime

from tconv.audit import model as model_lib
from tconv.audit import onnx_file
from tconv.audit import onnx_filter
from tconv.audit import onnx_graph
from tconv.audit import onnx_patterns
from tconv.audit import onnx_tensors
from tconv.audit.model import AuditError
from tconv.audit.onnx_tensors import one_line

_SILENT = 4  # Errors are raised, too.
_LONGEST_RUN = 600  # Seconds.


def load(path: str | os.PathLike) -> 'OnnxModel':
  """Reads an ONNX file.

  Args:
    path: path of the file. External data must be in the same folder.

  Returns:
    The model.

  Raises:
    AuditError: the file cannot be read, or is not a valid model.
  """
  name = one_line(os.path.basename(path))
  try:
    return OnnxModel(onnx_file.read(path), path)
  except AuditError as error:
    raise AuditError(f'{name}: {error}') from error
  except RecursionError as error:
    raise AuditError(f'{name}: it is nested too deeply.') from error


class OnnxModel(model_lib.Model):
  """A model of an ONNX file. See `tconv.audit.model.Model`."""

  def __init__(self, proto: onnx.ModelProto, path: str | os.PathLike,
               external: Collection[str] = frozenset(), shapes=None):
    """Finds the upsamplers of a checked model; `load` is the way to get one.

    Args:
      proto: the model.
      path: path of the file that it was read from.
      external: names of initializers that `save` writes to external data.
      shapes: shapes of its values if they are known.
    """
    self._proto, self._path = proto, pathlib.Path(path)
    self._external = external
    self._graph = onnx_graph.Graph(proto, self._path.parent, shapes)
    self._found, self.unknown = onnx_patterns.find(self._graph)
    self.name = one_line(self._path.name)
    self.upsamplers = [found.upsampler for found in self._found]
    constants = {tensor.name for tensor in proto.graph.initializer}
    self.inputs = [self._input(value) for value in proto.graph.input
                   if value.name not in constants]
    self.versions = {
        'onnx': onnx.__version__, 'onnxruntime': onnxruntime.__version__,
        'ir': str(proto.ir_version),
        **{f'opset {one_line(o.domain or "ai.onnx")}': str(o.version)
           for o in proto.opset_import}}

  def run(self, feeds: Mapping[str, np.ndarray]) -> model_lib.Activations:
    weighted = [f for f in self._found if f.kernel is not None]
    outputs = [value.name for value in self._proto.graph.output
               if value.type.HasField('tensor_type')
               or not value.type.WhichOneof('value')]
    names = dict.fromkeys(
        [v for f in weighted for v in (f.before, f.after)] + outputs)
    wanted = [name for name in names if name not in feeds]
    options = onnxruntime.RunOptions()
    options.log_severity_level = _SILENT
    # It may hold a loop without an end.
    timer = threading.Timer(_LONGEST_RUN, setattr, (options, 'terminate', True))
    timer.daemon = True
    try:
      session = self._session
      timer.start()
      values = session.run(wanted, dict(feeds), options)
    except Exception as error:  # onnxruntime has many, without a common base.
      raise AuditError(f'{self.name} does not run: '
                       f'{one_line(error)}') from error
    finally:
      timer.cancel()
    values = dict(zip(wanted, values)) | dict(feeds)
    side = lambda name: {
        f.upsampler.name: _floats(np.moveaxis(
            np.asarray(values[name(f)]), 1, -1)) for f in weighted}
    results = {}
    for name in outputs:
      array = values[name]
      if isinstance(array, np.ndarray) and array.ndim > 2 and (
          array.dtype.kind in 'fiub'):
        axis = _channel_axis(self._graph.shapes.get(name), array.shape)
        results[name] = _floats(np.moveaxis(array, axis, -1))
    return model_lib.Activations(
        side(lambda f: f.before), side(lambda f: f.after), results)

  def replaced(self, weights: Mapping[str, model_lib.Weights]) -> 'OnnxModel':
    """See `tconv.audit.model.Model.replaced`.

    Layers that share their weights change together: it is enough to name one,
    and those that are named must get the same weights.
    """
    found = {f.upsampler.name: f for f in self._found}
    proto = onnx.ModelProto()
    proto.CopyFrom(self._proto)
    tensors = onnx_graph.Graph(
        proto, self._path.parent, self._graph.shapes).tensors
    changes = [change for name, new in weights.items()
               for change in _changes(name, found.get(name), new)]
    arrays = {constant.root: onnx_tensors.values(
        tensors[constant.root], self._path.parent).ravel().copy()
              for _, constant, _ in changes}
    with np.errstate(over='ignore'):
      for _, constant, new in changes:
        array = arrays[constant.root]
        array[constant.index.ravel()] = new.ravel().astype(array.dtype)
      for name, constant, new in changes:
        array = arrays[constant.root]
        written = array[constant.index]
        if not np.array_equal(written, new.astype(array.dtype)):
          raise AuditError(f'{name!r} shares parameters, between layers or '
                           'phases, that were given different values.')
        if not np.isfinite(written.astype(np.float64)).all():
          raise AuditError(
              f'the new weights of {name!r} are not finite in {array.dtype}.')
    external = set(self._external)
    for root, array in arrays.items():
      if onnx_tensors.is_external(tensors[root]):
        external.add(root)
      onnx_tensors.set_values(
          tensors[root], array.reshape(tuple(tensors[root].dims)))
    return OnnxModel(proto, self._path, external, self._graph.shapes)

  def filtered(self, names: Collection[str]) -> 'OnnxModel':
    known = {f.upsampler.name: f for f in self._found if f.kernel is not None}
    for name in names:
      if name not in known:
        raise AuditError(f'{name!r} is not an upsampler with weights.')
    proto = onnx.ModelProto()
    proto.CopyFrom(self._proto)
    shapes = onnx_filter.insert(
        proto, self._graph, [known[name] for name in names])
    return OnnxModel(proto, self._path, self._external, shapes)

  def save(self, path: str | os.PathLike) -> None:
    """Writes the model to a new file, once it is complete and valid.

    External data stays external, in a new file beside it. A file of IR version
    3 is raised to 4; the opset does not change.

    Args:
      path: path of the file; not that of a file of the model that was read.

    Raises:
      AuditError: the file cannot be written, or would not be valid.
    """
    onnx_file.write(self._proto, path, self._path, self._external)

  @functools.cached_property
  def _session(self) -> onnxruntime.InferenceSession:
    """A session that also gives what is before and after upsamplers."""
    proto = onnx.ModelProto()
    proto.CopyFrom(self._proto)
    graph = proto.graph
    # onnxruntime refuses a name that several nodes have.
    for node, name in zip(graph.node, self._graph.names):
      node.name = name
    present = {value.name for value in (*graph.output, *graph.input)}
    for found in self._found:
      for name in (found.before, found.after):
        if found.kernel is not None and name not in present:
          present.add(name)
          graph.output.add(name=name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.add_session_config_entry(
        'session.model_external_initializers_file_folder_path',
        os.path.realpath(self._path.parent))
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=['CPUExecutionProvider'])

  def _input(self, value: onnx.ValueInfoProto) -> model_lib.Input:
    name, kind = onnx_graph.shown(value.name), value.type.tensor_type
    try:
      dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError as error:
      raise AuditError(f'input {name} is not a tensor.') from error
    shape = self._graph.shapes.get(value.name)
    if shape is None:
      raise AuditError(f'input {name} has no number of axes.')
    is_image = len(shape) in (3, 4, 5) and (
        dtype.kind == 'f' or dtype == np.uint8)
    axis = _channel_axis(shape, shape) if is_image else None
    return model_lib.Input(value.name, shape, dtype, axis)


def _changes(name, found, new: model_lib.Weights):
  """Yields (name, constant, new values) for the parameters of an upsampler."""
  if found is None or found.kernel is None:
    raise AuditError(f'{name!r} has no weights to replace.')
  if found.upsampler.obstacle:
    raise AuditError(
        f'{name!r} cannot be repaired: {found.upsampler.obstacle}.')
  yield name, found.kernel, _like(name, 'kernel', new.kernel, found.kernel)
  if (new.bias is None) != (found.bias is None):
    raise AuditError(f'the bias of {name!r} can be neither added nor removed.')
  if found.bias is not None:
    bias = _like(name, 'bias', new.bias, found.bias)
    if not np.array_equal(bias, found.bias.values):
      if found.bias.obstacle:
        raise AuditError(f'{name!r} cannot be repaired: {found.bias.obstacle}.')
      yield name, found.bias, bias


def _like(name, part, array, constant) -> np.ndarray:
  array = np.asarray(array)
  if array.shape != constant.values.shape:
    raise AuditError(f'the {part} of {name!r} must have shape '
                     f'{constant.values.shape}; got {array.shape}.')
  if not np.isfinite(array).all():
    raise AuditError(f'the {part} of {name!r} must be finite.')
  return array


def _channel_axis(declared: onnx_graph.Shape | None, actual) -> int:
  """Axis of the channels: the second, or the last if it is more likely."""
  shape = declared or (None, None)
  if len(shape) != len(actual) or shape[1] is None and shape[-1] is None:
    shape = actual
  channels = range(1, 5)
  if len(shape) == 4 and shape[-1] in channels and shape[1] not in channels:
    return 3
  if len(shape) == 3 and shape[-1] is not None and shape[1] is None:
    return 2
  return 1


def _floats(array: np.ndarray) -> np.ndarray:
  return array if array.dtype == np.float64 else array.astype(np.float32)
