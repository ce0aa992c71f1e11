"""Compiles each operation in each form, to check the rule of `dispatch`."""

from collections.abc import Callable
from collections.abc import Iterable
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
# Largest problems for three forms: 'matrix' is for small sizes, beyond these
# 'zero_insertion' takes many seconds, and 'taps' takes minutes to compile.
_MATRIX = 4e6  # Elements of the matrix.
_ZEROS = 1e10  # Multiply-adds, including those with zeros.
_TAPS = 256


class Contraction(NamedTuple):
  """An operation of a layer, computed by each form.

  Attributes:
    calls: functions without arguments that compute it, by form; 'auto' first.
    auto: forms that have the same program as 'auto'.
    skipped: reasons for skipping other forms, by form.
  """
  calls: dict[str, Callable[[], jax.Array]]
  auto: list[str]
  skipped: dict[str, str]


def build(layer: layers.Layer, arrays: layers.Arrays, operation: str,
          forms: Iterable[str] = ()) -> Contraction:
  """Compiles one of `OPERATIONS` of a layer by some forms; by default, all."""
  y, kernel, x = map(jnp.asarray, arrays)
  operands = {'conv_transpose': (y, kernel), 'conv': (x, kernel),
              'conv_kernel_grad': (x, y)}[operation]
  calls, programs, skipped = {}, {}, {}
  for method in ('auto', *(forms or dispatch.FORMS)):
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
  """Returns the reason to skip a form, or an empty string."""
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
