"""Decides which convolutions to replace, and why to leave the others."""

import dataclasses
import functools
import math
from typing import Any

import jax

from tconv import dispatch
from tconv.programs import jaxprs
from tconv.programs import mapping

# Forms that give the same program as an ordinary convolution of lax.
_PLAIN = ('lax', 'vjp', 'cudnn')


@dataclasses.dataclass(frozen=True)
class Choice:
  """The decision about a convolution: to replace it or to leave it.

  Attributes:
    role: role of the convolution, as in `mapping.Mapping`; 'unknown' if it has
      none.
    transposed: whether zeros are inserted into its input.
    form: form that replaces it, a key of `dispatch.FORMS`; empty if it is left.
    reason: reason for leaving it; empty if it is replaced.
    call: equation that replaces it, on other variables; None if it is left.
  """

  role: str
  transposed: bool
  form: str = ''
  reason: str = ''
  call: Any = None


def of_equation(eqn: Any, pads: Any, everything: bool
                ) -> tuple[Choice, list[Any]]:
  """Decides on a convolution in a program.

  Args:
    eqn: equation of a `conv_general_dilated`.
    pads: equation of the `lax.pad` that made a variable, by variable.
    everything: whether ordinary convolutions may be replaced as well.

  Returns:
    The decision, and the variables that the replacing call takes.
  """
  operands, params = joined(eqn, pads)
  lhs, rhs = operands
  return choose(lhs.aval, rhs.aval, eqn.outvars[0].aval, params, eqn.ctx,
                everything), operands


def joined(eqn: Any, pads: Any) -> tuple[list[Any], dict[str, Any]]:
  """Merges the zeros that a `lax.pad` inserts into the convolution after it.

  Args:
    eqn: equation of a `conv_general_dilated`.
    pads: equation of the `lax.pad` that made a variable, by variable.

  Returns:
    The variables of input and kernel, and the parameters of their convolution.
    They are those of the equation if there is no such `lax.pad`.
  """
  pad = jaxprs.inserted_zeros(eqn, pads)
  params = pad and _joined(eqn.params, pad.params['padding_config'])
  if not params:
    return eqn.invars, eqn.params
  return [pad.invars[0], eqn.invars[1]], params


def choose(lhs: Any, rhs: Any, out: Any, params: dict[str, Any], context: Any,
           everything: bool) -> Choice:
  """Decides on a convolution.

  Args:
    lhs: abstract value of the input.
    rhs: abstract value of the kernel.
    out: abstract value of the result.
    params: parameters of the equation.
    context: context of the equation.
    everything: whether an ordinary convolution may be replaced.

  Returns:
    The decision.
  """
  transposed = max(params['lhs_dilation'], default=1) > 1
  try:
    read = _read(lhs, rhs, out, tuple(params.items()))
  except mapping.NotMappable as error:
    return Choice('unknown', transposed, reason=str(error))
  backend = jax.default_backend()  # 'gpu' is cuda or rocm, with one rule.
  form = dispatch.choose(read.operation, read.geometry.trimmed()[0],
                         read.shapes, {'gpu': 'cuda'}.get(backend, backend))
  left = functools.partial(Choice, read.role, transposed)
  # The program has that form already. On a TPU, zeros cost nothing.
  if form in (('lax',) if transposed and backend != 'tpu' else _PLAIN):
    return left(reason='already fast')
  if (transposed and read.operation == 'conv_kernel_grad'
      and math.prod(read.geometry.kernel_size)
      >= math.prod(read.geometry.fine_size)):
    # A kernel gradient by its parameters only; it would have too many taps.
    return left(reason='window strides and inserted zeros together')
  if not transposed and not everything:
    return left(reason=f"ordinary; which='all' uses {form}")
  call = jaxprs.call(read.apply, (lhs, rhs), out, context)
  if call is None:
    return left(reason='explicit sharding of an axis other than the batch')
  return left(form=form, call=call)


def _joined(params: dict[str, Any], config: tuple) -> dict[str, Any] | None:
  """Merges a `lax.pad` that inserts zeros into the convolution after it.

  Args:
    params: parameters of the convolution of the padded input.
    config: (low, high, interior) padding of each axis of the input.

  Returns:
    The parameters of the convolution of the input without the pad. None if
    there are none: the pad crops where the convolution adds zeros, or the
    convolution has window strides.
  """
  if max(params['window_strides'], default=1) > 1:
    return None
  padding, dilation = [], []
  for axis, pads, d in zip(params['dimension_numbers'].lhs_spec[2:],
                           params['padding'], params['lhs_dilation']):
    *added, interior = config[axis]
    if any(a < 0 < p for a, p in zip(added, pads)):
      return None
    padding.append(tuple(p + a * d for a, p in zip(added, pads)))
    dilation.append(d * (interior + 1))
  return params | {'padding': tuple(padding), 'lhs_dilation': tuple(dilation)}


@functools.lru_cache(4096)
def _read(lhs, rhs, out, params) -> mapping.Mapping:
  """Reads parameters; cached, so that equal convolutions compile once."""
  return mapping.read(lhs, rhs, out, dict(params))
