"""Tables of compiled programs."""

from collections.abc import Mapping
from collections.abc import Sequence

from experiments.compiled import limits
from experiments.compiled import programs
from experiments.harness.results import Table
from experiments.timing import calls as calls_lib
from experiments.timing import layers as layers_lib
from experiments.timing.tables import marked

# Summaries by layer, kind, dtype and name.
Results = Mapping[layers_lib.Layer, Mapping[str, Mapping[str, Mapping[
    str, programs.Summary]]]]
_LETTERS = {'convForward': 'F', 'convBackwardInput': 'I',
            'convBackwardFilter': 'K', 'matmul': 'M'}
LEGENDS = {
    'h100': (
        'In a cell: the calls of the program, with I for cuDNN\'s '
        'backward-input, F for its forward and K for its backward-filter '
        'convolution, and M for a matrix product; the dtype that they read, if '
        'it is not that of the arrays; multiply-adds relative to the useful '
        'ones; temporary memory in megabytes; "zeros" if an image is written '
        'with zeros between its elements. "!": exceeds a limit.'),
    'v5e': (
        'Floating-point operations, and bytes read and written, relative to '
        'lax, both as estimated by XLA. "!": above '
        f'{limits.FLOPS:g} or {limits.BYTES:g}.'),
}


def all_tables(target: str, results: Results) -> list[Table]:
  """Returns all tables for a target, the summary first."""
  keys = [(kind, dtype) for kind in calls_lib.KINDS
          for dtype in next(iter(results.values()))[kind]]
  if target == 'v5e':
    return [_against_lax(results, kind, dtype) for kind, dtype in keys]
  return [_within_limits(results, keys), *(
      _by_layer(results, kind, dtype) for kind, dtype in keys)]


def _within_limits(results: Results, keys: Sequence[tuple[str, str]]) -> Table:
  """Counts the programs without faults, by kind and dtype."""
  names = programs.NAMES['h100']

  def cell(kind, dtype, name):
    judged = [_faults(layer, kind, dtype, name, entry[kind][dtype])
              for layer, entry in results.items()
              if name in entry[kind][dtype]]
    good = sum(not found for found in judged)
    return marked(f'{good} of {len(judged)}', good == len(judged))

  return Table(
      'Programs within all limits: no zeros between the elements of an image, '
      'convolutions in the arrays\' own dtype, and at most '
      f'{limits.WORK:g} times the useful multiply-adds. Without groups and '
      'dilation, also cuDNN\'s call for each operation; with them, no more '
      'memory than Flax or lax.',
      ('programs', *names),
      [(f'{kind}, {dtype}', *(cell(kind, dtype, name) for name in names))
       for kind, dtype in keys])


def _by_layer(results: Results, kind: str, dtype: str) -> Table:
  """Shows what each program asks of a GPU."""
  names = programs.NAMES['h100']
  return Table(
      f'{kind.capitalize()}, {dtype}.', ('layer', *names),
      [(layer.name, *(_cell(layer, kind, dtype, name, entry[kind][dtype])
                      for name in names))
       for layer, entry in results.items()])


def _against_lax(results: Results, kind: str, dtype: str) -> Table:
  """Shows what each program asks of a TPU, relative to lax."""
  *names, _ = programs.NAMES['v5e']
  largest = {'flops': limits.FLOPS, 'bytes': limits.BYTES}
  rows = []
  for layer, entry in results.items():
    found = entry[kind][dtype]
    lax = found['lax']
    cells = [f'{lax.flops / 1e9:.3f}', f'{lax.bytes_accessed / 1e6:.1f}']
    for name in names:
      cells += [marked(f'{ratio:.2f}', ratio <= largest[what])
                for what, ratio in limits.on_tpu(found[name], lax).items()]
    rows.append((layer.name, *cells))
  return Table(
      f'{kind.capitalize()}, {dtype}.',
      ('layer', 'lax: billion flops', 'megabytes', *(
          f'{name} / lax: {what}' for name in names for what in largest)), rows)


def _faults(layer: layers_lib.Layer, kind: str, dtype: str, name: str,
            found: Mapping[str, programs.Summary]) -> tuple[str, ...]:
  """Lists the faults of the program of `name`, given all summaries by name."""
  return limits.on_gpu(layer, kind, dtype, found[name],
                     found.get('flax', found['lax']))


def _cell(layer, kind, dtype, name, found) -> str | None:
  """Describes a program in a few characters."""
  if name not in found:
    return None
  summary = found[name]
  dtypes = sorted({operand.dtype for call in summary.calls
                   for operand in call.operands} - {limits.DTYPES[dtype]})
  letters = sorted((_LETTERS.get(call.kind, call.kind)
                    for call in summary.calls), key='IFKM'.find)
  zeros = ['zeros'] if summary.inserted else []
  cell = ' '.join((
      _counted(letters), *dtypes,
      f'{summary.multiply_adds / limits.useful(layer, kind):.2f}',
      f'{summary.temporary_bytes / 1e6:.1f}', *zeros))
  return marked(cell, not _faults(layer, kind, dtype, name, found))


def _counted(letters: Sequence[str]) -> str:
  """Formats letters, such as 'I2F' for I, F and F, or '-' for none."""
  return ''.join(
      f'{letters.count(letter) if letters.count(letter) > 1 else ""}{letter}'
      for letter in dict.fromkeys(letters)) or '-'
