"""Which convolutions of a program are replaced, and why others are left."""

import dataclasses
import functools
import math
from typing import Any

import jax

from tconv import dispatch
from tconv.programs import jaxprs
from tconv.programs import mapping

# Forms that ask for what a program with an ordinary convolution has already.
_PLAIN = ('lax', 'vjp', 'cudnn')


@dataclasses.dataclass(frozen=True)
class Choice:
  """What becomes of a convolution.

  Attributes:
    role: one of `mapping.Mapping.role`; 'unknown' if it has none.
    transposed: whether zeros are inserted into its input.
    form: form that computes it, a key of `dispatch.FORMS`; empty if it is left.
    reason: why it is left; empty if it is not.
    call: an equation that computes it, on other variables; None if it is left.
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
    pads: the `lax.pad` before each variable that one made.
    everything: whether ordinary convolutions may be replaced as well.

  Returns:
    What becomes of it, and the variables that its call takes.
  """
  operands, params = eqn.invars, eqn.params
  pad = jaxprs.inserted_zeros(eqn, pads)
  joined = pad and _joined(params, pad.params['padding_config'])
  if joined:
    operands, params = [pad.invars[0], operands[1]], joined
  lhs, rhs = operands
  return choose(lhs.aval, rhs.aval, eqn.outvars[0].aval, params, eqn.ctx,
                everything), operands


def choose(lhs: Any, rhs: Any, out: Any, params: dict[str, Any], context: Any,
           everything: bool) -> Choice:
  """Decides on a convolution.

  Args:
    lhs: abstract value of its input.
    rhs: abstract value of its kernel.
    out: abstract value of its result.
    params: its parameters.
    context: that of its equation.
    everything: whether it may be replaced if it is an ordinary one.

  Returns:
    What becomes of it.
  """
  transposed = max(params['lhs_dilation'], default=1) > 1
  try:
    read = _read(lhs, rhs, out, tuple(params.items()))
  except mapping.NotMappable as error:
    return Choice('unknown', transposed, reason=str(error))
  backend = jax.default_backend()  # 'gpu' is two platforms, with one rule.
  form = dispatch.choose(read.operation, read.geometry.trimmed()[0],
                         read.shapes, {'gpu': 'cuda'}.get(backend, backend))
  left = functools.partial(Choice, read.role, transposed)
  # The form that the program has already. On a TPU, zeros cost nothing.
  if form in (('lax',) if transposed and backend != 'tpu' else _PLAIN):
    return left(reason='as fast as it is')
  if (transposed and read.operation == 'conv_kernel_grad'
      and math.prod(read.geometry.kernel_size)
      >= math.prod(read.geometry.fine_size)):
    # A kernel gradient by its parameters alone; its taps would be too many.
    return left(reason='window strides and inserted zeros at once')
  if not transposed and not everything:
    return left(reason=f"ordinary; which='all' takes {form}")
  call = jaxprs.call(read.apply, (lhs, rhs), out, context)
  if call is None:
    return left(reason='explicit sharding beyond the batch')
  return left(form=form, call=call)


def _joined(params: dict[str, Any], config: tuple) -> dict[str, Any] | None:
  """Parameters of a convolution that takes the input of a pad before it.

  Args:
    params: parameters of the convolution of the padded input.
    config: (low, high, interior) of each axis of the input.

  Returns:
    The parameters; None where the pad cuts values off and the convolution puts
    zeros there instead, or where the convolution has strides.
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
  """Reads parameters: once for equal ones, so that they compile once."""
  return mapping.read(lhs, rhs, out, dict(params))
