"""The tables of what was compiled, for the screen and in Markdown."""

from collections.abc import Mapping
from collections.abc import Sequence

from experiments.compiled import bars
from experiments.compiled import programs
from experiments.harness.results import MARK
from experiments.harness.results import Table
from experiments.timing import calls as calls_lib
from experiments.timing import layers as layers_lib

# Summaries by layer, kind, dtype and name.
Results = Mapping[layers_lib.Layer, Mapping[str, Mapping[str, Mapping[
    str, programs.Summary]]]]
_LETTERS = {'convForward': 'F', 'convBackwardInput': 'I',
            'convBackwardFilter': 'K', 'matmul': 'M'}
# How to read the tables of each target.
LEGENDS = {
    'h100': (
        'In a cell: what the program calls, I for cuDNN\'s backward-input, F '
        'for its forward and K for its backward-filter convolution, M for a '
        'product of matrices; the dtype of what they read, if it is not that '
        'of the arrays; multiply-adds over the useful ones; temporary memory '
        'in megabytes; "zeros" where an image is written out with zeros '
        'between its elements. "!": not as it must be.'),
    'v5e': (
        'Floating-point operations and bytes read and written, as XLA '
        'estimates them, over those of lax. "!": above '
        f'{bars.FLOPS:g} or {bars.BYTES:g}.'),
}


def all_tables(target: str, results: Results) -> list[Table]:
  """Every table, the summary first.

  Args:
    target: that was compiled for.
    results: summaries by layer, kind, dtype and name.

  Returns:
    The tables.
  """
  keys = [(kind, dtype) for kind in calls_lib.KINDS
          for dtype in next(iter(results.values()))[kind]]
  if target == 'v5e':
    return [against_lax(results, kind, dtype) for kind, dtype in keys]
  return [as_wanted(results, keys), *(
      by_layer(results, kind, dtype) for kind, dtype in keys)]


def as_wanted(results: Results, keys: Sequence[tuple[str, str]]
              ) -> Table:
  """How many of the programs are as they must be.

  Args:
    results: summaries by layer, kind, dtype and name.
    keys: kinds and dtypes that there are.

  Returns:
    The table.
  """
  names = programs.NAMES['h100']

  def cell(kind, dtype, name):
    judged = [faults(layer, kind, dtype, name, entry[kind][dtype])
              for layer, entry in results.items()
              if name in entry[kind][dtype]]
    good = sum(not found for found in judged)
    return f'{good} of {len(judged)}' + (MARK if good < len(judged) else '')

  return Table(
      'Programs that are as they must be: no zeros between the elements of an '
      'image, convolved in the arrays\' own dtype, at most '
      f'{bars.WORK:g} times the useful multiply-adds; without groups and '
      'dilation cuDNN\'s call for each contraction, with them no more memory '
      'than Flax or lax.',
      ('programs', *names),
      [(f'{kind}, {dtype}', *(cell(kind, dtype, name) for name in names))
       for kind, dtype in keys])


def by_layer(results: Results, kind: str, dtype: str) -> Table:
  """What each program asks of a GPU.

  Args:
    results: summaries by layer, kind, dtype and name.
    kind: one of `calls.KINDS`.
    dtype: of the arrays.

  Returns:
    The table.
  """
  names = programs.NAMES['h100']
  return Table(
      f'{kind.capitalize()}, {dtype}.', ('layer', *names),
      [(layer.name, *(_cell(layer, kind, dtype, name, entry[kind][dtype])
                      for name in names))
       for layer, entry in results.items()])


def against_lax(results: Results, kind: str, dtype: str) -> Table:
  """What each program asks of a TPU, over what that of lax does.

  Args:
    results: summaries by layer, kind, dtype and name.
    kind: one of `calls.KINDS`.
    dtype: of the arrays.

  Returns:
    The table.
  """
  *names, _ = programs.NAMES['v5e']
  limits = {'flops': bars.FLOPS, 'bytes': bars.BYTES}
  rows = []
  for layer, entry in results.items():
    found = entry[kind][dtype]
    lax = found['lax']
    cells = [f'{lax.flops / 1e9:.3f}', f'{lax.bytes_accessed / 1e6:.1f}']
    for name in names:
      cells += [f'{ratio:.2f}' + (MARK if ratio > limits[what] else '')
                for what, ratio in bars.on_tpu(found[name], lax).items()]
    rows.append((layer.name, *cells))
  return Table(
      f'{kind.capitalize()}, {dtype}.',
      ('layer', 'lax: billion flops', 'megabytes', *(
          f'{name} / lax: {what}' for name in names for what in limits)), rows)


def faults(layer: layers_lib.Layer, kind: str, dtype: str, name: str,
           found: Mapping[str, programs.Summary]) -> tuple[str, ...]:
  """What does not hold of a program, beside its peers.

  Args:
    layer: that it computes.
    kind: one of `calls.KINDS`.
    dtype: of its arrays.
    name: whose it is.
    found: summaries by name.

  Returns:
    As `bars.on_gpu`.
  """
  return bars.on_gpu(layer, kind, dtype, found[name],
                     found.get('flax', found['lax']))


def _cell(layer, kind, dtype, name, found) -> str | None:
  """A program in a few characters."""
  if name not in found:
    return None
  summary = found[name]
  wrong = faults(layer, kind, dtype, name, found)
  dtypes = sorted({operand.dtype for call in summary.calls
                   for operand in call.operands} - {bars.DTYPES[dtype]})
  letters = sorted((_LETTERS.get(call.kind, call.kind)
                    for call in summary.calls), key='IFKM'.find)
  zeros = ['zeros'] if summary.inserted else []
  cell = ' '.join((
      _counted(letters), *dtypes,
      f'{summary.multiply_adds / bars.useful(layer, kind):.2f}',
      f'{summary.temporary_bytes / 1e6:.1f}', *zeros))
  return cell + MARK if wrong else cell


def _counted(letters: Sequence[str]) -> str:
  """As 'I2F' for I, F and F; '-' for none."""
  return ''.join(
      f'{letters.count(letter) if letters.count(letter) > 1 else ""}{letter}'
      for letter in dict.fromkeys(letters)) or '-'
