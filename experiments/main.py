"""Runs the study that a config asks for.

    python -m experiments.main --config=configs/upsampling.py --workdir=runs/x

Any field of the config can be set: --config.num_steps=100. Batches are shared
by all devices; to use those of many machines, run the same command on each,
with a workdir that all can reach, and

    --coordinator=HOST:PORT --num_processes=2 --process_id=0

where HOST is the machine of process 0. `experiments.launch` does so for one.
"""

import contextlib
import importlib
import pathlib
import shlex
import signal
import sys
import traceback
from typing import NoReturn

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

STUDIES = ('upsampling', 'generator', 'segmentation')

_CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'File of settings; its docstring says what to expect.')
_WORKDIR = flags.DEFINE_string(
    'workdir', None,
    'Folder for the results. Goes on with a run of the same config in it, and '
    'stops at one of another config.', required=True)
_COORDINATOR = flags.DEFINE_string(
    'coordinator', None, 'HOST:PORT of process 0, if there are many.')
_NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', 1, 'How many there are.', lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer(
    'process_id', 0, 'Which of them this is.', lower_bound=0)
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
  """Parses as absl does, but reports an unknown config field in one line."""
  try:
    return app.parse_flags_with_usage(argv)
  except AttributeError as error:
    if not isinstance(error.args[0], KeyError):
      raise
    sys.exit(f'error: --config has no such field: {error.args[0].args[0]}')


def main(argv: list[str]) -> None:
  """Runs the study, or ends with a line that says why it could not."""
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {shlex.join(argv[1:])}')
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # As Ctrl-C.
  try:
    _run()
  except KeyboardInterrupt:
    _end('stopped; the same command goes on from the last checkpoint.')
  finally:
    _die_of_signals()


def _die_of_signals():
  """Lets a signal end the process at once: all has been written, or said."""
  for number in signal.SIGINT, signal.SIGTERM:
    signal.signal(number, signal.SIG_DFL)


def _run():
  """Checks the config, makes the workdir and runs the study in it."""
  # Imported here, so that a mistaken flag is answered at once.
  from experiments import devices
  from experiments import workdir as workdir_lib
  command = shlex.join(['python', '-m', 'experiments.main', *sys.argv[1:]])
  try:
    if _COORDINATOR.value:
      devices.connect(
          _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    config = _CONFIG.value
    if config.study not in STUDIES:
      raise workdir_lib.RunError(
          f'config.study must be one of {STUDIES}; got {config.study!r}.')
    study = importlib.import_module(f'experiments.studies.{config.study}')
    study.check(config)
    with contextlib.ExitStack() as stack:
      if devices.is_first():
        stack.enter_context(workdir_lib.locked(_WORKDIR.value))
        workdir_lib.open_workdir(_WORKDIR.value, config)
      study.run(config, pathlib.Path(_WORKDIR.value), command=command)
  except workdir_lib.RunError as error:
    _end(error)
  except OSError as error:
    # Without a name, it comes of writing to a file that was open already.
    _end(error if error.filename else f'--workdir cannot be written: {error}')
  except Exception as error:
    if not _COORDINATOR.value:
      raise
    traceback.print_exc()
    _end(error)


def _end(message: object) -> NoReturn:
  """Ends with an error, and does not wait for other processes."""
  if _COORDINATOR.value:
    from experiments import devices
    devices.leave(f'error: {message}')
  sys.exit(f'error: {message}')


if __name__ == '__main__':
  logging.set_verbosity(logging.WARNING)
  app.run(main, flags_parser=parse_flags)
