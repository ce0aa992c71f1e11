"""The command `tconv`: audit, repair, measure."""

from collections.abc import Sequence
import contextlib
import glob
import os
import pathlib
import sys
import tempfile

import jax

from tconv.audit import model as model_lib
from tconv.audit import options as options_lib

_PICKLES = ('.pt', '.pth', '.ckpt', '.pkl')


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    arguments: its arguments; None for those of the process.

  Returns:
    The exit status.
  """
  options = options_lib.parser().parse_args(arguments)
  if 'JAX_PLATFORMS' not in os.environ:
    jax.config.update('jax_platforms', 'cpu')  # Kernels are small.
  try:
    return {'audit': _audit, 'repair': _repair, 'measure': _measure}[
        options.command](options)
  except ImportError as error:
    return _failed(f'{error}; install what it needs: '
                   "pip install 'tconv[audit]'")
  except (model_lib.AuditError, OSError) as error:
    return _failed(str(error))
  except MemoryError:
    return _failed('not enough memory')
  except KeyboardInterrupt:
    return _failed('stopped')


def _failed(message: str) -> int:
  line = ' '.join(message.split())
  print(f'tconv: error: {line}'.encode('utf-8', 'replace').decode(),
        file=sys.stderr)
  return 2


def _load(options):
  """The model, its probes and its audit."""
  from tconv.audit import findings
  from tconv.audit import onnx_model
  from tconv.audit import probe
  if not options.white > 0:
    raise model_lib.AuditError(
        f'--white must be above 0; got {options.white}')
  files = list(map(pathlib.Path, _find(options.inputs, '--inputs')))
  model = onnx_model.load(options.model)
  probes = probe.probes(model, files, white=options.white)
  return model, findings.audit(model, probes, _progress)


def _find(patterns: Sequence[str], name: str) -> list[str]:
  """Returns paths of files that match an argument's patterns."""
  found = []
  for pattern in patterns:
    # What the shell expanded may have the characters of a pattern in its name.
    matches = [pattern] if os.path.lexists(pattern) else sorted(
        glob.glob(pattern, recursive=True))
    matches = [path for path in matches if not os.path.isdir(path)]
    if not matches:
      raise model_lib.AuditError(f'{name} {pattern}: no such file')
    found += matches
  return found


def _progress(text: str) -> None:
  """Shows what is being done, on one line of a terminal."""
  if sys.stderr.isatty():
    plain = ''.join(c if c.isprintable() else '?' for c in text)
    print(f'\r\033[K{plain[:78]}', end='', file=sys.stderr, flush=True)


def _done() -> None:
  if sys.stderr.isatty():
    print('\r\033[K', end='', file=sys.stderr, flush=True)


def _check_not_pickle(path: pathlib.Path) -> None:
  """Refuses files that it is not safe to read."""
  if path.suffix.lower() in _PICKLES:
    raise model_lib.AuditError(
        f'{path} is a pickle by its name, and reading a pickle can run any '
        'code; if you trust it, convert it to ONNX with torch.onnx.export, or '
        'its state_dict() to safetensors with safetensors.torch.save_file')


def _kernels(options):
  """The report on the kernels of a safetensors file."""
  from tconv.audit import safetensors_file
  if options.inputs or options.html:
    raise model_lib.AuditError(
        '--inputs and --html need a model that runs, an ONNX file; got '
        f'{options.model}')
  return safetensors_file.audit(options.model, options.layer, options.layout)


def _model(options):
  """The report on an ONNX model; writes the page, too."""
  if options.layer:
    raise model_lib.AuditError(
        f'--layer is for safetensors files; got {options.model}')
  model, audit = _load(options)
  if options.html:
    from tconv.audit import figures
    _progress('drawing')
    _write(options.html, figures.page(model, audit))
  _done()
  return audit.report


def _audit(options) -> int:
  import rich.console

  from tconv.audit import report as report_lib
  from tconv.audit import verdicts
  _check_not_pickle(options.model)
  has_kernels_only = options.model.suffix == '.safetensors'
  report = (_kernels if has_kernels_only else _model)(options)
  if options.format == 'table':
    wide = None if sys.stdout.isatty() else 120
    report_lib.print_table(
        report, rich.console.Console(markup=False, width=wide))
  else:
    print(report_lib.FORMATS[options.format](report, options.model))
  if options.fail_on == 'never':
    return 0
  ranks = verdicts.VERDICTS.index
  return int(ranks(report['verdict']) >= ranks(options.fail_on))


def _repair(options) -> int:
  from tconv.audit import onnx_model
  from tconv.audit import repair
  _check_not_pickle(options.model)
  if options.output.exists() and options.output.samefile(options.model):
    raise model_lib.AuditError(
        f'--output must be another file than the model; got {options.output}')
  model, audit = _load(options)
  repaired, decisions = repair.repair(
      model, audit, min_psnr=options.min_psnr, with_filters=options.filter,
      progress=_progress)
  _done()
  for decision in decisions:
    name = ''.join(c if c.isprintable() else '?' for c in decision.node)
    print(f'{name}: {decision.reason}')
  if repaired is model:
    print('Nothing was repaired, and no file was written.')
    return 1
  assert isinstance(repaired, onnx_model.OnnxModel)
  repaired.save(options.output)
  print(f'Wrote {options.output}.')
  return 0


def _measure(options) -> int:
  if options.period < 2:
    raise model_lib.AuditError(
        f'--period must be at least 2; got {options.period}')
  if not options.out:
    raise model_lib.AuditError('--out must name a folder')
  from tconv.audit import measure
  paths = _find(options.images, 'FILES')
  try:
    complete = measure.run(
        paths, period=options.period, out=pathlib.Path(options.out))
  except OSError as error:
    raise model_lib.AuditError(f'--out cannot be written: {error}') from error
  return 0 if complete else 1


def _write(path: pathlib.Path, text: str) -> None:
  """Writes a file as a whole or not at all."""
  with tempfile.NamedTemporaryFile(
      'w', dir=path.parent, prefix=path.name, delete=False,
      encoding='utf-8') as file:
    try:
      file.write(text)
      file.close()
      os.chmod(file.name, 0o666 & ~_umask())
      os.replace(file.name, path)
    except BaseException:
      with contextlib.suppress(OSError):
        os.unlink(file.name)
      raise


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask
