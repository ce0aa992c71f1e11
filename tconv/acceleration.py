"""Transposed convolutions of other libraries, computed by this one.

A model in Flax, Haiku, Equinox or Keras calls `lax.conv_general_dilated`. In
the program that JAX traces, each such call is an equation that says all about
it, and many are one of the three operations of this library. Those are replaced
here, and the model stays as it is.

`tconv.programs` has the parts: what a convolution is, which ones are replaced,
and how programs are rewritten.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
from typing import Any

from tconv.programs import choices
from tconv.programs import explanation
from tconv.programs import jaxprs

_WHICH = ('transposed', 'all')


def accelerate(fn: Callable[..., Any], *, which: str = 'transposed'
               ) -> Callable[..., Any]:
  """Makes a function compute its transposed convolutions by this library.

  The function may be a model, a loss or a whole training step with its
  gradients, in any library on JAX. It is traced at each call, as `jax.jit` does
  at the first, and every convolution of an input with inserted zeros is
  replaced: transposed convolutions [N, *coarse, O] -> [N, *fine, C] in any
  layout, their gradients with respect to the kernel, and the gradients of
  strided ones with respect to the input. It does not matter how deep they are
  in jit, scan, cond, while, checkpoint, shard_map or custom derivatives. Values
  stay the same up to rounding; shapes, dtypes and shardings stay the same.

    step = jax.jit(tconv.accelerate(train_step))

  Jit it, as here: otherwise every call is traced anew. Around `jax.grad`, as in
  a training step, it sees the convolutions of the derivatives themselves;
  inside, derivatives are those of this library.

  A function must not change its arguments. One that does, as a step of
  `flax.nnx` or of Keras, is called in the block of `tconv.accelerating`.

  Args:
    fn: any function of pytrees that JAX can trace. Arguments that are no arrays
      reach it as they are, and so do its results.
    which: 'transposed', or 'all' to replace ordinary convolutions as well where
      this library has a faster way, such as grouped and 3-D ones on CPUs.

  Returns:
    A function of the same arguments with the same results.

  Raises:
    ValueError: `fn` is no function, or `which` is neither; from the function
      returned, if `fn` changes its arguments.
  """
  _check_callable(fn)
  if which not in _WHICH:
    raise ValueError(
        f"which must be 'transposed' or 'all'; got {which!r}.")

  @functools.wraps(fn, updated=())
  def accelerated(*args, **kwargs):
    program, arrays, rebuild = jaxprs.trace(fn, args, kwargs, pure=True)
    return rebuild(jaxprs.evaluate(_rewriter(which).program(program), arrays))

  return accelerated


def explain(fn: Callable[..., Any], *args: Any, strict: bool = False,
            **kwargs: Any) -> explanation.Explanation:
  """Tells which convolutions of a function `accelerate` would replace.

  The function is traced, not run. Convolutions of this library are told as
  well, those that `accelerate` put there among them. Rules of custom
  derivatives are seen once they are used: around `jax.grad`, not inside.

    print(tconv.explain(train_step, state, batch))

  Args:
    fn: any function that JAX can trace.
    *args: its arguments, pytrees of arrays, such as images [N, *size, C], or of
      `jax.ShapeDtypeStruct`s. Other leaves reach the function as they are.
    strict: whether to raise an error if a transposed convolution is left for
      another reason than being as fast as it is.
    **kwargs: its other keyword arguments, likewise.

  Returns:
    A tuple with an entry for each convolution, in order of appearance, with
    `source`, `role`, `shapes`, `form` and `reason`; it prints as a table with
    totals. Of entries with a reason, nothing is replaced.

  Raises:
    ValueError: `fn` is no function; or `strict`, and a convolution is left
      that `strict` asks for.
  """
  _check_callable(fn)
  program, *_ = jaxprs.trace(fn, args, kwargs)
  found = explanation.Explanation(explanation.entries(program))
  if strict and found.missed:
    raise ValueError(
        'strict asks that no transposed convolution is left; left are\n'
        + '\n'.join(map(str, found.missed)))
  return found


@contextlib.contextmanager
def accelerating() -> Iterator[None]:
  """Does what `accelerate` does, for all that is compiled in a block.

  It serves steps that one does not write oneself, such as those of Keras, and
  those that change their arguments, such as those of `flax.nnx`:

    with tconv.accelerating():
      model.fit(images, labels)  # Arrays [N, *size, C], or whatever it takes.

  Inside of the block, JAX compiles convolutions of inputs with inserted zeros
  as this library does. What was compiled outside is compiled anew inside, and
  both are kept. Other threads are not concerned. Zeros that a `lax.pad` inserts
  before a convolution are seen by `accelerate` only.

  Returns:
    A context manager.
  """
  with jaxprs.lowering(_call):
    yield


def _call(lhs, rhs, out, params, context):
  """The equation in the place of a transposed convolution."""
  return choices.choose(lhs, rhs, out, params, context, False).call


def _check_callable(fn: Any) -> None:
  if not callable(fn):
    raise ValueError(f'fn must be a function; got {fn!r}.')


@functools.cache
def _rewriter(which: str) -> jaxprs.Rewriter:
  """The rewriter of all functions: what they share is rewritten once."""

  def replace(eqn, pads):
    if eqn.primitive is not jaxprs.CONV:
      return None
    choice, operands = choices.of_equation(eqn, pads, which == 'all')
    return choice.call and jaxprs.replace(eqn, operands, choice.call)

  return jaxprs.Rewriter(replace)
