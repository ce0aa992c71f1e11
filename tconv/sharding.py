"""Explicit sharding: results keep that of the batch; XLA decides the rest."""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import inspect
from typing import Any
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec

_Result = TypeVar('_Result')


def automatic(function: Callable[..., _Result], spec: Sequence,
              *operands: jax.Array) -> _Result:
  """Applies a function under automatic sharding, also in explicit mode.

  Args:
    function: function of the operands that returns a pytree of arrays.
    spec: mesh axes that shard each leading axis of the results.
    *operands: arrays.

  Returns:
    The results; in explicit mode, sharded by `spec`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:  # Arrays may be sharded without `jax.set_mesh`.
    mesh = jax.typeof(operands[0]).sharding.mesh
  if AxisType.Explicit not in mesh.axis_types:
    return function(*operands)
  with jax.sharding.use_abstract_mesh(mesh):
    # Its annotation does not say that it accepts the function.
    automated: Any = jax.sharding.auto_axes(
        function, out_sharding=PartitionSpec(*spec))
    return automated(*operands)


def keeping_batch(function: Callable[..., _Result]) -> (
    Callable[..., _Result]):
  """Decorates a function whose results keep the sharding of the batch only.

  Args:
    function: function from an [N, ...] array and further arguments to [N, ...]
      arrays.

  Returns:
    The function; in explicit mode, the other axes of its results are not
    sharded.
  """
  signature = inspect.signature(function)
  first = next(iter(signature.parameters))

  @functools.wraps(function)
  def sharded(*args, **kwargs):
    given = signature.bind(*args, **kwargs).arguments
    inputs = jnp.asarray(given.pop(first))
    return automatic(lambda x: function(x, **given),
                     jax.typeof(inputs).sharding.spec[:1], inputs)

  return sharded
