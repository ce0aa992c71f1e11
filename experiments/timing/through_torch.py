"""Layers computed by PyTorch, on a GPU if JAX computes on one."""

from collections.abc import Callable
import functools

import jax
import numpy as np
import torch  # pyrefly: ignore[missing-import]

from experiments.timing import calls
from experiments.timing import layers

_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def builders(threads: int) -> dict[str, Callable[..., calls.Call]]:
  """Returns the peers by name, one for each memory layout.

  Args:
    threads: number of CPU threads.

  Returns:
    Functions from layer, arrays and kind to a call, by name.

  Raises:
    ImportError: JAX computes on a GPU and PyTorch cannot.
  """
  where = device()
  torch.set_num_threads(threads)

  def build(channels_last, layer, arrays, kind):
    step, read = _step(where, channels_last, layer, arrays, kind,
                       torch.float32)

    def run():
      outputs = step()
      if where == 'cuda':
        torch.cuda.synchronize()
      return outputs

    return calls.Call(run, read)

  return {'torch': functools.partial(build, False),
          'torch channels-last': functools.partial(build, True)}


def steps(layer: layers.Layer, arrays: layers.Arrays, kind: str, dtype: str,
          count: int, *, tf32: bool) -> calls.Call:
  """Returns a call that computes a layer several times in sequence.

  Arrays are channels-last in memory, except in 1-D. On a GPU, the call replays
  a CUDA graph, because launches from Python take longer than the layers.

  Args:
    layer: layer to compute.
    arrays: result of `Layer.arrays`.
    kind: one of `calls.KINDS`.
    dtype: dtype to compute in.
    count: number of runs.
    tf32: whether a GPU may round float32 factors to 10 bits.

  Returns:
    The call.

  Raises:
    ImportError: JAX computes on a GPU and PyTorch cannot.
    NotImplementedError: PyTorch does not support the layer.
  """
  where = device()
  torch.backends.cuda.matmul.allow_tf32 = tf32
  torch.backends.cudnn.allow_tf32 = tf32
  step, read = _step(where, layer.num_axes > 1, layer, arrays, kind,
                     getattr(torch, dtype))

  def run():
    for _ in range(count - 1):
      step()
    return step()

  if where == 'cpu':
    return calls.Call(run, read)
  # The first run, in which cuDNN tries its algorithms, cannot be captured in a
  # graph, and must not run on the stream that captures graphs.
  torch.cuda.synchronize()
  with torch.cuda.stream(torch.cuda.Stream()):
    run()
  torch.cuda.synchronize()
  graph = torch.cuda.CUDAGraph()
  with torch.cuda.graph(graph):
    outputs = run()

  def replay():
    graph.replay()
    return outputs

  def wait(outputs):
    torch.cuda.synchronize()
    return outputs

  return calls.Call(replay, read, wait)


def device() -> str:
  """Returns PyTorch's name, 'cuda' or 'cpu', of the device that JAX uses.

  Raises:
    ImportError: JAX computes on a GPU and PyTorch cannot.
  """
  if jax.default_backend() != 'gpu':
    return 'cpu'
  if not torch.cuda.is_available():
    raise ImportError('finds no GPU, where JAX has one')
  torch.backends.cudnn.benchmark = True  # XLA also tries algorithms.
  return 'cuda'


def _step(where: str, channels_last: bool, layer: layers.Layer,
          arrays: layers.Arrays, kind: str, dtype: torch.dtype):
  """Returns a function that computes a layer, and one to read its outputs."""
  n = layer.num_axes
  if channels_last and n == 1:
    raise NotImplementedError('1-D has one layout')

  def place(array: np.ndarray, *order: int) -> torch.Tensor:
    tensor = torch.tensor(array.transpose(order).copy(), device=where,
                          dtype=dtype)
    return tensor.to(memory_format=_FORMATS[n]) if channels_last else tensor

  spatial = range(1, n + 1)
  inputs, kernel, cotangents = arrays
  inputs, cotangents = (
      place(a, 0, n + 1, *spatial) for a in (inputs, cotangents))
  kernel = place(kernel, n + 1, n, *range(n))
  layer_of = functools.partial(
      getattr(torch.nn.functional, f'conv_transpose{n}d'),
      stride=layer.stride, padding=layer.padding,
      output_padding=layer.output_padding, dilation=layer.dilation,
      groups=layer.groups)

  def forward():
    with torch.no_grad():
      return [layer_of(inputs, kernel)]

  def train():
    leaves = inputs.detach().requires_grad_(), kernel.detach().requires_grad_()
    outputs = layer_of(*leaves)
    return [outputs, *torch.autograd.grad(outputs, leaves, cotangents)]

  def read(outputs):
    arrays = [tensor.detach().float().cpu().numpy() for tensor in outputs]
    images = [a.transpose(0, *range(2, n + 2), 1) for a in arrays[:2]]
    return images + [a.transpose(*range(2, n + 2), 1, 0) for a in arrays[2:]]

  return forward if kind == 'forward' else train, read
