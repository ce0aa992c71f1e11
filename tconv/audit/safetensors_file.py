"""Audits kernels alone, from a safetensors file.

    tconv audit weights.safetensors --layer up.0.weight:2

Such a file holds tensors, and nothing says what a model does with them. So the
layers and their strides are given by name, and the report tells only what the
kernels could do. Nothing in the file is ever run or unpickled.
"""

from collections.abc import Sequence
import math
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from tconv import dialects
from tconv.audit import findings
from tconv.audit import model as model_lib
from tconv.audit.onnx_tensors import one_line

_DTYPES = {'F16': 'float16', 'BF16': 'bfloat16', 'F32': 'float32',
           'F64': 'float64'}
_MOST_GAINS = 2**28  # Of a kernel; their number grows with the stride.
_LISTED = 20  # Tensors in a message.
_KERNELS = {'torch': dialects.kernel_from_torch,
            'flax': dialects.kernel_from_flax}
_NO_MODEL = ('the file holds no model, and only one that runs can show whether '
             'it does')


def audit(path: pathlib.Path, layers: Sequence[str], layout: str = 'torch'
          ) -> dict[str, Any]:
  """Audits kernels of transposed convolutions.

  Args:
    path: path of a safetensors file.
    layers: name of a tensor and strides of its layer, such as 'up.weight:2' or
      'up.weight:4,2'. A single stride stands for all axes.
    layout: 'torch' for kernels [I, O / groups, *K], or 'flax' for [*K, I, O].

  Returns:
    The report, as `tconv/audit/schema.json` describes it.

  Raises:
    AuditError: the file cannot be read, or does not have such a layer.
  """
  name = one_line(path.name)
  if not path.is_file():
    raise model_lib.AuditError(f'{name}: it is not a file.')
  try:
    with safetensors.safe_open(path, 'numpy') as file:
      if not layers:
        raise model_lib.AuditError(
            f'{name}: --layer NAME:STRIDE is missing. Tensors that may be '
            f'kernels: {_candidates(file)}.')
      upsamplers = [_upsampler(file, layer, layout) for layer in layers]
  except (safetensors.SafetensorError, OSError) as error:
    raise model_lib.AuditError(
        f'{name} cannot be read: {one_line(error)}') from error
  return findings.of_kernels(
      name, upsamplers, {'safetensors': safetensors.__version__})


def _candidates(file) -> str:
  """Names and shapes of the tensors that may be kernels."""
  shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
  found = [f'{one_line(name)} {shape}' for name, shape in shapes.items()
           if 3 <= len(shape) <= 5]
  more = len(found) - _LISTED
  return (', '.join(found[:_LISTED]) or 'none') + (
      f' and {more} more' if more > 0 else '')


def _upsampler(file, layer: str, layout: str) -> model_lib.Upsampler:
  """Reads the kernel of a layer."""
  name, _, given = layer.rpartition(':')
  shown = one_line(layer)
  try:
    strides = tuple(map(int, given.split(',')))
  except ValueError:
    strides = ()
  if not name or not strides or min(strides) < 1 or max(strides) == 1:
    raise model_lib.AuditError(
        '--layer must be NAME:STRIDE or NAME:STRIDE,STRIDE with strides above '
        f'1, such as up.weight:2; got {shown}.')
  if name not in file.keys():
    raise model_lib.AuditError(
        f'--layer {shown}: there is no such tensor. Tensors that may be '
        f'kernels: {_candidates(file)}.')
  tensor = file.get_slice(name)
  shape, kind = tensor.get_shape(), tensor.get_dtype()
  if not 3 <= len(shape) <= 5 or 0 in shape or kind not in _DTYPES:
    raise model_lib.AuditError(
        f'--layer {shown}: a kernel has 3 to 5 axes and a dtype of '
        f'{", ".join(_DTYPES)}; got {shape} of {kind}.')
  axes = len(shape) - 2
  strides = strides * axes if len(strides) == 1 else strides
  if len(strides) != axes:
    raise model_lib.AuditError(
        f'--layer {shown}: a kernel of shape {shape} needs a stride for each '
        f'of {axes} axes, or one for all.')
  with np.errstate(over='ignore'):
    kernel = np.asarray(_KERNELS[layout](
        jnp.asarray(file.get_tensor(name).astype(np.float32))))
  if not np.isfinite(kernel).all():
    raise model_lib.AuditError(
        f'--layer {shown}: its values are not finite in float32.')
  if math.prod(strides) * math.prod(kernel.shape[-2:]) > _MOST_GAINS:
    raise model_lib.AuditError(
        f'--layer {shown}: its strides are too large.')
  return model_lib.Upsampler(
      one_line(name), 'ConvTranspose', strides, kernel.shape[:-2], (1,) * axes,
      weights=model_lib.Weights(kernel), offset=(0,) * axes,
      obstacle=_NO_MODEL, dtype=_DTYPES[kind])
