"""Many devices, in one process or in many: who computes what, and who writes.

A batch is shared by all devices of all processes, and each has the whole state.
The compiler sees one batch and one state, and adds up what has to be added up;
so numbers do not depend on the number of devices, but for rounding. Only the
first process writes records and results.
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
  """Makes this process one of many. To be called before jax is used.

  Args:
    coordinator: HOST:PORT at which the first process can be reached.
    num_processes: how many there are.
    process_id: which one this is, from 0.
  """
  jax.distributed.initialize(
      coordinator, num_processes, process_id,
      heartbeat_timeout_seconds=_SECONDS)


def leave(message: str) -> NoReturn:
  """Ends a process that others may wait for, or that waits for a dead one.

  A normal exit would wait until all processes exit.

  Args:
    message: why.
  """
  print(f'{message}\nProcess {jax.process_index()} of {jax.process_count()} '
        'ends. If another one has ended before it, the reason stands there. '
        'Without that reason, the same commands go on from the last '
        'checkpoint.', file=sys.stderr, flush=True)
  os._exit(1)


def is_first() -> bool:
  """Tells whether this is the process that writes."""
  return jax.process_index() == 0


def wait(where: str) -> None:
  """Waits until all processes are there.

  Args:
    where: a name, the same in all of them.
  """
  multihost_utils.sync_global_devices(where)


def process_shard() -> grain.sharding.ShardOptions:
  """The part of each batch that this process reads."""
  return grain.sharding.ShardByJaxProcess()


def share(batch: Any) -> Any:
  """Spreads a batch over all devices.

  Args:
    batch: pytree of arrays, [N, ...], of which each process has its part;
      scalars are the same for all.

  Returns:
    The same, [N * processes, ...], as arrays that are shared.
  """
  return _place(batch, lambda x: PartitionSpec(*['batch'] * (x.ndim > 0)))


def replicate(state: Any) -> Any:
  """Gives each device all of a state.

  Args:
    state: pytree of arrays that are the same in all processes.

  Returns:
    The same, on all devices.
  """
  return _place(state, lambda _: PartitionSpec())


def own(state: Any) -> Any:
  """Takes a state that all devices have, for this process alone.

  Args:
    state: as `replicate` gives it.

  Returns:
    The same, on one device.
  """
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
