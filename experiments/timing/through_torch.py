"""Layers computed by PyTorch; by cuDNN where JAX has an NVIDIA GPU, too."""

from collections.abc import Callable
import functools

import jax
import numpy as np
import torch  # pyrefly: ignore[missing-import]

from experiments.timing import calls
from experiments.timing import layers

_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def builders(threads: int) -> dict[str, Callable[..., calls.Call]]:
  """The peers, one for each layout.

  Args:
    threads: to compute with on a CPU.

  Returns:
    By name, functions of layer, arrays and kind as `through_jax.build` is one.

  Raises:
    ImportError: JAX computes on a GPU and PyTorch cannot.
  """
  device = 'cuda' if jax.default_backend() == 'gpu' else 'cpu'
  if device == 'cuda':
    if not torch.cuda.is_available():
      raise ImportError('finds no GPU, where JAX has one')
    torch.backends.cudnn.benchmark = True  # XLA tries algorithms out, too.
  torch.set_num_threads(threads)
  return {'torch': functools.partial(_build, device, False),
          'torch channels-last': functools.partial(_build, device, True)}


def _build(device: str, channels_last: bool, layer: layers.Layer,
           arrays: layers.Arrays, kind: str) -> calls.Call:
  n = layer.num_axes
  if channels_last and n == 1:
    raise NotImplementedError('1-D has one layout')

  def place(array: np.ndarray, *order: int) -> torch.Tensor:
    tensor = torch.tensor(array.transpose(order).copy(), device=device)
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

  def run():
    outputs = forward() if kind == 'forward' else train()
    if device == 'cuda':
      torch.cuda.synchronize()
    return outputs

  def read(outputs):
    arrays = [tensor.detach().cpu().numpy() for tensor in outputs]
    images = [a.transpose(0, *range(2, n + 2), 1) for a in arrays[:2]]
    return images + [a.transpose(*range(2, n + 2), 1, 0) for a in arrays[2:]]

  return calls.Call(run, read)
