"""What a compiled program asks of its device, read from its text."""

import dataclasses
import math
import re

from experiments.compiled import hlo

_CUDNN = '__cudnn$'
# These give the values of their first operand, in another order or type.
_MOVES = {'bitcast', 'convert', 'copy', 'reshape', 'reverse', 'slice',
          'transpose'}
_CONVOLUTIONS = {'convolution', 'custom-call', 'dot'}


@dataclasses.dataclass(frozen=True)
class Call:
  """A convolution by cuDNN, or a product of matrices.

  Attributes:
    kind: 'convForward', 'convBackwardInput' or 'convBackwardFilter', by which
      XLA asks for cuDNN's function of that name; or 'matmul'.
    operands: the arrays that are convolved or multiplied.
    result: the array that comes out.
  """
  kind: str
  operands: tuple[hlo.Array, ...]
  result: hlo.Array

  def __str__(self) -> str:
    operands = ', '.join(map(str, self.operands))
    return f'{self.kind}({operands}) -> {self.result}'


def calls(program: hlo.Program) -> tuple[Call, ...]:
  """Finds the convolutions and products of matrices, in loops once each.

  Args:
    program: compiled for a GPU.

  Returns:
    The calls, sorted by kind.
  """
  found = []
  for computation, instruction, _ in program.walk():
    if kind := _kind(instruction):
      found.append(Call(kind, _operands(computation, instruction),
                        instruction.results[0]))
  return tuple(sorted(found, key=str))


def inserted_zeros(program: hlo.Program, at_least: int
                   ) -> tuple[hlo.Array, ...]:
  """Finds arrays that have zeros between the elements of another one.

  Those are written to memory, or are what a convolution or a product reads.
  A padding within a loop that adds up several of them does not count.

  Args:
    program: compiled for a GPU.
    at_least: number of elements from which on an array counts. Kernels have
      fewer than images.

  Returns:
    The arrays with the zeros. A convolution that spreads its operand by itself
    gives its operand.
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
  """Counts products: of convolutions, of matrices, and of elements.

  A convolution has one for each tap and position, in its padding, too, as
  `timing.layers.Layer.multiply_adds` counts. Elements are counted where two
  arrays of floating-point numbers are multiplied, not an array and a number.

  Args:
    program: compiled for a GPU.

  Returns:
    The number of multiply-adds.
  """
  return sum(times * _products(computation, instruction)
             for computation, instruction, times in program.walk())


def all_gathered(program: hlo.Program) -> tuple[hlo.Array, ...]:
  """Finds arrays that devices collect from each other.

  Args:
    program: for several devices.

  Returns:
    The arrays, as they are when they are whole.
  """
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
  """The numbers of a window by name, without its padding."""
  return {name: tuple(map(int, numbers.split('x'))) for name, numbers in (
      re.findall(r'(\w+)=([\dx]+)(?= |$)',
                 instruction.attribute('window') or ''))}


def _operands(computation: hlo.Computation, instruction: hlo.Instruction
              ) -> tuple[hlo.Array, ...]:
  return tuple(array for name in instruction.operands
               for array in computation[name].results)


def _has_inner_zeros(computation, pad) -> bool:
  """Whether a pad puts anything between two elements."""
  shape = _operands(computation, pad)[0].shape
  steps = (pad.attribute('padding') or '').split('x')
  return any(size > 1 and step.count('_') == 2 and not step.endswith('_0')
             for size, step in zip(shape, steps))


def _is_whole(computation, instruction) -> bool:
  """Whether an array is a result of its computation, or is convolved."""
  return instruction.is_root or any(
      instruction.name in user.operands and (
          user.opcode in _CONVOLUTIONS or user.opcode == 'tuple'
          or user.opcode in _MOVES and _is_whole(computation, user))
      for user in computation.values())


def _products(computation, instruction) -> int:
  """The multiply-adds of one instruction."""
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
  """One for each tap and coarse position, in whichever direction it goes."""
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
  """Whether an operand is one number, spread over an array."""
  operand = computation[name]
  if operand.opcode == 'broadcast':
    operand = computation[operand.operands[0]]
  return operand.results[0].size == 1
