"""Layers computed by onnxruntime: CPU and forward only, constant kernels."""

from collections.abc import Callable
import functools

import jax
import onnx  # pyrefly: ignore[missing-import]
import onnxruntime  # pyrefly: ignore[missing-import]

from experiments.timing import calls
from experiments.timing import layers

# Old versions, which every current onnxruntime reads.
_OPSET, _IR_VERSION = 11, 8


def builders(threads: int) -> dict[str, Callable[..., calls.Call]]:
  """Returns the peer by name: a function from layer, arrays and kind to a call.

  Raises:
    ImportError: JAX computes on a GPU.
  """
  if jax.default_backend() != 'cpu':
    raise ImportError('is timed on a CPU only, and JAX has a GPU')
  return {'onnxruntime': functools.partial(_build, threads)}


def _build(threads: int, layer: layers.Layer, arrays: layers.Arrays,
           kind: str) -> calls.Call:
  if kind != 'forward':
    raise NotImplementedError('does not train')
  n = layer.num_axes
  inputs, kernel, _ = arrays
  inputs = inputs.transpose(0, n + 1, *range(1, n + 1)).copy()
  kernel = kernel.transpose(n + 1, n, *range(n)).copy()
  each = lambda value: [value] * n
  node = onnx.helper.make_node(
      'ConvTranspose', ['inputs', 'kernel'], ['outputs'],
      kernel_shape=each(layer.taps), strides=each(layer.stride),
      pads=each(layer.padding) * 2, dilations=each(layer.dilation),
      output_padding=each(layer.output_padding), group=layer.groups)
  image = functools.partial(onnx.helper.make_tensor_value_info,
                            elem_type=onnx.TensorProto.FLOAT)
  graph = onnx.helper.make_graph(
      [node], 'layer', [image('inputs', shape=inputs.shape)],
      [image('outputs', shape=None)],
      [onnx.numpy_helper.from_array(kernel, 'kernel')])
  model = onnx.helper.make_model(
      graph, ir_version=_IR_VERSION,
      opset_imports=[onnx.helper.make_opsetid('', _OPSET)])

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  # Without this, its threads wait in a busy loop and slow down the next peer.
  options.add_session_config_entry('session.intra_op.allow_spinning', '0')
  session = onnxruntime.InferenceSession(
      model.SerializeToString(), options, providers=['CPUExecutionProvider'])
  placed = {'inputs': onnxruntime.OrtValue.ortvalue_from_numpy(inputs)}
  return calls.Call(
      lambda: session.run_with_ort_values(['outputs'], placed),
      lambda outputs: [
          outputs[0].numpy().transpose(0, *range(2, n + 2), 1)])
