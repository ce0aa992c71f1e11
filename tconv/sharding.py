"""Explicit sharding: what is kept, and what the compiler is left to decide."""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec


def automatic(function: Callable[..., jax.Array], spec: Sequence,
              *operands: jax.Array) -> jax.Array:
  """Applies a function under automatic sharding, whatever the mode outside.

  Args:
    function: of the operands, to one array.
    spec: for each leading axis of the result, the mesh axes that shard it.
    *operands: arrays.

  Returns:
    The result; under explicit sharding, sharded by `spec`.
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


def keeping_batch(function: Callable[..., jax.Array]) -> (
    Callable[..., jax.Array]):
  """Makes a function of one image keep the sharding of the batch, and no other.

  Args:
    function: its first argument and its result are [N, ...] arrays.

  Returns:
    The function, under automatic sharding.
  """

  @functools.wraps(function)
  def sharded(inputs, *args, **kwargs):
    inputs = jnp.asarray(inputs)
    return automatic(lambda x: function(x, *args, **kwargs),
                     jax.typeof(inputs).sharding.spec[:1], inputs)

  return sharded
