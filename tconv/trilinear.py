"""The three primitives, each of which is the derivative of the other two.

The library is built on one sum, which is linear in each of three arrays::

    T(x, w, y) = sum over n, i, k, c, o of
        x[n, i * s + k * d - p, c] * w[k, c, o] * y[n, i, o]

where x is [N, *fine, C], w is [*K, C / groups, O] and y is [N, *coarse, O].
For two given arrays, T is a linear function of the third. The gradient of T
with respect to that array is an operation::

    conv               takes x and w, gives y: C x
    conv_transpose     takes y and w, gives x: C^T y
    conv_kernel_grad   takes x and y, gives w

So the transpose of each operation with respect to either operand is another of
the three, and so are derivatives of any order. This module registers that with
JAX. Each operation chooses its own form (`dispatch`), in derivatives too. XLA's
gradient of a transposed convolution, which is many times slower, is never used.

Policies of `jax.checkpoint` that save lax's products by name, such as
`dots_saveable`, do not save the results of these primitives. `checkpoint_name`
works.
"""

import dataclasses
import functools

import jax
from jax import lax
from jax.experimental import jet
from jax.extend import core
from jax.interpreters import ad
from jax.interpreters import batching
from jax.interpreters import mlir
from jax.interpreters import xla
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec
import numpy as np

from tconv import dispatch
from tconv import sharding
from tconv import tuning_cache
from tconv.forms import calls
from tconv.forms import layout
from tconv.geometry import Geometry

# The arrays that each operation takes, and the one that it gives.
_GIVEN = {'conv': 'xw', 'conv_transpose': 'yw', 'conv_kernel_grad': 'xy'}
_GIVES = {'conv': 'y', 'conv_transpose': 'x', 'conv_kernel_grad': 'w'}
_OPERATION = {array: operation for operation, array in _GIVES.items()}
# The axis that some arrays share. `vmap` folds their mapped axis into it.
_SHARED: dict[frozenset[str], str] = {
    frozenset('xy'): 'N', frozenset('wy'): 'O', frozenset('xw'): 'C',
    frozenset('xwy'): 'groups'}
# Operations and forms that end in a sum of many slices, which is slow if XLA
# fuses it.
_SUMS = (('conv_transpose', 'overlap_add'), ('conv_transpose', 'taps'),
         ('conv', 'polyphase'))
PRIMITIVES = {
    operation: core.Primitive(f'tconv_{operation}') for operation in _GIVES}


def contract(operation: str, lhs: jax.Array, rhs: jax.Array, *,
             geometry: Geometry, precision=None, dtype=None,
             method: str = 'auto') -> jax.Array:
  """Applies one of the three operations to arrays in channels-last layout.

  Args:
    operation: 'conv', 'conv_transpose' or 'conv_kernel_grad'.
    lhs: x [N, *fine, C], or y [N, *coarse, O] for `conv_transpose`.
    rhs: w [*K, C / groups, O], or y [N, *coarse, O] for `conv_kernel_grad`.
    geometry: sizes that relate the arrays.
    precision: hashable `jax.lax.PrecisionLike`.
    dtype: dtype of the result; that of `lhs` by default.
    method: one of `dispatch.METHODS`, for this operation only; derivatives are
      computed by 'auto'.

  Returns:
    The third array: y, x or w.
  """
  # Inside `jax.shard_map`, an operand that is equal on all devices is marked as
  # varying here. Its gradient is then summed over the devices.
  varying = jax.typeof(lhs).mat.varying | jax.typeof(rhs).mat.varying
  lhs, rhs = (
      lax.pcast(a, tuple(varying - jax.typeof(a).mat.varying), to='varying')
      for a in (lhs, rhs))
  return PRIMITIVES[operation].bind(
      lhs, rhs, geometry=geometry, precision=precision,
      dtype=jnp.dtype(dtype or lhs.dtype), method=method)


def _compute(lhs, rhs, *, operation, geometry, precision, dtype, method,
             platform):
  """The definition of a primitive in terms of other JAX operations."""
  if 0 in (*lhs.shape, *rhs.shape):  # An empty sum.
    return layout.zeros(_shape(operation, lhs, rhs, geometry), dtype, like=lhs)
  # XLA's CPU convolutions read out of bounds if the padding p is negative; in
  # their transpose, if k_eff - 1 - p is. So forms only see geometries without
  # such padding, and the fine grid is padded or cropped here.
  plain, added = geometry.trimmed()
  if method == 'auto':
    contraction = tuning_cache.Contraction(
        operation, (lhs.shape, rhs.shape), (lhs.dtype, rhs.dtype), geometry,
        precision, dtype)
    method = (tuning_cache.form(contraction, platform)
              or dispatch.choose(operation, plain, contraction.shapes,
                                 platform))
  with jax.numpy_dtype_promotion('standard'):  # A cotangent may be wider.
    operand = jnp.promote_types(lhs.dtype, rhs.dtype)
    wide = jnp.promote_types(operand, dtype)
  lhs, rhs = lhs.astype(operand), rhs.astype(operand)
  if operation != 'conv_transpose':
    lhs = layout.extend(lhs, added)
  compute = functools.partial(
      dispatch.compute, operation, method, platform, geometry=plain,
      precision=precision, dtype=wide)
  if platform == 'cpu' and (operation, method) in _SUMS:
    # A reduction of the result, such as a loss, would be fused with the sums
    # and computed with them on one thread.
    compute = calls.outlined(compute, f'tconv_{operation}_{method}')
  result = compute(lhs, rhs)
  if operation == 'conv_transpose':
    result = layout.extend(
        result, tuple((-lo, -hi) for lo, hi in added))
  return result.astype(dtype)


def _shape(operation, lhs, rhs, geometry):
  if operation == 'conv':
    return (lhs.shape[0], *geometry.coarse_size, rhs.shape[-1])
  groups = geometry.feature_group_count
  if operation == 'conv_transpose':
    return (lhs.shape[0], *geometry.fine_size, rhs.shape[-2] * groups)
  return (*geometry.kernel_size, lhs.shape[-1] // groups, rhs.shape[-1])


def _abstract(lhs, rhs, *, operation, geometry, dtype, **_):
  """Shape, dtype and sharding of the result.

  Under explicit sharding, the result keeps the sharding of the batch; its other
  axes are not sharded.
  """
  shape = _shape(operation, lhs, rhs, geometry)
  batch = lhs.sharding.spec[0] if operation != 'conv_kernel_grad' else None
  spec = PartitionSpec(batch, *(None,) * (len(shape) - 1))
  return lhs.update(shape=shape, dtype=dtype, weak_type=False,
                    sharding=lhs.sharding.update(spec=spec))


def _lower(lhs, rhs, **params):
  """Computes a primitive under automatic sharding, also in explicit mode."""
  keys = ('operation', 'geometry', 'dtype')
  result = _abstract(jax.typeof(lhs), jax.typeof(rhs),
                     **{key: params[key] for key in keys})
  return sharding.automatic(functools.partial(_compute, **params),
                            result.sharding.spec, lhs, rhs)


def _transpose(cotangent, lhs, rhs, *, operation, wanted, geometry, precision,
               **_):
  """The transpose with respect to the operand `wanted`."""
  given = dict(zip(_GIVEN[operation], (lhs, rhs)))
  aval = given.pop(wanted).aval
  given[_GIVES[operation]] = cotangent
  back = _OPERATION[wanted]
  result = contract(back, *(given[a] for a in _GIVEN[back]), geometry=geometry,
                    precision=precision, dtype=aval.dtype)
  if AxisType.Explicit in aval.sharding.mesh.axis_types:
    result = jax.sharding.reshard(result, aval.sharding)
  return result


def _jet(primitive, operands, series, **params):
  """The rule for `jet`: multiplies two polynomials, given as coefficients."""
  lhs, rhs = ((value, *terms) for value, terms in zip(operands, series))
  first, *others = (
      sum(primitive.bind(lhs[i], rhs[degree - i], **params)
          for i in range(degree + 1))
      for degree in range(len(lhs)))
  return first, others


def _batch(operands, axes, *, operation, **params):
  """The rule for `vmap`; the mapped axis of the result is the first.

  Under explicit sharding, the mapped axis and the batch stay sharded.
  """
  specs = [jax.typeof(a).sharding.spec for a in operands]
  mapped = next(spec[axis] for spec, axis in zip(specs, axes)
                if axis is not None)
  batch = specs[0][int(axes[0] == 0)]
  apply = functools.partial(
      _apply_folded, axes=axes, operation=operation, **params)
  return sharding.automatic(
      apply, (mapped, batch if operation != 'conv_kernel_grad' else None),
      *operands), 0


def _apply_folded(*operands, axes, operation, geometry, **params):
  """Folds the mapped axis into an axis of the sum and applies the operation.

  The arrays with the mapped axis, including the result, determine which axis:
  x and y share N, w and y share O, x and w share C, and all three share the
  groups.
  """
  given, gives = _GIVEN[operation], _GIVES[operation]
  size = next(a.shape[axis] for a, axis in zip(operands, axes)
              if axis is not None)
  if size == 0:  # Folding would leave no channels or groups.
    lhs, rhs = (
        jax.ShapeDtypeStruct(
            a.shape if axis is None else np.delete(a.shape, axis), a.dtype)
        for a, axis in zip(operands, axes))
    shape = _shape(operation, lhs, rhs, geometry)
    return jnp.zeros((0, *shape), params['dtype'])
  mapped = {gives, *(a for a, axis in zip(given, axes) if axis is not None)}
  shared = _SHARED[frozenset(mapped)]
  groups = geometry.feature_group_count
  if shared == 'groups':
    geometry = dataclasses.replace(
        geometry, feature_group_count=groups * size)
  folded = [
      a if axis is None else _fold(jnp.moveaxis(a, axis, 0),
                                   *_place(shared, name, groups))
      for name, a, axis in zip(given, operands, axes)]
  result = contract(operation, *folded, geometry=geometry, **params)
  return _unfold(result, *_place(shared, gives, groups), size)


def _place(shared: str, array: str, groups: int) -> tuple[int, int]:
  """The axis of an array to fold into, and the size of its outermost part.

  The channels of x and y and the last axis of w are ordered by group first. A
  mapped axis that is folded into the channels of each group comes after the
  groups.
  """
  if shared == 'N':
    return 0, 1
  if shared == 'groups':
    return -1, 1
  if (shared, array) == ('C', 'w'):
    return -2, 1
  return -1, groups


def _fold(a: jax.Array, axis: int, outer: int) -> jax.Array:
  """Folds the leading axis into `axis`, after its outermost part."""
  axis %= a.ndim - 1
  size, *shape = a.shape
  a = a.reshape(size, *shape[:axis], outer, shape[axis] // outer,
                *shape[axis + 1:])
  shape[axis] *= size
  return jnp.moveaxis(a, 0, axis + 1).reshape(shape)


def _unfold(a: jax.Array, axis: int, outer: int, size: int) -> jax.Array:
  """Undoes `_fold`."""
  axis %= a.ndim
  shape = list(a.shape)
  shape[axis] //= size
  a = a.reshape(*shape[:axis], outer, size, shape[axis] // outer,
                *shape[axis + 1:])
  return jnp.moveaxis(a, axis + 1, 0).reshape(size, *shape)


def _define(operation: str) -> None:
  """Registers a primitive's evaluation, lowering, derivatives and batching."""
  primitive = PRIMITIVES[operation]
  primitive.def_impl(functools.partial(xla.apply_primitive, primitive))
  primitive.def_abstract_eval(functools.partial(_abstract, operation=operation))
  for platform in (*dispatch.PLATFORMS, None):  # None: all other platforms.
    lower = functools.partial(
        _lower, operation=operation, platform=platform or 'other')
    mlir.register_lowering(
        primitive, mlir.lower_fun(lower, multiple_results=False), platform)
  ad.defbilinear(primitive, *(
      functools.partial(_transpose, operation=operation, wanted=wanted)
      for wanted in _GIVEN[operation]))
  jet.jet_rules[primitive] = functools.partial(_jet, primitive)
  batching.primitive_batchers[primitive] = functools.partial(
      _batch, operation=operation)


for _operation in PRIMITIVES:
  _define(_operation)
