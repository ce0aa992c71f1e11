"""Parses the text of a program that XLA has compiled.

The text is that of `jax.stages.Compiled.as_text()`. It lists computations, one
of which is the entry, with one instruction per line:

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
    dtype: XLA's name of the dtype, such as 'bf16'.
    shape: sizes of the axes.
  """
  dtype: str
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  @property
  def is_inexact(self) -> bool:
    return self.dtype[0] in 'bfc'  # Such as bf16, f32 and c64.

  def __str__(self) -> str:
    return f'{self.dtype}[{",".join(map(str, self.shape))}]'


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: name, unique in the computation.
    results: arrays of the result, several for a tuple.
    opcode: operation, such as 'custom-call'.
    operands: names of the operands.
    attributes: rest of the line.
    is_root: whether this is the result of the computation.
  """
  name: str
  results: tuple[Array, ...]
  opcode: str
  operands: tuple[str, ...]
  attributes: str
  is_root: bool

  def attribute(self, name: str) -> str | None:
    """Returns the value of an attribute without quotes or braces, or None."""
    found = re.search(
        rf'(?:^|[ ,]){name}=(?:\{{([^}}]*)\}}|"([^"]*)"|([^ ,]+))',
        self.attributes)
    return next((v for v in found.groups() if v is not None), '') if (
        found) else None

  def indices(self, name: str) -> tuple[int, ...]:
    """Returns the numbers in an attribute; none if it is absent."""
    return tuple(map(int, re.findall(r'\d+', self.attribute(name) or '')))

  @functools.cached_property
  def callees(self) -> tuple[str, ...]:
    """Names of computations that it runs, but not for each element."""
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
  """A program.

  Attributes:
    computations: computations by name; each has its instructions by name.
    entry: name of the computation that runs first.
  """
  computations: dict[str, Computation]
  entry: str

  def walk(self) -> Iterator[tuple[Computation, Instruction, int]]:
    """Visits all instructions that the program runs.

    Yields:
      A computation, one of its instructions, and how often this runs.

    Raises:
      ValueError: the number of iterations of a loop is unknown.
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
  """Parses the text of `jax.stages.Compiled.as_text()`.

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
  """Parses the text after "=": a type, opcode(operands), attributes."""
  end = _closing(text, 0) + 1 if text[0] == '(' else text.index(' ')
  start = text.index('(', end)
  stop = _closing(text, start)
  return Instruction(
      name, arrays(text[:end]), text[end:start].strip(),
      tuple(re.findall(r'%([^\s,)]+)', text[start:stop])),
      text[stop + 1:], is_root)


def arrays(text: str) -> tuple[Array, ...]:
  """Parses a type, such as 'f32[2,3]{1,0}' or '(f32[2]{0}, u8[0]{0})'."""
  return tuple(
      Array(dtype, tuple(int(n.lstrip('<=')) for n in sizes.split(',') if n))
      for dtype, sizes in _ARRAY.findall(text))


def _closing(text: str, start: int) -> int:
  """Returns the index of the bracket that closes the one at `start`."""
  closing, depth = [_BRACKETS[text[start]], text[start]], 0
  for i in range(start, len(text)):
    depth += {closing[1]: 1, closing[0]: -1}.get(text[i], 0)
    if not depth:
      return i
  raise ValueError(f'No bracket closes {text[start:start + 80]!r}.')


def _trips(instruction: Instruction) -> int:
  """Returns how often an instruction runs the computations it calls."""
  if instruction.opcode != 'while':
    return 1
  if not (found := _TRIPS.search(instruction.attributes)):
    raise ValueError(
        f'The program must say how often the loop {instruction.name} runs.')
  return int(found[1])
