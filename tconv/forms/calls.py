"""Calls in a compiled program that XLA does not inline.

XLA's CPU compiler fuses an operation with those that use its result, even where
that makes it slow. An optimization barrier does not help, because it is removed
before fusion. A call that must not be inlined does.
"""

from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def outlined(function: Callable[..., jax.Array], name: str
             ) -> Callable[..., jax.Array]:
  """Makes a function a call in the compiled program.

  Args:
    function: function of arrays.
    name: name of the call in the compiled program and in profiles.

  Returns:
    The function, which XLA compiles apart from the operations around it.
  """

  def call(*operands):
    return function(*operands)

  call.__name__ = name

  def apply(*operands):
    with set_xla_metadata(inlineable='false'):
      return jax.jit(call)(*operands)

  return apply
