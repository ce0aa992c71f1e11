"""The result of `tconv.explain`: a table of the convolutions of a program."""

from collections.abc import Iterator
import dataclasses
from typing import Any

import jax

from tconv import tuning_cache
from tconv.programs import choices
from tconv.programs import jaxprs

_OWN = 'of tconv'
_FINE = ('', _OWN, 'already fast')


@dataclasses.dataclass(frozen=True)
class Entry:
  """A row of the table: one convolution.

  Attributes:
    source: line of the user's code that made the convolution.
    role: operation that it computes, or kernel gradient of one; or 'unknown'.
    transposed: whether zeros are inserted into its input.
    shapes: types of its operands and of its result.
    form: form that replaces it on this kind of device: the fastest one that
      `tconv.tune` measured, or that of the rule. Empty if it is left.
    reason: reason for not replacing it; empty if it is replaced.
  """

  source: str
  role: str
  transposed: bool
  shapes: str
  form: str
  reason: str

  def __str__(self):
    return f'{self.source}: {self.role}, {self.shapes}: ' + (
        self.reason or self.form)


class Explanation(tuple[Entry, ...]):
  """A tuple of entries that prints as a table."""

  @property
  def missed(self) -> tuple[Entry, ...]:
    """Entries with inserted zeros that cost time and are left."""
    return tuple(e for e in self if e.transposed and e.reason not in _FINE)

  def __str__(self):
    rows = [('source', 'role', 'shapes', 'replaced by', 'reason if left')]
    rows += [(e.source, e.role, e.shapes, e.form, e.reason) for e in self]
    widths = [max(map(len, column)) for column in zip(*rows)]
    own = sum(e.reason == _OWN for e in self)
    left = sum(bool(e.reason) for e in self) - own
    return '\n'.join([
        *('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows),
        f'{len(self)} convolutions: {len(self) - own - left} replaced, {own} '
        f'of tconv already, {left} left; of those, {len(self.missed)} with '
        'inserted zeros that cost time.'])


def entries(program: Any) -> Iterator[Entry]:
  """Yields all convolutions of a program and of the programs inside it."""
  for eqn, pads in jaxprs.walk(program):
    types = [v.aval.str_short() for v in (*eqn.invars, *eqn.outvars)]
    if eqn.primitive.name.startswith('tconv_'):
      yield Entry(
          jaxprs.source(eqn), eqn.primitive.name.removeprefix('tconv_'), False,
          _shapes(types), '', _OWN)
    elif eqn.primitive is jaxprs.CONV:
      choice, operands = choices.of_equation(eqn, pads, False)
      types[:2] = [v.aval.str_short() for v in operands]
      yield Entry(jaxprs.source(eqn), choice.role, choice.transposed,
                  _shapes(types), _form(choice), choice.reason)


def _form(choice: choices.Choice) -> str:
  """The fastest form that `tconv.tune` measured, or that of the rule."""
  if not choice.call:
    return ''
  operation, = (
      eqn for eqn, _ in jaxprs.walk(choice.call.params['jaxpr'])
      if eqn.primitive.name.startswith('tconv_'))
  return tuning_cache.form(tuning_cache.Contraction.of_equation(operation),
                         jax.default_backend()) or choice.form


def _shapes(types: list[str]) -> str:
  lhs, rhs, out = types
  return f'{lhs} {rhs} -> {out}'
