"""Checks of config fields; each raises a `RunError` that names the field."""

from collections.abc import Sequence

import jax
import ml_collections
import numpy as np

from experiments.harness import workdir as workdir_lib

_MOST = 2**31 - 1  # Numbers of steps and sizes are 32-bit integers.
_LARGEST = float(np.finfo(np.float32).max)


def require(config: ml_collections.ConfigDict, condition: object, field: str,
            wanted: str) -> None:
  """Raises an error about a field unless a condition holds.

  Args:
    config: config of a study.
    condition: whether the field can be used.
    field: name of the field, such as 'figure.size'.
    wanted: description of what it must be.

  Raises:
    RunError: the condition does not hold.
  """
  if not condition:
    raise workdir_lib.RunError(
        f'config.{field} must be {wanted}; got {config[field]!r}.')


def whole(values: Sequence, least: int, most: int = _MOST) -> bool:
  """Tells whether there are values, all of them whole numbers in a range."""
  return bool(values) and all(
      isinstance(value, int) and least <= value <= most for value in values)


def counts(config: ml_collections.ConfigDict, *fields: str) -> None:
  """Requires fields to be whole numbers of at least 1."""
  for field in fields:
    require(config, whole((config[field],), 1), field,
            f'a whole number from 1 to {_MOST}')


def positive(config: ml_collections.ConfigDict, *fields: str) -> None:
  """Requires fields to be positive numbers that float32 can hold."""
  for field in fields:
    require(config, 0 < config[field] <= _LARGEST, field,
            f'above 0 and at most {_LARGEST:.2g}')


def seeds(config: ml_collections.ConfigDict, field: str) -> None:
  """Requires a field to have different random seeds."""
  most = 2**32 - 1  # Of larger ones, JAX takes the last 32 bits.
  require(config, whole(config[field], 0, most), field,
          f'whole numbers from 0 to {most}')
  require(config, len(set(config[field])) == len(config[field]), field,
          'different numbers')


def loop(config: ml_collections.ConfigDict) -> None:
  """Checks the fields that `loop.train` and its batches need."""
  seeds(config, 'seeds')
  counts(config, 'num_steps', 'batch_size', 'log_every', 'save_every')
  number = jax.device_count()
  require(config, config.batch_size % number == 0, 'batch_size',
          f'a multiple of the number of devices, {number}')
  require(config, config.save_every % config.log_every == 0, 'save_every',
          f'a multiple of log_every, {config.log_every}')
  positive(config, 'learning_rate')
