"""Runs the study of a config.

    python -m experiments.main --config=configs/upsampling.py --workdir=runs/x

Any field of the config can be changed by a flag: --config.num_steps=100. An
interrupted run resumes if the same command is given again.

Batches are sharded over all devices. To use the devices of several machines,
run the same command on each of them, with a workdir that all can reach, and

    --coordinator=HOST:PORT --num_processes=2 --process_id=0

where HOST is the machine of process 0. `experiments.launch` starts several
processes on one machine.
"""

import contextlib
import importlib
import pathlib
import pkgutil
import shlex
import signal
import sys
import traceback
from typing import NoReturn

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'Config file; its docstring says what to expect of a run.')
_WORKDIR = flags.DEFINE_string(
    'workdir', None,
    'Output folder. Resumes a run of the same config; refuses a different one.',
    required=True)
_COORDINATOR = flags.DEFINE_string(
    'coordinator', None, 'HOST:PORT of process 0, if there are several.')
_NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', 1, 'Number of processes.', lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer(
    'process_id', 0, 'Number of this process, from 0.', lower_bound=0)
flags.mark_flag_as_required('config')
flags.register_validator('workdir', bool, '--workdir must name a folder')


@flags.multi_flags_validator(
    ['coordinator', 'num_processes', 'process_id'],
    '--coordinator=HOST:PORT, a --num_processes above 1 and a --process_id '
    'below it belong together')
def _fit_each_other(values):
  return (values['process_id'] < values['num_processes'] and
          (values['coordinator'] is None) == (values['num_processes'] == 1))


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags as absl does; an unknown config field is a one-line error."""
  try:
    return app.parse_flags_with_usage(argv)
  except AttributeError as error:
    if not isinstance(error.args[0], KeyError):
      raise
    sys.exit(f'error: --config has no such field: {error.args[0].args[0]}')


def main(argv: list[str]) -> None:
  """Runs the study, or exits with a line that says why it cannot."""
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {shlex.join(argv[1:])}')
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # As Ctrl-C.
  try:
    _run()
  except KeyboardInterrupt:
    _end('stopped; rerun the same command to resume.')
  finally:
    _die_of_signals()


def _die_of_signals():
  """Lets signals end the process at once, as nothing is left to be written."""
  for number in signal.SIGINT, signal.SIGTERM:
    signal.signal(number, signal.SIG_DFL)


def _run():
  """Checks the config, opens the workdir and runs the study in it."""
  # Imported here, so that a mistaken flag is answered at once.
  from experiments import studies
  from experiments.harness import devices
  from experiments.harness import study as study_lib
  from experiments.harness import workdir as workdir_lib
  command = shlex.join(['python', '-m', 'experiments.main', *sys.argv[1:]])
  try:
    if _COORDINATOR.value:
      devices.connect(
          _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    config = _CONFIG.value
    try:
      _ = config.study
    except OSError as error:  # Of the file; its message has several lines.
      raise workdir_lib.RunError(
          f'--config cannot be read: {" ".join(str(error).split())}') from error
    names = [found.name for found in pkgutil.iter_modules(studies.__path__)]
    if config.study not in names:
      raise workdir_lib.RunError(
          f'config.study must be one of {names}; got {config.study!r}.')
    study = importlib.import_module(
        f'experiments.studies.{config.study}').Study(config)
    study.check()
    with contextlib.ExitStack() as stack:
      if devices.is_primary():
        stack.enter_context(workdir_lib.opened(_WORKDIR.value, config))
      study_lib.run(study, pathlib.Path(_WORKDIR.value), command=command)
  except workdir_lib.RunError as error:
    _end(error)
  except OSError as error:
    # An error without a file name is of a file that was open already.
    _end(error if error.filename else f'--workdir cannot be written: {error}')
  except Exception as error:
    if not _COORDINATOR.value:
      raise
    traceback.print_exc()
    _end(error)


def _end(message: object) -> NoReturn:
  """Exits with an error, without waiting for other processes."""
  if _COORDINATOR.value:
    from experiments.harness import devices
    devices.abort(f'error: {message}')
  sys.exit(f'error: {message}')


if __name__ == '__main__':
  logging.set_verbosity(logging.WARNING)
  app.run(main, flags_parser=parse_flags)
