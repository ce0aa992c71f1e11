"""Facts about a compiled program, read from its text."""

import dataclasses
import math
import re

from experiments.compiled import hlo

_CUDNN = '__cudnn$'
# These return the values of their first operand in another order or type.
_MOVES = {'bitcast', 'convert', 'copy', 'reshape', 'reverse', 'slice',
          'transpose'}
_CONVOLUTIONS = {'convolution', 'custom-call', 'dot'}


@dataclasses.dataclass(frozen=True)
class Call:
  """A convolution by cuDNN, or a matrix product.

  Attributes:
    kind: 'convForward', 'convBackwardInput' or 'convBackwardFilter', XLA's
      names of cuDNN's functions; or 'matmul'.
    operands: arrays that are convolved or multiplied.
    result: resulting array.
  """
  kind: str
  operands: tuple[hlo.Array, ...]
  result: hlo.Array

  def __str__(self) -> str:
    operands = ', '.join(map(str, self.operands))
    return f'{self.kind}({operands}) -> {self.result}'


def calls(program: hlo.Program) -> tuple[Call, ...]:
  """Lists convolutions and matrix products of a GPU program, sorted by kind.

  A call in a loop is listed once.
  """
  found = []
  for computation, instruction, _ in program.walk():
    if kind := _kind(instruction):
      found.append(Call(kind, _operands(computation, instruction),
                        instruction.results[0]))
  return tuple(sorted(found, key=str))


def inserted_zeros(program: hlo.Program, at_least: int
                   ) -> tuple[hlo.Array, ...]:
  """Lists arrays of a GPU program with zeros between elements.

  An array counts if it is written to memory, or read by a convolution or a
  matrix product. Padding inside a fused sum does not count.

  Args:
    program: program compiled for a GPU.
    at_least: smallest number of elements that counts, which tells images from
      kernels.

  Returns:
    The arrays, with their zeros. For a convolution that dilates its operand,
    the operand.
  """
  found = []
  for computation, instruction, _ in program.walk():
    if instruction.opcode == 'pad':
      if _has_inner_zeros(computation, instruction) and _is_whole(
          computation, instruction):
        found.append(instruction.results[0])
    elif 'lhs_dilate' in _window(instruction):
      found.append(_operands(computation, instruction)[0])
  return tuple(array for array in found if array.size >= at_least)


def multiply_adds(program: hlo.Program) -> int:
  """Counts the multiply-adds of a GPU program.

  A convolution has one for each tap and position, including those in its
  padding, as in `timing.layers.Layer.multiply_adds`. Elementwise products of
  two floating-point arrays count as well, those of an array and a scalar not.
  """
  return sum(times * _products(computation, instruction)
             for computation, instruction, times in program.walk())


def all_gathered(program: hlo.Program) -> tuple[hlo.Array, ...]:
  """Lists the arrays, in full, that devices gather from each other."""
  return tuple(
      instruction.results[-1] for _, instruction, _ in program.walk()
      if instruction.opcode in ('all-gather', 'all-gather-start'))


def _kind(instruction: hlo.Instruction) -> str | None:
  target = _target(instruction)
  if target.startswith(f'{_CUDNN}conv'):
    return target.removeprefix(_CUDNN)
  if instruction.opcode == 'dot' or target.startswith('__cublas$'):
    return 'matmul'
  return None


def _target(instruction: hlo.Instruction) -> str:
  return instruction.attribute('custom_call_target') or ''


def _window(instruction: hlo.Instruction) -> dict[str, tuple[int, ...]]:
  """Returns the numbers of a window by name, without the padding."""
  return {name: tuple(map(int, numbers.split('x'))) for name, numbers in (
      re.findall(r'(\w+)=([\dx]+)(?= |$)',
                 instruction.attribute('window') or ''))}


def _operands(computation: hlo.Computation, instruction: hlo.Instruction
              ) -> tuple[hlo.Array, ...]:
  return tuple(array for name in instruction.operands
               for array in computation[name].results)


def _has_inner_zeros(computation, pad) -> bool:
  """Returns whether a pad inserts anything between elements."""
  shape = _operands(computation, pad)[0].shape
  steps = (pad.attribute('padding') or '').split('x')
  return any(size > 1 and step.count('_') == 2 and not step.endswith('_0')
             for size, step in zip(shape, steps))


def _is_whole(computation, instruction) -> bool:
  """Returns whether an array is a result or an operand of a convolution."""
  return instruction.is_root or any(
      instruction.name in user.operands and (
          user.opcode in _CONVOLUTIONS or user.opcode == 'tuple'
          or user.opcode in _MOVES and _is_whole(computation, user))
      for user in computation.values())


def _products(computation, instruction) -> int:
  """Counts the multiply-adds of one instruction."""
  target = _target(instruction)
  if target.startswith(f'{_CUDNN}conv') or instruction.opcode == 'convolution':
    return _of_convolution(
        target, instruction, _operands(computation, instruction))
  if instruction.opcode == 'dot':
    lhs = _operands(computation, instruction)[0].shape
    return instruction.results[0].size * math.prod(
        lhs[i] for i in instruction.indices('lhs_contracting_dims'))
  if target.startswith('__cublas$'):
    lhs = _operands(computation, instruction)[0].shape
    axes = re.search(r'"lhs_contracting_dimensions":\[([^]]*)\]',
                     instruction.attributes)
    return instruction.results[0].size * math.prod(
        lhs[int(i)] for i in re.findall(r'\d+', axes[1]))  # pyrefly: ignore
  if instruction.opcode == 'multiply' and instruction.results[0].is_inexact:
    if not any(_is_number(computation, name) for name in instruction.operands):
      return instruction.results[0].size
  return 0


def _of_convolution(target, instruction, operands) -> int:
  """Counts one for each tap and coarse position, in any direction."""
  (lhs, kernel, *_), result = operands, instruction.results[0]
  labels = re.search(r'\w+_(\w+)->\w+', instruction.attribute('dim_labels'))
  if target.endswith('convBackwardInput'):
    coarse = lhs
  elif target.endswith('convBackwardFilter'):
    coarse, kernel = kernel, result
  else:
    coarse = result
  return coarse.size * kernel.size // kernel.shape[labels[1].index('o')]


def _is_number(computation: hlo.Computation, name: str) -> bool:
  """Returns whether an operand is a scalar, broadcast or not."""
  operand = computation[name]
  if operand.opcode == 'broadcast':
    operand = computation[operand.operands[0]]
  return operand.results[0].size == 1
