"""`accelerate`, `accelerating` and `explain`: tconv for unchanged models.

Models in Flax, Haiku, Equinox or Keras call `lax.conv_general_dilated`. In the
program that JAX traces, each call is one equation. Its parameters tell whether
it is one of the three operations of this library. If it is, and a faster form
exists, the equation is replaced. The code of the model does not change.

`tconv.programs` has the parts: it recognizes the operations, decides which ones
to replace, and rewrites programs.
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
  """Makes a function compute its transposed convolutions with this library.

  The function may be a model, a loss or a whole training step with its
  gradients, in any library based on JAX. Every convolution whose input has
  inserted zeros is replaced: transposed convolutions
  [N, *coarse, O] -> [N, *fine, C] in any layout, their kernel gradients, and
  the input gradients of strided convolutions. It does not matter how deep they
  are inside jit, scan, cond, while, checkpoint, shard_map or custom
  derivatives. Values stay the same up to rounding; shapes, dtypes and shardings
  stay the same.

  The function is traced at each call. So put `jax.jit` around it, as in the
  example. If `accelerate` is around `jax.grad`, as in a training step, it
  replaces the convolutions of the derivatives. If it is inside, derivatives are
  those of this library.

  The function must not change its arguments. For a function that does, such as
  a training step of `flax.nnx` or Keras, use `tconv.accelerating`.

  Args:
    fn: any function of pytrees that JAX can trace. Arguments and results that
      are not arrays are passed on unchanged.
    which: 'transposed', or 'all' to replace ordinary convolutions too where
      this library is faster, such as grouped and 3-D ones on CPUs.

  Returns:
    A function of the same arguments with the same results.

  Raises:
    ValueError: `fn` is not a function, or `which` is invalid; from the returned
      function, if `fn` changes its arguments.

  Example:
    >>> def loss(kernel, y):  # Any model, in any library that is based on JAX.
    ...   return (jax.lax.conv_transpose(y, kernel, (2, 2), 'SAME')**2).sum()
    >>> kernel, y = jnp.ones((4, 4, 3, 3)), jnp.ones((1, 8, 8, 3))
    >>> step = jax.jit(tconv.accelerate(jax.grad(loss)))
    >>> bool((step(kernel, y) == jax.grad(loss)(kernel, y)).all())
    True
    >>> [entry.reason for entry in tconv.explain(step, kernel, y)]
    ['of tconv', 'of tconv']
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
  """Lists all convolutions of a function: replaced by `accelerate` or left.

  The function is traced, not run. The list includes convolutions of this
  library, such as those that `accelerate` has put there. Rules of custom
  derivatives appear only where they are used: explain the gradient function to
  see them. `print(tconv.explain(train_step, state, batch))` prints a table.

  Args:
    fn: any function that JAX can trace.
    *args: arguments of the function: pytrees of arrays, such as images
      [N, *size, C], or of `jax.ShapeDtypeStruct`. Other leaves are passed on
      unchanged.
    strict: whether to raise an error if a transposed convolution is left for
      any reason except that it is already fast.
    **kwargs: other keyword arguments of the function, likewise.

  Returns:
    A tuple with an entry for each convolution, in order of appearance, with
    `source`, `role`, `shapes`, `form` and `reason`. It prints as a table with
    totals. Entries with a reason are not replaced.

  Raises:
    ValueError: `fn` is not a function; or `strict` is set and a transposed
      convolution is left.

  Example:
    >>> def upsample(y, kernel):
    ...   return jax.lax.conv_transpose(y, kernel, (2, 2), 'SAME')
    >>> y, kernel = jnp.ones((1, 8, 8, 64)), jnp.ones((4, 4, 64, 64))
    >>> found = tconv.explain(upsample, y, kernel)
    >>> found[0].role, found[0].reason  # No reason to leave it: replaced.
    ('conv_transpose', '')
    >>> found[0].shapes
    'float32[1,8,8,64] float32[4,4,64,64] -> float32[1,16,16,64]'
    >>> found.missed
    ()
  """
  _check_callable(fn)
  program, *_ = jaxprs.trace(fn, args, kwargs)
  found = explanation.Explanation(explanation.entries(program))
  if strict and found.missed:
    raise ValueError(
        'strict=True requires that no transposed convolution is left; got\n'
        + '\n'.join(map(str, found.missed)))
  return found


@contextlib.contextmanager
def accelerating() -> Iterator[None]:
  """Does the same as `accelerate` for everything that JAX compiles in a block.

  Use it for training steps that are not your own code, such as those of Keras,
  and for steps that change their arguments, such as those of `flax.nnx`::

    with tconv.accelerating():
      model.fit(images, labels)  # Arrays [N, *size, C], or any other arguments.

  In the block, JAX compiles convolutions of inputs with inserted zeros with
  this library. Functions that were compiled outside are compiled again inside,
  and both versions are kept. Other threads are not affected. Only `accelerate`
  replaces convolutions whose zeros come from a `lax.pad` before them.

  Returns:
    A context manager.

  Example:
    >>> @jax.jit  # Any code, such as the training step of another library.
    ... def upsample(y, kernel):
    ...   return jax.lax.conv_transpose(y, kernel, (2, 2), 'SAME')
    >>> y, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((4, 4, 3, 3))
    >>> 'lhs_dilate = [2, 2]' in upsample.lower(y, kernel).as_text()
    True
    >>> with tconv.accelerating():  # No zeros are inserted.
    ...   'lhs_dilate = [2, 2]' in upsample.lower(y, kernel).as_text()
    False
  """
  with jaxprs.lowering(_call):
    yield


def _call(lhs, rhs, out, params, context):
  """The equation that replaces a transposed convolution, or None."""
  return choices.choose(lhs, rhs, out, params, context, False).call


def _check_callable(fn: Any) -> None:
  if not callable(fn):
    raise ValueError(f'fn must be a function; got {fn!r}.')


@functools.cache
def _rewriter(which: str) -> jaxprs.Rewriter:
  """The rewriter of all functions; it rewrites shared programs only once."""

  def replace(eqn, pads):
    if eqn.primitive is not jaxprs.CONV:
      return None
    choice, operands = choices.of_equation(eqn, pads, which == 'all')
    return choice.call and jaxprs.replace(eqn, operands, choice.call)

  return jaxprs.Rewriter(replace)
