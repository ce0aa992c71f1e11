"""Runs the study that a config asks for.

    python -m experiments.main --config=configs/upsampling.py --workdir=runs/x

Any field of the config can be set: --config.num_steps=100.
"""

import importlib
import shlex
import sys

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
flags.mark_flag_as_required('config')


def parse_flags(argv: list[str]) -> list[str]:
  """Parses as absl does, but reports an unknown config field in one line."""
  try:
    return app.parse_flags_with_usage(argv)
  except AttributeError as error:
    if not isinstance(error.args[0], KeyError):
      raise
    sys.exit(f'error: --config has no such field: {error.args[0].args[0]}')


def main(argv: list[str]) -> None:
  """Checks the config, makes the workdir and runs the study in it."""
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {shlex.join(argv[1:])}')
  # Imported here, so that a mistaken flag is answered at once.
  from experiments import workdir as workdir_lib
  command = shlex.join(['python', '-m', 'experiments.main', *sys.argv[1:]])
  try:
    config = _CONFIG.value
    if config.study not in STUDIES:
      raise workdir_lib.RunError(
          f'config.study must be one of {STUDIES}; got {config.study!r}.')
    study = importlib.import_module(f'experiments.studies.{config.study}')
    study.check(config)
    workdir = workdir_lib.open_workdir(_WORKDIR.value, config)
    study.run(config, workdir, command=command)
  except (workdir_lib.RunError, OSError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  logging.set_verbosity(logging.WARNING)
  app.run(main, flags_parser=parse_flags)
