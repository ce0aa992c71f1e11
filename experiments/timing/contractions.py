"""Each of the three operations by each form: the evidence for `dispatch.py`."""

from collections.abc import Callable
import functools
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.timing import layers
from tconv import dispatch
from tconv import trilinear

OPERATIONS = ('conv_transpose', 'conv', 'conv_kernel_grad')
_MATRIX = 4e6  # Elements of C: more are no small size.
# Multiply-adds, those with zeros among them: more take many seconds.
_ZEROS = 1e10
# Each tap of this form is written out: more take minutes to compile.
_TAPS = 256


class Contraction(NamedTuple):
  """An operation of a layer, by each form.

  Attributes:
    calls: by form and 'auto', functions without arguments, which return when
      all is computed.
    auto: forms whose program is that of 'auto'.
    skipped: why other forms are not tried.
  """
  calls: dict[str, Callable[[], jax.Array]]
  auto: list[str]
  skipped: dict[str, str]


def build(layer: layers.Layer, arrays: layers.Arrays,
          operation: str) -> Contraction:
  """Compiles an operation by each form.

  Args:
    layer: whose operation it is.
    arrays: as `Layer.arrays` gives them.
    operation: one of `OPERATIONS`.

  Returns:
    The calls, 'auto' first.
  """
  y, kernel, x = map(jnp.asarray, arrays)
  operands = {'conv_transpose': (y, kernel), 'conv': (x, kernel),
              'conv_kernel_grad': (x, y)}[operation]
  calls, programs, skipped = {}, {}, {}
  for method in ('auto', *dispatch.FORMS):
    too_much = _too_much(layer, method)
    if too_much:
      skipped[method] = too_much
      continue
    lowered = jax.jit(functools.partial(
        trilinear.contract, operation, geometry=layer.geometry,
        method=method)).lower(*operands)
    programs[method] = lowered.as_text()
    calls[method] = functools.partial(_run, lowered.compile(), operands)
  auto = programs.pop('auto')
  return Contraction(
      calls, [form for form, text in programs.items() if text == auto], skipped)


def _run(program: Callable[..., Any], operands: tuple[jax.Array, ...]):
  return jax.block_until_ready(program(*operands))


def _too_much(layer: layers.Layer, method: str) -> str:
  """Why a form is not tried, or nothing."""
  if method == 'matrix':
    elements = math.prod(layer.outputs_shape[1:]) * math.prod(
        layer.inputs_shape[1:])
    return f'{elements:.1e} elements' if elements > _MATRIX else ''
  if method == 'zero_insertion':
    work = layer.multiply_adds // math.prod(layer.coarse_size) * math.prod(
        layer.geometry.fine_size)
    return f'{work:.1e} multiply-adds' if work > _ZEROS else ''
  if method == 'taps':
    taps = math.prod(layer.geometry.kernel_size)
    return f'{taps} taps' if taps > _TAPS else ''
  return ''
