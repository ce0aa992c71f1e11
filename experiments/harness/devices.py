"""Data parallelism over many devices, in one process or in several.

A batch is sharded over all devices of all processes, and the state is
replicated. The compiler sees one batch and one state and inserts the sums over
devices, so that results depend on the number of devices only by rounding. The
primary process, which is the first one, writes records and results.
"""

import os
import sys
from typing import Any
from typing import NoReturn

import grain
import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

_SECONDS = 30  # Without a sign of life, until a process counts as dead.


def connect(coordinator: str, num_processes: int, process_id: int) -> None:
  """Connects this process with the others of a run, before jax is used.

  Args:
    coordinator: HOST:PORT of the primary process.
    num_processes: number of processes.
    process_id: number of this process, from 0.
  """
  jax.distributed.initialize(
      coordinator, num_processes, process_id,
      heartbeat_timeout_seconds=_SECONDS)


def abort(message: str) -> NoReturn:
  """Ends this process at once, and prints why.

  A normal exit would wait until all processes exit.
  """
  print(f'{message}\nProcess {jax.process_index()} of {jax.process_count()} '
        'ends. If another one has ended before it, the reason stands there. '
        'Without that reason, the same commands go on from the last '
        'checkpoint.', file=sys.stderr, flush=True)
  os._exit(1)


def is_primary() -> bool:
  """Tells whether this is the primary process, the one that writes."""
  return jax.process_index() == 0


def barrier(where: str) -> None:
  """Waits until all processes have called it with the same name."""
  multihost_utils.sync_global_devices(where)


def process_shard() -> grain.sharding.ShardOptions:
  """Gives the part of each batch that this process reads."""
  return grain.sharding.ShardByJaxProcess()


def shard_batch(batch: Any) -> Any:
  """Shards a batch over all devices.

  Args:
    batch: pytree with this process's part of the batch, [N, ...] arrays and
      scalars that are the same in all processes.

  Returns:
    The whole batch, [N * processes, ...] arrays that are sharded.
  """
  return _place(batch, lambda x: PartitionSpec(*['batch'] * (x.ndim > 0)))


def replicate(state: Any) -> Any:
  """Replicates a state, the same in all processes, on all devices."""
  return _place(state, lambda _: PartitionSpec())


def to_local(state: Any) -> Any:
  """Takes this process's copy of a replicated state, on one device."""
  return jax.tree.map(lambda x: x.addressable_data(0), state)


def _mesh() -> jax.sharding.Mesh:
  return jax.make_mesh(
      (jax.device_count(),), ('batch',), axis_types=(AxisType.Auto,))


def _place(tree, spec):
  mesh = _mesh()

  def put(x):
    x = np.asarray(x)
    return jax.make_array_from_process_local_data(
        NamedSharding(mesh, spec(x)), x)

  return jax.tree.map(put, tree)
