"""The command as a user runs it wrong: one clear line, and an exit status."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from absl.testing import absltest

ROOT = pathlib.Path(__file__).parents[1]
SMOKE = '--config=configs/upsampling.py:smoke'
STUDIES = r"\['generator', 'segmentation', 'upsampling'\]"

# Flags; what stderr must match. The workdir is 'new', and no run is begun.
MISTAKES = (
    ([SMOKE, '--config.num_stepz=1'],
     "^error: .*such field: 'num_stepz'\n.*mean \"num_steps\""),
    ([SMOKE, '--config.num_steps=many'], '--config.num_steps=many: invalid'),
    ([SMOKE, '--config.scales=(1,)'],
     r'^error: config.scales must be .*2 to 50; got \(1,\)\.\n$'),
    ([SMOKE, '--config.study=upsampling.model'],
     f"^error: config.study must be one of {STUDIES}; got 'upsampling"),
    ([SMOKE, 'too much'], "unexpected arguments: 'too much'"),
    ([SMOKE, '--workdir=file'],
     r'^error: --workdir cannot be written: .*File exists: .*\n$'),
    ([SMOKE, '--num_processes=2'], 'belong together'),
    (['--config=configs/none.py'],
     "^error: --config cannot be read: .*'configs/none.py'\n$"))

# Imports once, and runs each command line in a fork of this process. Prints
# the status and the messages of each.
_DRIVER = '''if True:
  import atexit, json, os, signal, sys
  from absl import app, logging
  from experiments import main
  from experiments.harness import study
  from experiments.studies import upsampling

  logging.set_verbosity(logging.WARNING)
  for number, (flags, how) in enumerate(json.loads(sys.argv[1])):
    if not os.fork():
      sys.argv[1:] = flags
      os.dup2(os.open(f'{sys.argv[0]}{number}', os.O_CREAT | os.O_WRONLY), 2)
      if how == 'at the end':
        atexit.register(os.kill, os.getpid(), signal.SIGTERM)
      elif how == 'in the run':
        study.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
      elif how == 'full':
        def run(*_, **__):
          raise OSError(28, 'No space left on device')
        study.run = run
      app.run(main.main, flags_parser=main.parse_flags)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
'''


class MainTest(absltest.TestCase):

  def test_statuses_and_messages(self):
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    (folder / 'file').write_text('not a folder')
    cases = [(flags, '', 1, message) for flags, message in MISTAKES]
    cases += [
        ([SMOKE, '--config.study=art'], 'at the end', -signal.SIGTERM,
         '^error: config.study must be .*\n$'),
        ([SMOKE, '--workdir=run'], 'in the run', 1,
         '^error: stopped; rerun the same command to resume.\n$'),
        ([SMOKE, '--workdir=run'], 'full', 1,
         '^error: --workdir cannot be written: .*No space left on device\n$')]
    commands = []
    for flags, how, *_ in cases:
      named = any(flag.startswith('--workdir') for flag in flags)
      flags = [re.sub('--workdir=(?=.)', f'--workdir={folder}/', flag)
               for flag in flags]
      commands.append(
          (flags if named else [f'--workdir={folder}/new', *flags], how))
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c',
         f'import sys; sys.argv[0] = "{folder}/"\n{_DRIVER}',
         json.dumps(commands)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, 'XLA_FLAGS': ''})
    statuses = map(int, result.stdout.split())
    for i, (status, (flags, _, expected, message)) in enumerate(
        zip(statuses, cases, strict=True)):
      with self.subTest(flags=flags):
        shown = (folder / str(i)).read_text()
        self.assertEqual(status, expected, shown)
        self.assertNotIn('Traceback', shown)
        self.assertRegex(shown, message)
    self.assertFalse((folder / 'new').exists())


if __name__ == '__main__':
  absltest.main()
