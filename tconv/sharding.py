"""Explicit sharding: what is kept, and what the compiler is left to decide."""

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
  """Applies a function under automatic sharding, whatever the mode outside.

  Args:
    function: from the operands to an array, or a pytree of arrays.
    spec: for each leading axis of the results, the mesh axes that shard it.
    *operands: arrays.

  Returns:
    The results; under explicit sharding, sharded by `spec`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:  # Arrays may be sharded without `jax.set_mesh`.
    mesh = jax.typeof(operands[0]).sharding.mesh
  if AxisType.Explicit not in mesh.axis_types:
    return function(*operands)
  with jax.sharding.use_abstract_mesh(mesh):
    # Its annotation leaves out that it may be called with the function.
    automated: Any = jax.sharding.auto_axes(
        function, out_sharding=PartitionSpec(*spec))
    return automated(*operands)


def keeping_batch(function: Callable[..., _Result]) -> (
    Callable[..., _Result]):
  """Makes a function of images keep the sharding of the batch, and no other.

  Args:
    function: its first argument is an [N, ...] array, and so are its results.

  Returns:
    The function, under automatic sharding.
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
