"""The arguments of the command `tconv`."""

import argparse
import pathlib

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


def parser() -> argparse.ArgumentParser:
  """Makes the parser of all subcommands."""
  top = argparse.ArgumentParser(
      'tconv', description='Finds, measures and removes checkerboards.',
      epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
  commands = top.add_subparsers(dest='command', required=True)
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
  return top
