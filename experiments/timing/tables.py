"""Tables of the benchmark."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from experiments.harness import stopwatch
from experiments.harness.results import MARK
from experiments.harness.results import Table
from experiments.timing import calls
from experiments.timing import targets

_SPREAD = ('A ratio is that of the medians; in brackets are the quartiles of '
           'the ratios of single rounds, so a ratio may lie outside of them. '
           '"!": misses its target.')
_MEGABYTE = 1e6
# Heading, and scale of milliseconds per unit of work.
_UNITS = {'multiply_adds': ('ps per multiply-add', 1e9),
          'output_pixels': ('ns per output pixel', 1e6)}


def all_tables(results: Mapping[str, Any]) -> list[Table]:
  """Returns all tables of results, as for `targets.judge`; targets first."""
  layers, series = results['layers'], results['series']
  tables = [summary(targets.judge(results))]
  if layers:
    tables += [*(against_peers(layers, kind) for kind in calls.KINDS),
               costs(layers), forms(layers)]
  tables += [in_series(series[name], unit)
             for name, unit in targets.UNITS.items() if name in series]
  return [*tables, shapes(layers)]


def summary(judged: Sequence[targets.Target]) -> Table:
  """Shows the targets and whether they are met."""
  verdict = {True: 'yes', False: f'no{MARK}', None: '-'}
  return Table(
      'Targets.', ('what', 'wanted', 'measured', 'holds'),
      [(target.what, target.wanted, target.measured, verdict[target.holds])
       for target in judged])


def against_peers(layers: Mapping[str, targets.Entry], kind: str) -> Table:
  """Shows the medians of all peers, and the ratios that have a target."""
  names = _union(entry['milliseconds'][kind] for entry in layers.values())
  names = sorted(names, key=lambda name: (name != 'tconv', name == 'matmul'))
  ratios = {
      'forward': {'best peer': (lambda e: targets.fastest(e, kind), None),
                  'lax': (lambda e: 'lax', targets.LAX_EACH),
                  'matmul': (lambda e: 'matmul', targets.MATMUL_EACH)},
      'training': {'best torch': (lambda e: targets.fastest(e, kind, 'torch'),
                                  None),
                   'lax': (lambda e: 'lax', None)}}[kind]

  def cell(entry, find, limit):
    ratio = targets.against(entry, kind, find(entry))
    return None if ratio is None else marked(
        f'{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})',
        targets.is_within('>=', limit, ratio.value))

  return Table(
      f'{kind.capitalize()}: milliseconds, and ratios to tconv. '
      f'{_SPREAD}', ('layer', *names, *(f'{r} / tconv' for r in ratios)),
      [(layer, *(_median(entry['milliseconds'][kind], n) for n in names),
        *(cell(entry, *ratio) for ratio in ratios.values()))
       for layer, entry in layers.items()])


def costs(layers: Mapping[str, targets.Entry]) -> Table:
  """Shows the time to trace and compile, and memory beyond the arrays."""
  rows = []
  for layer, entry in layers.items():
    cells = []
    for kind, limit in zip(calls.KINDS, (targets.FIRST_CALL_EACH, None)):
      ratio = targets.first_call(entry, kind)
      cells += [*(f'{entry["first_call_ms"][kind][name]:.0f}'
                  for name in ('tconv', 'lax')),
                marked(f'{ratio:.2f}', targets.is_within('<=', limit, ratio))]
    memory = entry['temporary_bytes']
    cells += [_megabytes(memory['forward'].get(name))
              for name in ('tconv', 'lax', 'flax')]
    cells += [
        _megabytes(entry['patches_bytes']),
        marked(f'{targets.patches(entry):.2f}', targets.is_within(
            '<=', targets.PATCHES_EACH, targets.patches(entry))),
        *(_megabytes(memory['training'][name]) for name in ('tconv', 'lax'))]
    rows.append((layer, *cells))
  return Table(
      'Time to trace and compile, milliseconds; memory beyond inputs and '
      'outputs, megabytes. "!": misses its target.',
      ('layer', 'compile forward: tconv', 'lax', 'tconv / lax',
       'compile training: tconv', 'lax', 'tconv / lax',
       'memory forward: tconv', 'lax', 'flax', 'patches', 'tconv / patches',
       'memory training: tconv', 'lax'), rows)


def forms(layers: Mapping[str, targets.Entry]) -> Table:
  """Shows each operation by each form, and the best form against auto."""
  entries = [(layer, operation, contraction)
             for layer, entry in layers.items()
             for operation, contraction in entry['contractions'].items()]
  names = _union(c['milliseconds'] for *_, c in entries)
  rows = []
  for layer, operation, contraction in entries:
    best, ratio = targets.best_form(contraction)
    rows.append((
        layer, operation,
        *(_median(contraction['milliseconds'], name) for name in names),
        ' = '.join(contraction['auto']) or 'none of these', best,
        marked(f'{ratio:.2f}', targets.is_within('>=', targets.FORM, ratio))))
  return Table(
      'Each operation by each form, milliseconds. Forms that are much slower '
      f'than the best are run once. "!": below {targets.FORM:g}.',
      ('layer', 'operation', *names, 'auto is', 'best', 'best / auto'), rows)


def in_series(series: Mapping[str, targets.Entry], unit: str) -> Table:
  """Shows times per unit of work, and memory, of layers of a series."""
  heading, scale = _UNITS[unit]
  relative = targets.relative(series, unit)
  each = lambda entry, peer: number(scale / entry[unit] * stopwatch.median(
      entry['milliseconds']['forward'][peer]))
  return Table(
      'Forward: time per unit of work, and memory beyond inputs and outputs, '
      f'megabytes. "!": more than {targets.FLAT:g} times the least.',
      ('layer', f'tconv, {heading}', f'lax, {heading}', 'tconv / its least',
       'memory of tconv', 'of lax', 'patches'),
      [(name, each(entry, 'tconv'), each(entry, 'lax'),
        marked(f'{relative[name]:.2f}', targets.is_within(
            '<=', targets.FLAT, relative[name])),
        *(_megabytes(entry['temporary_bytes']['forward'][peer])
          for peer in ('tconv', 'lax')),
        _megabytes(entry['patches_bytes']))
       for name, entry in series.items()])


def shapes(layers: Mapping[str, targets.Entry]) -> Table:
  """Shows the layers and their sources."""
  size = lambda entry: 'x'.join(map(str, entry['coarse_size']))
  return Table(
      'The layers, with the numbers of PyTorch\'s layer.',
      ('layer', 'batch x size', 'channels', 'taps', 'stride', 'padding',
       'output padding', 'dilation', 'groups', 'million multiply-adds',
       'source'),
      [(name, f'{entry["batch"]} x {size(entry)}',
        f'{entry["fan_in"]} to {entry["fan_out"]}',
        *(str(entry[key]) for key in (
            'taps', 'stride', 'padding', 'output_padding', 'dilation',
            'groups')),
        number(entry['multiply_adds'] / 1e6), entry['source'])
       for name, entry in layers.items()])


def _union(names: Iterable[Iterable[str]]) -> list[str]:
  """Returns all names, in order of first appearance."""
  return list(dict.fromkeys(name for some in names for name in some))


def _median(times: Mapping[str, Sequence[float]], name: str) -> str | None:
  return number(stopwatch.median(times[name])) if name in times else None


def number(value: float) -> str:
  """Formats a number with three digits and no exponent."""
  return f'{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}'


def _megabytes(size: int | None) -> str | None:
  return None if size is None else number(size / _MEGABYTE)


def marked(cell: str, is_within: bool) -> str:
  """Marks a cell that misses its target."""
  return cell if is_within else cell + MARK
