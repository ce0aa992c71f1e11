"""The public functions and classes of tconv, which the reference must have."""

from collections.abc import Callable
import inspect
from typing import Any

import tconv

MODULES = (tconv, tconv.dialects, tconv.initializers, tconv.spectrum, tconv.nnx,
           tconv.linen, tconv.audit)


def public() -> dict[str, Callable[..., Any]]:
  """Functions and classes by the full name under which users call them.

  One that several modules have counts for the first of `MODULES` only.
  """
  names = {}
  for module in reversed(MODULES):
    names |= {
        value: f'{module.__name__}.{name}'
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__.startswith(module.__name__)
        and not name.startswith('_')}
  return {name: value for value, name in names.items()}
