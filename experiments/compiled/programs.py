"""What is compiled: a layer, by whom, in which direction and dtype."""

from collections.abc import Callable
import dataclasses
from typing import Any

from experiments.compiled import facts
from experiments.compiled import hlo
from experiments.compiled import targets
from experiments.timing import layers
from experiments.timing import through_jax

# What is compiled for each target. For a TPU, compilation takes seconds; there
# the layers of linen and of Flax give the programs of tconv.nnx and lax.
NAMES = {'h100': ('tconv', 'tconv.nnx', 'tconv.linen', 'lax', 'flax'),
         'v5e': ('tconv', 'tconv.nnx', 'lax')}

@dataclasses.dataclass(frozen=True)
class Summary:
  """What a program asks of a device.

  Attributes:
    calls: convolutions by cuDNN and products of matrices, in loops once each.
    inserted: arrays with zeros between the elements of an image.
    multiply_adds: counted from the program.
    temporary_bytes: of memory beside arguments and results.
    flops: as XLA estimates them, twice the multiply-adds.
    bytes_accessed: as XLA estimates them.
  """
  calls: tuple[facts.Call, ...]
  inserted: tuple[hlo.Array, ...]
  multiply_adds: int
  temporary_bytes: int
  flops: float
  bytes_accessed: float


def summarize(target: str, function: Callable[..., Any], *arguments: Any,
              at_least: int = 0) -> Summary:
  """Compiles a function and reads the program.

  Args:
    target: one of `targets.NAMES`.
    function: to compile.
    *arguments: shapes, or trees of them, as `targets.placed` gives them.
    at_least: number of elements from which on an array with zeros inserted
      counts, as in `facts.inserted_zeros`.

  Returns:
    What the program asks of the device.
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
  """Compiles a layer and reads the program.

  Args:
    target: one of `targets.NAMES`.
    name: who computes it, one of `NAMES[target]`.
    layer: to compute.
    kind: one of `calls.KINDS`.
    dtype: of all arrays.

  Returns:
    What the program asks of the device.

  Raises:
    NotImplementedError: `name` cannot do it; the message says why.
  """
  function, shapes = through_jax.program(name, layer, kind)
  return summarize(
      target, function,
      *(targets.placed(target, shape.shape, dtype) for shape in shapes),
      at_least=image_size(layer))


def image_size(layer: layers.Layer) -> int:
  """The number of elements from which on an array may be a fine image.

  A coarse image among zeros may be a little smaller than the fine one, and has
  its own number of channels.

  Args:
    layer: that the image belongs to.

  Returns:
    Half the elements of the fine image, with the fewer channels.
  """
  return layer.output_pixels * min(layer.fan_in, layer.fan_out) // 2
