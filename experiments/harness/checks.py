"""Finds mistakes in a config before anything is built."""

from collections.abc import Sequence

import jax
import ml_collections
import numpy as np

from experiments.harness import workdir as workdir_lib

_MOST = 2**31 - 1  # What counts steps and sizes has 32 bits, at least.
_LARGEST = float(np.finfo(np.float32).max)


def require(config: ml_collections.ConfigDict, condition: object, field: str,
            wanted: str) -> None:
  """Stops with one line that names a field.

  Args:
    config: of a study.
    condition: whether the field can be used.
    field: its name, like 'figure.size'.
    wanted: what it must be.

  Raises:
    RunError: the condition does not hold.
  """
  if not condition:
    raise workdir_lib.RunError(
        f'config.{field} must be {wanted}; got {config[field]!r}.')


def whole(values: Sequence, least: int, most: int = _MOST) -> bool:
  """Tells whether there are values, all of them whole numbers.

  Args:
    values: to look at.
    least: the smallest that is allowed.
    most: the largest that is allowed.

  Returns:
    Whether they are.
  """
  return bool(values) and all(
      isinstance(value, int) and least <= value <= most for value in values)


def counts(config: ml_collections.ConfigDict, *fields: str) -> None:
  """Checks that fields are whole numbers of at least 1.

  Args:
    config: of a study.
    *fields: their names.

  Raises:
    RunError: one of them is not.
  """
  for field in fields:
    require(config, whole((config[field],), 1), field,
            f'a whole number from 1 to {_MOST}')


def positive(config: ml_collections.ConfigDict, *fields: str) -> None:
  """Checks that fields are positive numbers that float32 has.

  Args:
    config: of a study.
    *fields: their names.

  Raises:
    RunError: one of them is not.
  """
  for field in fields:
    require(config, 0 < config[field] <= _LARGEST, field,
            f'above 0 and at most {_LARGEST:.2g}')


def seeds(config: ml_collections.ConfigDict, field: str) -> None:
  """Checks that a field has seeds, which draw different numbers.

  Args:
    config: of a study.
    field: its name.

  Raises:
    RunError: it has not.
  """
  most = 2**32 - 1  # Of larger ones, JAX takes the last 32 bits.
  require(config, whole(config[field], 0, most), field,
          f'whole numbers from 0 to {most}')
  require(config, len(set(config[field])) == len(config[field]), field,
          'different numbers')


def loop(config: ml_collections.ConfigDict) -> None:
  """Checks the fields that `training.train` and its batches need.

  Args:
    config: with 'seeds', 'num_steps', 'batch_size', 'log_every', 'save_every'
      and 'learning_rate'.

  Raises:
    RunError: one of them cannot be used.
  """
  seeds(config, 'seeds')
  counts(config, 'num_steps', 'batch_size', 'log_every', 'save_every')
  number = jax.device_count()
  require(config, config.batch_size % number == 0, 'batch_size',
          f'a multiple of the number of devices, {number}')
  require(config, config.save_every % config.log_every == 0, 'save_every',
          f'a multiple of log_every, {config.log_every}')
  positive(config, 'learning_rate')
