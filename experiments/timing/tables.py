"""The tables of the benchmark, for the screen and in Markdown."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from experiments.harness import stopwatch
from experiments.harness.results import MARK
from experiments.harness.results import Table
from experiments.timing import calls
from experiments.timing import targets

_SPREAD = 'In brackets: quartiles over the rounds. "!": below its bar.'
_MEGABYTE = 1e6
# Heading, and units of work for a millisecond.
_UNITS = {'multiply_adds': ('ps per multiply-add', 1e9),
          'output_pixels': ('ns per output pixel', 1e6)}


def all_tables(results: Mapping[str, Any]) -> list[Table]:
  """Every table, that of the targets first.

  Args:
    results: as `targets.judge` takes them.

  Returns:
    The tables of what was measured.
  """
  layers, series = results['layers'], results['series']
  tables = [summary(targets.judge(results))]
  if layers:
    tables += [*(against_peers(layers, kind) for kind in calls.KINDS),
               costs(layers), forms(layers)]
  tables += [in_series(series[name], unit)
             for name, unit in targets.UNITS.items() if name in series]
  return [*tables, shapes(layers)]


def summary(judged: Sequence[targets.Target]) -> Table:
  """What must hold, and whether it does."""
  verdict = {True: 'yes', False: f'no{MARK}', None: '-'}
  return Table(
      'What must hold.', ('what', 'wanted', 'measured', 'holds'),
      [(bar.what, bar.wanted, bar.measured, verdict[bar.holds])
       for bar in judged])


def against_peers(layers: Mapping[str, targets.Entry], kind: str) -> Table:
  """Medians of all peers, and the ratios that have a bar.

  Args:
    layers: entries by name.
    kind: one of `calls.KINDS`.

  Returns:
    The table.
  """
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
      f'{kind.capitalize()}, milliseconds, and times over that of tconv. '
      f'{_SPREAD}', ('layer', *names, *(f'{r} / tconv' for r in ratios)),
      [(layer, *(_median(entry['milliseconds'][kind], n) for n in names),
        *(cell(entry, *ratio) for ratio in ratios.values()))
       for layer, entry in layers.items()])


def costs(layers: Mapping[str, targets.Entry]) -> Table:
  """Time to trace and compile, and memory beyond the arrays."""
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
      'To trace and compile, milliseconds; memory beyond inputs and outputs, '
      'megabytes. "!": above its bar.',
      ('layer', 'compile forward: tconv', 'lax', 'tconv / lax',
       'compile training: tconv', 'lax', 'tconv / lax',
       'memory forward: tconv', 'lax', 'flax', 'patches', 'tconv / patches',
       'memory training: tconv', 'lax'), rows)


def forms(layers: Mapping[str, targets.Entry]) -> Table:
  """Each operation by each form, and how near the choice is to the best."""
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
  """Layers that differ in one number: time for a unit of work, and memory.

  Args:
    series: entries by name.
    unit: 'multiply_adds' or 'output_pixels'.

  Returns:
    The table.
  """
  heading, scale = _UNITS[unit]
  relative = targets.relative(series, unit)
  each = lambda entry, peer: number(scale / entry[unit] * stopwatch.median(
      entry['milliseconds']['forward'][peer]))
  return Table(
      f'Forward: time for the same work, and memory beyond inputs and output, '
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
  """What the layers are, and where they are from."""
  size = lambda entry: 'x'.join(map(str, entry['coarse_size']))
  return Table(
      'The layers. Numbers are those of PyTorch\'s layer.',
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
  """All names, in the order of their first appearance."""
  return list(dict.fromkeys(name for some in names for name in some))


def _median(times: Mapping[str, Sequence[float]], name: str) -> str | None:
  return number(stopwatch.median(times[name])) if name in times else None


def number(value: float) -> str:
  """Writes three digits, and no exponent."""
  return f'{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}'


def _megabytes(size: int | None) -> str | None:
  return None if size is None else number(size / _MEGABYTE)


def marked(cell: str, is_within: bool) -> str:
  """Marks a cell that is not as wanted."""
  return cell if is_within else cell + MARK
