"""Compiles for devices that this machine does not have.

This needs JAX's CUDA plugin or libtpu. `make codegen` installs them into a
separate environment, because on a machine without a GPU the plugin warns at
every start of JAX.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import os
import pathlib
from typing import Any

import jax
from jax.experimental import topologies

from experiments.harness import workdir

# Keeps the compilers from looking for devices, here or in the network.
_ENVIRONMENT = {
    'JAX_SKIP_CUDA_CONSTRAINTS_CHECK': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
    'TPU_SKIP_MDS_QUERY': '1',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}
# Four devices each. For a GPU, XLA also needs a description of the device.
_TOPOLOGIES = {
    'h100': {'platform': 'cuda', 'topology_name': 'h100',
             'topology': '1x1x4'},
    'v5e': {'platform': 'tpu', 'topology_name': 'v5e:2x2'},
}
# Autotuning needs the device.
_OPTIONS: dict[str, dict[str, Any]] = {
    'h100': {'xla_gpu_autotune_level': 0}, 'v5e': {}}
NAMES = tuple(_TOPOLOGIES)


class MissingCompilerError(workdir.RunError):
  """The compiler for a device is not installed."""


@functools.cache
def devices(target: str) -> Sequence[Any]:
  """Returns four devices for which programs can be compiled.

  Args:
    target: one of `NAMES`.

  Returns:
    The devices.

  Raises:
    MissingCompilerError: the compiler is not installed.
    ValueError: there is no such target.
  """
  if target not in NAMES:
    raise ValueError(f'target must be one of {", ".join(NAMES)}; got '
                     f'{target!r}.')
  # Read when the compilers are loaded, which is after the import of JAX.
  os.environ.update(_ENVIRONMENT)
  jax.config.update('jax_platforms', 'cpu')
  options = dict(_TOPOLOGIES[target])
  if target == 'h100':
    options['target_config'] = (
        pathlib.Path(__file__).parent / 'h100.txtpb').read_text('utf-8')
  try:
    return topologies.get_topology_desc(**options).devices
  except (NotImplementedError, RuntimeError) as error:
    raise MissingCompilerError(
        f'There is no compiler for {target} here: {error}. `make codegen` '
        'installs one into .venv-codegen; run this with '
        '.venv-codegen/bin/python.') from error


def placed(target: str, shape: Sequence[int], dtype: Any
           ) -> jax.ShapeDtypeStruct:
  """Returns shape and dtype of an argument, placed on one device."""
  place = jax.sharding.SingleDeviceSharding(devices(target)[0])
  return jax.ShapeDtypeStruct(shape, dtype, sharding=place)


def compiled(target: str, function: Callable[..., Any], *arguments: Any
             ) -> jax.stages.Compiled:
  """Compiles a function for shapes (or pytrees of them) with shardings."""
  return jax.jit(function).lower(*arguments).compile(
      compiler_options=_OPTIONS[target])
