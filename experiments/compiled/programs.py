"""What is compiled: a layer, by whom, in which direction and dtype."""

from collections.abc import Callable
import dataclasses
from typing import Any

from experiments.compiled import facts
from experiments.compiled import hlo
from experiments.compiled import targets


@dataclasses.dataclass(frozen=True)
class Summary:
  """What a program asks of a device.

  Attributes:
    calls: what is left to cuDNN, in loops once each.
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
      facts.cudnn_calls(program), facts.inserted_zeros(program, at_least),
      facts.multiply_adds(program), memory.temp_size_in_bytes,
      costs.get('flops', 0.), costs.get('bytes accessed', 0.))
