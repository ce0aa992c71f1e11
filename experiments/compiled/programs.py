"""Compiles a layer of a library, in a given direction and dtype."""

from collections.abc import Callable
import dataclasses
from typing import Any

from experiments.compiled import facts
from experiments.compiled import hlo
from experiments.compiled import targets
from experiments.timing import layers
from experiments.timing import through_jax

# Implementations compiled for each target. For a TPU, compilation takes seconds
# and the layers of linen and Flax give the programs of tconv.nnx and lax.
NAMES = {'h100': ('tconv', 'tconv.nnx', 'tconv.linen', 'lax', 'flax'),
         'v5e': ('tconv', 'tconv.nnx', 'lax')}


@dataclasses.dataclass(frozen=True)
class Summary:
  """What a program asks of a device.

  Attributes:
    calls: cuDNN's convolutions and matrix products, as in `facts.calls`.
    inserted: arrays with zeros between the elements of an image.
    multiply_adds: number of multiply-adds, counted in the program.
    temporary_bytes: bytes of memory beyond arguments and results.
    flops: XLA's estimate of operations, two for a multiply-add.
    bytes_accessed: XLA's estimate of bytes read and written.
  """
  calls: tuple[facts.Call, ...]
  inserted: tuple[hlo.Array, ...]
  multiply_adds: int
  temporary_bytes: int
  flops: float
  bytes_accessed: float


def summarize(target: str, function: Callable[..., Any], *arguments: Any,
              at_least: int = 0) -> Summary:
  """Compiles a function and summarizes the program.

  Args:
    target: one of `targets.NAMES`.
    function: function to compile.
    *arguments: pytrees of results of `targets.placed`.
    at_least: smallest size of an array with inserted zeros that counts.

  Returns:
    The summary.
  """
  compiled: Any = targets.compiled(target, function, *arguments)
  costs = compiled.cost_analysis() or {}
  program = hlo.parse(compiled.as_text())
  memory = compiled.memory_analysis()
  return Summary(
      facts.calls(program), facts.inserted_zeros(program, at_least),
      facts.multiply_adds(program), memory.temp_size_in_bytes,
      costs.get('flops', 0.), costs.get('bytes accessed', 0.))


def of_layer(target: str, name: str, layer: layers.Layer, kind: str,
             dtype: str) -> Summary:
  """Compiles a layer and summarizes the program.

  Args:
    target: one of `targets.NAMES`.
    name: implementation, one of `NAMES[target]`.
    layer: layer to compute.
    kind: one of `calls.KINDS`.
    dtype: dtype of all arrays.

  Returns:
    The summary.

  Raises:
    NotImplementedError: the implementation does not support the layer.
  """
  function, shapes = through_jax.program(name, layer, kind)
  return summarize(
      target, function,
      *(targets.placed(target, shape.shape, dtype) for shape in shapes),
      at_least=image_size(layer))


def image_size(layer: layers.Layer) -> int:
  """Returns the smallest size that an array may have to be a fine image.

  A coarse image with inserted zeros may be a little smaller than the fine
  image, and has another number of channels. So this is half the pixels, times
  the smaller number of channels.
  """
  return layer.output_pixels * min(layer.fan_in, layer.fan_out) // 2
