"""Search and rewriting of programs.

A program is a jaxpr. The parameters of its equations hold further jaxprs: those
of jit, scan, while, cond, checkpoint, shard_map and custom derivatives. A
rewriting that keeps the types of all values can change any equation at any
level. It needs no rule for the primitives around the equation.

All code that depends on internals of JAX's programs is in this module. JAX
makes few promises about them, so a new release may require changes here.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import os
import threading
from typing import Any
import weakref

import jax
from jax import lax
from jax._src import config as jax_config
from jax.custom_derivatives import SymbolicZero
from jax.extend import core
from jax.extend import linear_util
from jax.extend import source_info_util
from jax.interpreters import ad
from jax.interpreters import mlir
import numpy as np

from tconv import trilinear

CONV = lax.conv_general_dilated_p
# Function of an equation and of the `lax.pad` of each variable that one made.
# It returns an equation with the same results, or None to leave the equation.
Rule = Callable[[Any, Mapping[Any, Any]], Any]


def is_array(value: Any) -> bool:
  """Whether a leaf of a pytree is an array, which tracing makes abstract."""
  return isinstance(value, (jax.Array, np.ndarray))


def trace(fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any], *,
          pure: bool = False
          ) -> tuple[Any, list[jax.Array], Callable[[list[jax.Array]], Any]]:
  """Traces a function. Arrays become abstract; other leaves stay as they are.

  Args:
    fn: function of pytrees.
    args: arguments of the function; `jax.ShapeDtypeStruct`s count as arrays.
    kwargs: keyword arguments of the function, likewise.
    pure: whether to raise an error if `fn` changes an object among its
      arguments. The change would be lost, because `fn` receives copies.

  Returns:
    The program, the arrays to call it with, and a function that converts its
    results to the value that `fn` returns.

  Raises:
    ValueError: `fn` changes an object although `pure` is set.
  """
  leaves, tree = jax.tree.flatten((args, kwargs))
  abstract = [is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)
              for leaf in leaves]
  results: list[Any] = []

  # JAX caches the trace of a function, with the weights that it held then. So
  # each call makes a new function.
  def of_arrays(*arrays):
    given = iter(arrays)
    args, kwargs = jax.tree.unflatten(tree, [
        next(given) if a else leaf for a, leaf in zip(abstract, leaves)])
    objects = _objects((args, kwargs)) if pure else []
    before = [jax.tree.leaves(o) for o in objects]
    results[:] = jax.tree.flatten(fn(*args, **kwargs))
    for o, old in zip(objects, before):
      new = jax.tree.leaves(o)
      if len(new) != len(old) or any(a is not b for a, b in zip(new, old)):
        raise ValueError(
            f'fn must not change its arguments; got one that changes a '
            f'{type(o).__name__}. The change would be lost, because fn gets a '
            'copy. Call fn inside `with tconv.accelerating():` instead.')
    return [leaf for leaf in results[0] if is_array(leaf)]

  arrays = [leaf for leaf, a in zip(leaves, abstract) if a]
  try:
    program = jax.make_jaxpr(of_arrays)(*arrays)
  except (jax.errors.ConcretizationTypeError,
          jax.errors.TracerArrayConversionError) as error:
    error.add_note(
        'tconv traces a function to find its convolutions, as jax.jit does. '
        'During tracing, arrays have shapes and dtypes but no values.')
    raise
  returned, tree_out = results

  def rebuild(arrays):
    made = iter(arrays)
    return jax.tree.unflatten(tree_out, [
        next(made) if is_array(leaf) else leaf for leaf in returned])

  return program, arrays, rebuild


def _objects(tree: Any) -> list[Any]:
  """The objects among arguments that may hold arrays, except containers."""
  return [
      part for part in jax.tree.leaves(
          tree, is_leaf=lambda p: not isinstance(p, (dict, list, tuple)))
      if not isinstance(part, jax.Array)]


def evaluate(program: Any, arrays: list[jax.Array]) -> list[jax.Array]:
  """Runs a program."""
  return core.jaxpr_as_fun(program)(*arrays)


def walk(program: Any) -> Iterator[tuple[Any, Mapping[Any, Any]]]:
  """Yields all equations of a program, also of programs inside it.

  Each comes with the `lax.pad` equations beside it, by their output variable.
  """
  pads = _pads(program)
  for eqn in program.eqns:
    yield eqn, pads
    for inner in core.jaxprs_in_params(eqn.params):
      yield from walk(inner)


# The parameter that holds the program of a primitive which only calls it.
_CALLED = {
    'jit': 'jaxpr', 'remat2': 'jaxpr', 'custom_jvp_call': 'call_jaxpr',
    'custom_vjp_call': 'call_jaxpr', 'closed_call': 'call_jaxpr'}


@dataclasses.dataclass(frozen=True)
class Flat:
  """A program without calls.

  Attributes:
    inputs: its variables.
    constants: values of further variables.
    eqns: its equations; those that no result needs are left out.
    outputs: variables or literals of its results.
  """
  inputs: list[Any]
  constants: dict[Any, jax.Array]
  eqns: list[Any]
  outputs: list[Any]


def flatten(program: Any, keep: Callable[[Any], bool]) -> Flat:
  """Replaces calls, such as those of jit and `jax.checkpoint`, by their body.

  Scopes of names (`jax.named_scope`) of a call become those of its body.

  Args:
    program: closed program.
    keep: function that tells for the equation of a call whether it stays.

  Returns:
    The program, in which every equation defines new variables.
  """
  constants: dict[Any, jax.Array] = {}
  eqns: list[Any] = []

  def inline(closed, operands, scope):
    jaxpr = getattr(closed, 'jaxpr', closed)
    known = dict(zip(jaxpr.invars, operands))
    for var, value in zip(jaxpr.constvars, getattr(closed, 'consts', ())):
      known[var] = core.Var(var.aval)
      constants[known[var]] = value
    read = lambda v: v if isinstance(v, core.Literal) else known[v]
    for eqn in jaxpr.eqns:
      info = eqn.source_info
      info = info.replace(name_stack=scope + info.name_stack)
      invars = list(map(read, eqn.invars))
      called = _CALLED.get(eqn.primitive.name)
      if called and not keep(eqn):
        outvars = inline(eqn.params[called], invars, info.name_stack)
      else:
        outvars = [core.Var(v.aval) for v in eqn.outvars]
        eqns.append(eqn.replace(
            invars=invars, outvars=outvars, source_info=info))
      known.update(zip(eqn.outvars, outvars))
    return list(map(read, jaxpr.outvars))

  inputs = [core.Var(v.aval) for v in program.jaxpr.invars]
  outputs = inline(program, inputs, source_info_util.new_name_stack())
  return Flat(inputs, constants, needed(eqns, outputs), outputs)


def needed(eqns: list[Any], wanted: list[Any]) -> list[Any]:
  """The equations on which the wanted variables depend."""
  used = {v for v in wanted if not isinstance(v, core.Literal)}
  kept = []
  for eqn in reversed(eqns):
    if not used.isdisjoint(eqn.outvars):
      kept.append(eqn)
      used.update(v for v in eqn.invars if not isinstance(v, core.Literal))
  return kept[::-1]


def run(eqns: list[Any], values: Mapping[Any, jax.Array], wanted: list[Any],
        operands: Mapping[tuple[Any, int], jax.Array]) -> list[jax.Array]:
  """Evaluates equations, with other operands in some places.

  Args:
    eqns: equations of a flat program.
    values: value of each variable that no equation makes.
    wanted: variables and literals whose values are wanted.
    operands: operand to use instead, by the first variable that the equation
      makes and the number of the operand.

  Returns:
    The values of the wanted variables.
  """
  known = dict(values)
  read = lambda v: v.val if isinstance(v, core.Literal) else known[v]
  for eqn in eqns:
    inputs = [
        operands[eqn.outvars[0], i] if (eqn.outvars[0], i) in operands
        else read(v) for i, v in enumerate(eqn.invars)]
    with eqn.ctx.manager:
      results = eqn.primitive.bind(
          *inputs, **eqn.primitive.get_bind_params(eqn.params))
    known.update(zip(eqn.outvars, results if eqn.primitive.multiple_results
                     else [results]))
  return list(map(read, wanted))


def source(eqn: Any) -> str:
  """Returns the line of the user's code that made an equation."""
  return source_info_util.summarize(eqn.source_info) or 'unknown'


@functools.lru_cache(4096)
def call(apply: Callable[..., jax.Array], avals: tuple, out: Any,
         context: Any) -> Any:
  """Makes an equation that calls a function; cached by its arguments.

  Args:
    apply: function of arrays.
    avals: abstract values of the arrays.
    out: abstract value of the result.
    context: context of an equation, which holds the mesh.

  Returns:
    The equation. None if the result of the function has another type than
    `out`, for example another sharding.
  """

  def tconv(*arrays):
    result = apply(*arrays)
    if out.weak_type:
      result = lax.convert_element_type_p.bind(
          result, new_dtype=out.dtype, weak_type=True, sharding=None)
    return result

  # In this mode, types say along which axes of a mesh arrays vary.
  checked = jax_config._check_vma(bool(out.mat.varying))
  with context.manager, checked, jax.disable_jit(False):
    made, = jax.make_jaxpr(jax.jit(tconv))(*avals).eqns
  return made if made.outvars[0].aval == out else None


def replace(eqn: Any, operands: list[Any], made: Any) -> Any:
  """Replaces an equation by the one that `call` made."""
  return eqn.replace(invars=operands, primitive=made.primitive,
                     params=made.params, effects=made.effects)


def inserted_zeros(eqn: Any, pads: Mapping[Any, Any]) -> Any:
  """Finds the `lax.pad` that inserts zeros into the input of a convolution.

  Args:
    eqn: equation of a convolution.
    pads: equation of the `lax.pad` that made a variable, by variable.

  Returns:
    The equation of the pad, or None.
  """
  operand = eqn.invars[0]
  pad = None if isinstance(operand, core.Literal) else pads.get(operand)
  if pad is None or not isinstance(pad.invars[1], core.Literal):
    return None
  if pad.invars[1].val != 0:
    return None
  config, numbers = pad.params['padding_config'], eqn.params[
      'dimension_numbers']
  plain = all(config[axis] == (0, 0, 0) for axis in numbers.lhs_spec[:2])
  spread = any(interior for _, _, interior in config)
  return pad if plain and spread else None


def _pads(program) -> dict[Any, Any]:
  return {eqn.outvars[0]: eqn for eqn in program.eqns
          if eqn.primitive is lax.pad_p}


def user_line(eqn: Any) -> str:
  """The line that made an equation, in no installed package and not here."""
  here = os.path.dirname(os.path.dirname(__file__))
  traceback = eqn.source_info.traceback
  for frame in traceback.frames if traceback else ():
    name = frame.file_name
    if 'site-packages' not in name and not name.startswith(here):
      return (f'{os.path.basename(name)}:{frame.line_num} '
              f'({frame.function_name})')
  return os.path.basename(source(eqn))


class Rewriter:
  """Replaces equations of programs at every level.

  Rewriting the same program again returns the same object, so that JAX finds
  the compiled version.
  """

  def __init__(self, rule: Rule):
    """Stores the rule.

    Args:
      rule: function that returns the replacement of an equation.
    """
    self._rule = rule
    self._known = weakref.WeakKeyDictionary()

  def program(self, value: Any) -> Any:
    """Rewrites a jaxpr, closed or not; returns it if nothing changes."""
    if value not in self._known:
      inner = getattr(value, 'jaxpr', value)
      eqns = self._equations(inner)
      if eqns is None:
        new = None
      else:
        new = inner.replace(eqns=eqns)
        if inner is not value:
          new = value.replace(jaxpr=new)
      self._known[value] = new
    new = self._known[value]
    return value if new is None else new

  def _equations(self, jaxpr) -> list[Any] | None:
    """Rewrites equations; returns None if nothing changes."""
    pads = _pads(jaxpr)
    eqns = [self._equation(eqn, pads) for eqn in jaxpr.eqns]
    if all(new is old for new, old in zip(eqns, jaxpr.eqns)):
      return None
    used = {v for eqn in eqns for v in eqn.invars
            if not isinstance(v, core.Literal)}
    used.update(v for v in jaxpr.outvars if not isinstance(v, core.Literal))
    return [eqn for eqn in eqns
            if eqn.primitive is not lax.pad_p or eqn.outvars[0] in used]

  def _equation(self, eqn, pads):
    replaced = self._rule(eqn, pads)
    if replaced is not None:
      return replaced
    params = {name: self._param(value) for name, value in eqn.params.items()}
    # Derivatives are rewritten only if the function itself has changed.
    if all(params[name] is value for name, value in eqn.params.items()):
      return eqn
    for name, wrap in _FUNCTIONS.items():
      if params.get(name) is not None:
        params[name] = wrap(self, params[name])
    return eqn.replace(params=params)

  def _param(self, value: Any) -> Any:
    """Rewrites the programs in a parameter."""
    if isinstance(value, (core.ClosedJaxpr, core.Jaxpr)):
      return self.program(value)
    if isinstance(value, (tuple, list)):
      items = [self._param(item) for item in value]
      if any(new is not old for new, old in zip(items, value)):
        make = getattr(value, '_make', type(value))
        return make(items)
    return value

  def _derivative(self, thunk):
    """Rewrites the program that a custom rule returns when it is called."""

    def rewritten(*args):
      jaxpr, *rest = thunk.call_wrapped(*args)
      return self.program(jaxpr), *rest

    return linear_util.wrap_init(rewritten, debug_info=thunk.debug_info)

  def _backward(self, function):
    """Rewrites the program of a custom backward function."""
    is_zero = lambda value: isinstance(value, (ad.Zero, SymbolicZero))

    def rewritten(*args):
      results: list[Any] = []

      def of_arrays(*arrays):
        given = iter(arrays)
        results[:] = jax.tree.flatten(function.call_wrapped(
            *(a if is_zero(a) else next(given) for a in args)), is_zero)
        return [r for r in results[0] if not is_zero(r)]

      arrays = [a for a in args if not is_zero(a)]
      program = self.program(jax.make_jaxpr(of_arrays)(*arrays))
      made = iter(evaluate(program, arrays))
      returned, tree = results  # Newer releases return more than a list.
      return jax.tree.unflatten(
          tree, [r if is_zero(r) else next(made) for r in returned])

    return linear_util.wrap_init(rewritten, debug_info=function.debug_info)

  def _policy(self, policy):
    return _knowing_ours(policy)


# Parameters that hold functions which make programs or classify equations.
_FUNCTIONS = {
    'jvp_jaxpr_fun': Rewriter._derivative,
    'fwd_jaxpr_thunk': Rewriter._derivative,
    'bwd': Rewriter._backward,
    'policy': Rewriter._policy,
}


@functools.cache
def _knowing_ours(policy: Callable[..., Any]) -> Callable[..., Any]:
  """Makes a policy of `jax.checkpoint` treat our primitives like lax's."""

  def knowing(primitive, *args, **params):
    ours = primitive.name.startswith('tconv_')
    return policy(CONV if ours else primitive, *args, **params)

  return knowing


_accelerating = jax.make_user_context(default_value=False)
_ours = threading.local()  # Whether a thread lowers a primitive of tconv.


@contextlib.contextmanager
def lowering(choose: Callable[..., Any]) -> Iterator[None]:
  """Replaces convolutions when JAX lowers them inside a `with` block.

  Traces and compiled programs from outside the block are not used inside it,
  and vice versa.

  Args:
    choose: function of the abstract values of input, kernel and result, of the
      parameters and of the context of an equation. It returns an equation that
      `call` made, or None.
  """
  _change_lowering()
  with _accelerating(choose):
    yield


@functools.cache
def _change_lowering() -> None:
  """Changes JAX's lowering rules, once, to obey a `lowering` block."""

  def asking(rule):
    def lower(ctx, *operands, **params):
      choose = None if _is_ours() else _accelerating.value
      made = choose and choose(*ctx.avals_in, *ctx.avals_out, params,
                               ctx.jaxpr_eqn_ctx)
      if not made:
        return rule(ctx, *operands, **params)
      return mlir.lower_fun(core.jaxpr_as_fun(made.params['jaxpr']))(
          ctx, *operands)
    return lower

  def marking(rule):  # Convolutions inside are the choice of this library.
    def lower(ctx, *operands, **params):
      outside, _ours.inside = _is_ours(), True
      try:
        return rule(ctx, *operands, **params)
      finally:
        _ours.inside = outside
    return lower

  for primitive in (CONV, *trilinear.PRIMITIVES.values()):
    change = asking if primitive is CONV else marking
    for platform, rules in ((None, mlir._lowerings),
                            *mlir._platform_specific_lowerings.items()):
      if primitive in rules:
        mlir.register_lowering(primitive, change(rules[primitive].rule),
                               platform)


def _is_ours() -> bool:
  return getattr(_ours, 'inside', False)
