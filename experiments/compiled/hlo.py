"""Reads the text of a program that XLA has compiled.

The text is that of `jax.stages.Compiled.as_text()`: computations, one of which
is the entry, each with an instruction a line:

    ENTRY %main (y: f32[1,8]) -> f32[1,8] {
      %y = f32[1,8]{1,0} parameter(0)
      ROOT %fusion = f32[1,8]{1,0} fusion(%y), kind=kLoop, calls=%fused_add
    }

References:
  `HLO text format <https://openxla.org/xla/hlo_text>`_, OpenXLA, 2025.
"""

from collections.abc import Iterator
import dataclasses
import functools
import math
import re

_COMPUTATION = re.compile(r'(ENTRY )?%(\S+) \(.*\) -> .* \{$')
_INSTRUCTION = re.compile(r'\s+(?:ROOT )?%(\S+) = (.*)$')
_ARRAY = re.compile(r'([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,<=]*)\]')
_BRACKETS = {'(': ')', '{': '}', '[': ']'}
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Array:
  """The type of an array.

  Attributes:
    dtype: XLA's name of it, as 'bf16'.
    shape: sizes of the axes.
  """
  dtype: str
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  @property
  def is_inexact(self) -> bool:
    return self.dtype[0] in 'bfc'  # As bf16, f32 and c64.

  def __str__(self) -> str:
    return f'{self.dtype}[{",".join(map(str, self.shape))}]'


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: by which others in the computation refer to it.
    results: the arrays that it gives; more than one for a tuple.
    opcode: what it does, as 'custom-call'.
    operands: the names of its operands.
    attributes: the rest of the line.
    is_root: whether it is the result of the computation.
  """
  name: str
  results: tuple[Array, ...]
  opcode: str
  operands: tuple[str, ...]
  attributes: str
  is_root: bool

  def attribute(self, name: str) -> str | None:
    """Finds `name=value` among the attributes.

    Args:
      name: of the attribute.

    Returns:
      The value without quotes or braces around it, or None.
    """
    found = re.search(
        rf'(?:^|[ ,]){name}=(?:\{{([^}}]*)\}}|"([^"]*)"|([^ ,]+))',
        self.attributes)
    return next((v for v in found.groups() if v is not None), '') if (
        found) else None

  def indices(self, name: str) -> tuple[int, ...]:
    """Reads an attribute that is a list of numbers, empty if absent.

    Args:
      name: of the attribute.

    Returns:
      The numbers.
    """
    return tuple(map(int, re.findall(r'\d+', self.attribute(name) or '')))

  @functools.cached_property
  def callees(self) -> tuple[str, ...]:
    """Names of the computations that it runs, not those applied by element."""
    found = []
    for name in ('calls', 'body', 'branch_computations', 'true_computation',
                 'false_computation', 'called_computations'):
      found += re.findall(r'[^%, {}]+', self.attribute(name) or '')
    if self.opcode == 'call':
      found += re.findall(r'[^%, {}]+', self.attribute('to_apply') or '')
    return tuple(found)


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Program:
  """A program: instructions by name, by the name of their computation.

  Attributes:
    computations: all of them.
    entry: the name of the one that runs first.
  """
  computations: dict[str, Computation]
  entry: str

  def walk(self) -> Iterator[tuple[Computation, Instruction, int]]:
    """Goes through all that the program runs.

    Yields:
      A computation, an instruction of it, and how often it runs: in a loop,
      once for each iteration.

    Raises:
      ValueError: it is not known how often a loop runs.
    """
    todo = [(self.entry, 1)]
    while todo:
      name, times = todo.pop()
      computation = self.computations[name]
      for instruction in computation.values():
        yield computation, instruction, times
        if instruction.callees:
          again = times * _trips(instruction)
          todo += [(callee, again) for callee in instruction.callees]


def parse(text: str) -> Program:
  """Reads a program.

  Args:
    text: of `jax.stages.Compiled.as_text()`.

  Returns:
    The program.

  Raises:
    ValueError: the text has no entry computation.
  """
  computations, entry, current = {}, None, {}
  for line in text.splitlines():
    if header := _COMPUTATION.match(line):
      current = computations[header[2]] = {}
      entry = header[2] if header[1] else entry
    elif found := _INSTRUCTION.match(line):
      current[found[1]] = _instruction(
          found[1], found[2], line.lstrip().startswith('ROOT '))
  if entry is None:
    raise ValueError(
        'text must be that of an HLO module, with an ENTRY computation; got '
        f'{text[:80]!r}.')
  return Program(computations, entry)


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
  """Reads what stands behind the "=": a type, opcode(operands), attributes."""
  end = _closing(text, 0) + 1 if text[0] == '(' else text.index(' ')
  start = text.index('(', end)
  stop = _closing(text, start)
  return Instruction(
      name, arrays(text[:end]), text[end:start].strip(),
      tuple(re.findall(r'%([^\s,)]+)', text[start:stop])),
      text[stop + 1:], is_root)


def arrays(text: str) -> tuple[Array, ...]:
  """Reads the type of an array, or of a tuple of arrays.

  Args:
    text: as 'f32[2,3]{1,0}' or '(f32[2]{0}, u8[0]{0})'.

  Returns:
    The arrays.
  """
  return tuple(
      Array(dtype, tuple(int(n.lstrip('<=')) for n in sizes.split(',') if n))
      for dtype, sizes in _ARRAY.findall(text))


def _closing(text: str, start: int) -> int:
  """Where the bracket that opens at `start` is closed."""
  closing, depth = [_BRACKETS[text[start]], text[start]], 0
  for i in range(start, len(text)):
    depth += {closing[1]: 1, closing[0]: -1}.get(text[i], 0)
    if not depth:
      return i
  raise ValueError(f'No bracket closes {text[start:start + 80]!r}.')


def _trips(instruction: Instruction) -> int:
  """How often an instruction runs what it calls."""
  if instruction.opcode != 'while':
    return 1
  if not (found := _TRIPS.search(instruction.attributes)):
    raise ValueError(
        f'The program must say how often the loop {instruction.name} runs.')
  return int(found[1])
