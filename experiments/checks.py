"""Finds mistakes in a config before anything is built."""

from collections.abc import Sequence

import jax
import ml_collections

from experiments import workdir as workdir_lib


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


def whole(values: Sequence, least: int) -> bool:
  """Tells whether there are values, all of them whole numbers.

  Args:
    values: to look at.
    least: the smallest that is allowed.

  Returns:
    Whether they are.
  """
  return bool(values) and all(
      isinstance(value, int) and value >= least for value in values)


def loop(config: ml_collections.ConfigDict) -> None:
  """Checks the fields that `training.train` and its batches need.

  Args:
    config: with 'seeds', 'num_steps', 'batch_size', 'log_every', 'save_every'
      and 'learning_rate'.

  Raises:
    RunError: one of them cannot be used.
  """
  require(config, whole(config.seeds, 0), 'seeds',
          'whole numbers of at least 0')
  require(config, len(set(config.seeds)) == len(config.seeds), 'seeds',
          'different numbers')
  for field in 'num_steps', 'batch_size', 'log_every':
    require(config, config[field] >= 1, field, 'at least 1')
  number = jax.device_count()
  require(config, config.batch_size % number == 0, 'batch_size',
          f'a multiple of the number of devices, {number}')
  require(config,
          config.save_every > 0 and config.save_every % config.log_every == 0,
          'save_every', f'a multiple of log_every, {config.log_every}')
  require(config, config.learning_rate > 0, 'learning_rate', 'above 0')
