"""The command `tconv`: audit, repair, measure."""

import argparse
from collections.abc import Sequence
import contextlib
import glob
import os
import pathlib
import sys
import tempfile

import jax

from tconv.audit import model as model_lib

_EPILOG = """\
examples:
  tconv audit model.onnx
  tconv audit model.onnx --inputs 'photos/*.png' --html report.html
  tconv audit model.onnx --format sarif > audit.sarif
  tconv audit weights.safetensors --layer up.0.weight:2 --layer up.1.weight:4,2
  tconv repair model.onnx -o repaired.onnx --inputs 'photos/*.png'
  tconv measure 'outputs/*.png' --period 2

exit status:
  0  clean, or no finding as severe as --fail-on; repair: a file was written;
     measure: all images were measured
  1  findings at or above --fail-on; repair: nothing could be repaired;
     measure: some images were skipped
  2  the command could not run; the reason is in one line
"""
_INPUTS = """\
images, .npy arrays of the model's input, or .npz files with an array for each
input; a pattern such as 'photos/*.png'. Without it, seeded noise"""
_PICKLES = ('.pt', '.pth', '.ckpt', '.pkl')
_MEASURE = """\
Measures patterns of a given period in images of any origin.

Prints a table and writes it with full precision to OUT/measures.csv. It has a
row for each channel (grey, or R, G, B and their BT.709 luminance) of each
image. The spectra of photos/NAME.png are drawn in OUT/spectra/NAME.png.png.

The level is how far the pattern stands out of the image's spectrum, and the
p-value is the probability of such a level by chance. The amplitude is the rms
of the pattern in 8-bit levels, 1/255 of white. Imaging is the rms of such
patterns measured patch by patch, including those that cancel over the image.
Photographs may have patterns of their own: demosaicing leaves some of period 2,
and JPEG some of period 8.

Reads BMP, GIF, JPEG, PNG, TIFF and WebP of any depth, without alpha. White is
the largest integer of a depth, and 1 for floats, which may go beyond [0, 1].
Files that cannot be read completely, images smaller than 4 periods or 16
pixels, and images with NaN are skipped with a message.
"""
_WHITE = 'value that the model expects for white (default: 1)'


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    arguments: its arguments; None for those of the process.

  Returns:
    The exit status.
  """
  options = _parser().parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      'tconv', description='Finds, measures and removes checkerboards.',
      epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
  commands = parser.add_subparsers(dest='command', required=True)
  audit = commands.add_parser(
      'audit', help='find upsamplers that paint grids', epilog=_EPILOG,
      description='Finds the upsamplers of an ONNX model that paint grids.',
      formatter_class=argparse.RawDescriptionHelpFormatter)
  audit.add_argument('--format', default='table',
                     choices=('table', 'json', 'sarif', 'github'),
                     help='what to print (default: table)')
  audit.add_argument('--html', type=pathlib.Path, metavar='FILE',
                     help='also write a page with figures')
  audit.add_argument('--fail-on', default='warning',
                     choices=('info', 'warning', 'error', 'never'),
                     help='least severe finding that gives exit status 1 '
                     '(default: warning)')
  audit.add_argument('--layer', action='append', default=[],
                     metavar='NAME:STRIDE', help='kernel in a safetensors '
                     'file, and the stride of its layer; a comma separates '
                     'the strides of axes')
  audit.add_argument('--layout', default='torch', choices=('torch', 'flax'),
                     help='axes of these kernels: [I, O / groups, *K] or '
                     '[*K, I, O] (default: torch)')
  repair = commands.add_parser(
      'repair', help='write a model without grids', epilog=_EPILOG,
      description='Writes a copy of an ONNX model whose kernels paint no grid. '
      'A kernel is replaced only if the pattern falls and outputs stay.',
      formatter_class=argparse.RawDescriptionHelpFormatter)
  repair.add_argument('-o', '--output', type=pathlib.Path, required=True,
                      help='file to write; not the model itself')
  repair.add_argument('--min-psnr', type=float, default=40, metavar='DB',
                      help='smallest PSNR of the repaired output against the '
                      'original output (default: 40 dB)')
  repair.add_argument('--filter', action='store_true', help='average the '
                      'result of a layer over one period where its kernel '
                      'stays as it is; this blurs, so that it takes a lower '
                      '--min-psnr, such as 20')
  measure = commands.add_parser(
      'measure', help='measure patterns in images', epilog=_EPILOG,
      description=_MEASURE,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  measure.add_argument('images', nargs='+', metavar='FILES',
                       help="image, or pattern such as 'photos/*.png', in "
                       'which ** matches any folders')
  measure.add_argument('--period', type=int, default=2, metavar='PIXELS',
                       help='period of the pattern (default: 2)')
  measure.add_argument('--out', default='runs/measure', metavar='OUT',
                       help='output folder, created if missing '
                       '(default: runs/measure)')
  for command in audit, repair:
    command.add_argument('model', type=pathlib.Path, help='ONNX file' + (
        ', or safetensors file with --layer' if command is audit else ''))
    command.add_argument('--inputs', action='append', default=[],
                         metavar='FILES', help=_INPUTS)
    command.add_argument('--white', type=float, default=1., help=_WHITE)
  return parser


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

  from tconv.audit import findings
  from tconv.audit import report as report_lib
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
  ranks = findings.VERDICTS.index
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
