"""The report of an audit on the screen, as JSON, SARIF or GitHub annotations.

A report is the dict that `schema.json` describes. Its strings come from files
that nobody vouches for. So what is made for a screen shows control characters,
and others that cannot be printed, as escape sequences.

References:
  Fanning and Golding (editors), `Static Analysis Results Interchange Format
  (SARIF) Version 2.1.0 Plus Errata 01
  <https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/sarif-v2.1.0-errata01.html>`_,
  2023.
  GitHub, `Workflow commands for GitHub Actions
  <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>`_.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
import json
import os
import pathlib
from typing import Any
import urllib.parse

from rich import box
from rich import table as rich_table
from rich import text as rich_text
import rich.console

Report = Mapping[str, Any]

COLUMNS = ('node', 'op', 'kernel', 'stride', 'period', 'rho', 'rho at means',
           'predicted', 'measured', 'share', 'levels', 'verdict')
_LONGEST = 200  # Characters of a name that are shown.
_WIDE = 100  # Columns of characters that the whole table takes at least.

_WORDS = {
    'clean': 'no checkerboard found',
    'info': 'no checkerboard in the output, but kernels that could paint one',
    'warning': 'a faint checkerboard in the output',
    'error': 'a visible checkerboard in the output'}
# Without a model, there is no output to speak of.
_WORDS_OF_KERNELS = {
    'clean': 'all phases of the kernels have equal gains',
    'info': 'kernels that could paint a checkerboard; no model ran that could '
            'show whether they do'}
_STYLES = {
    'clean': 'green', 'info': 'cyan', 'warning': 'yellow', 'error': 'bold red'}
_SARIF_LEVELS = {'info': 'note', 'warning': 'warning', 'error': 'error'}
_GITHUB_LEVELS = {'info': 'notice', 'warning': 'warning', 'error': 'error'}

_SARIF_SCHEMA = ('https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/'
                 'schemas/sarif-schema-2.1.0.json')
# What each rule is about, the level it has by default, and what to do.
_RULES = {
    'tconv/grid': (
        'The layer paints a checkerboard.', 'warning',
        'The phases of its kernel have different gains for the values that '
        'occur in its input, so that the output repeats with the stride. Give '
        'the kernel equal phase gains with `tconv repair`.'),
    'tconv/kernel': (
        'The kernel could paint a checkerboard.', 'note',
        'The phases of the kernel have different gains. No pattern was '
        'measured that matters, or nothing could be measured; the message '
        'tells which.'),
    'tconv/unknown': (
        'The layer may enlarge, and was not audited.', 'note',
        'Its kernel could not be traced. Look at the output of the model.')}


def shown(text: str) -> str:
  """Makes a string of unknown origin safe to show.

  Args:
    text: any string.

  Returns:
    One line of printable characters. The rest is escaped as in Python, and the
    middle of long strings is left out.
  """
  if len(text) > _LONGEST:
    half = _LONGEST // 2
    text = f'{text[:half]}\u2026{text[-half:]}'
  text = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode()
                 for c in text)
  # Runners of GitHub look for this old form of a command in all that is logged.
  return text.replace('##[', r'#\x23[')


def number(value: float | None) -> str:
  """Formats a number with three significant digits; an absent one as '-'."""
  if value is None:
    return '-'
  return f'{value:.3g}' if abs(value) < 1000 else f'{value:.0f}'


def row(upsampler: Mapping[str, Any]) -> list[str]:
  """Formats what a report says of an upsampler.

  Args:
    upsampler: element of `upsamplers` of a report.

  Returns:
    One cell for each of `COLUMNS`.
  """
  sizes = (upsampler[key] for key in ('kernel_size', 'strides', 'period'))
  share = upsampler['share']
  return [
      shown(upsampler['node']), shown(upsampler['op']),
      *('x'.join(map(str, size)) if size else '-' for size in sizes),
      *(number(upsampler[key]) for key in (
          'rho', 'rho_at_means', 'predicted_rms', 'measured_rms')),
      '-' if share is None else f'{share:.0%}',
      number(upsampler['output_rms_levels']), upsampler['verdict']]


def in_words(report: Report) -> str:
  """Says in one line what an audit found.

  Args:
    report: report of an audit.

  Returns:
    The line.
  """
  verdict, upsamplers = report['verdict'], report['upsamplers']
  found = sum(each['verdict'] != 'clean' for each in upsamplers)
  words = _WORDS if report['probes'] else _WORDS_OF_KERNELS
  line = f'{verdict}: {words[verdict]}'
  line += f'; {_count(len(upsamplers), "upsampler")}, {found} with findings'
  if report['unknown']:
    line += f'; {_count(len(report["unknown"]), "node")} could not be traced'
  return line


def print_table(report: Report, console: rich.console.Console) -> None:
  """Prints a table of the upsamplers, the reasons and the verdict.

  A console of less than 100 characters does without predicted and measured.

  Args:
    report: report of an audit.
    console: console to print on.
  """
  names = [name for name in COLUMNS if console.width >= _WIDE or (
      name not in ('predicted', 'measured'))]
  # With a border, no line begins with a name: GitHub would run '::command::'.
  table = rich_table.Table(
      box=box.ROUNDED, padding=(0, 0), title_justify='left',
      title=rich_text.Text(shown(report['model'])))
  for name in names:
    is_text = name in ('node', 'op')
    table.add_column(name.replace('rho at ', 'rho at\n'), overflow='fold',
                     no_wrap=not is_text, justify='left' if (
                         is_text or name == 'verdict') else 'right')
  for upsampler in report['upsamplers']:
    cells = dict(zip(COLUMNS, map(rich_text.Text, row(upsampler))))
    cells['verdict'].stylize(_STYLES[upsampler['verdict']])
    table.add_row(*(cells[name] for name in names))

  lines = [(each['verdict'], f'{each["verdict"]}: {shown(each["node"])}: '
            f'{shown(each["reason"])}') for each in _not_clean(report)]
  lines += [('info', 'unknown: ' + _describe(each))
            for each in report['unknown']]
  lines.append((report['verdict'], in_words(report)))
  if report['upsamplers']:
    console.print(table)
  for verdict, line in lines:
    text = rich_text.Text(line)
    text.stylize(_STYLES[verdict], 0, line.index(':'))
    console.print(text, soft_wrap=True)


def to_json(report: Report) -> str:
  """Writes a report as JSON.

  Args:
    report: report of an audit.

  Returns:
    JSON in ASCII, the same for equal reports.

  Raises:
    ValueError: a number is NaN or infinite.
  """
  return json.dumps(report, indent=2, sort_keys=True, allow_nan=False)


def to_sarif(report: Report, path: str | os.PathLike[str]) -> str:
  """Writes the findings of a report in the format of static analyzers.

  Args:
    report: report of an audit.
    path: path of the model; one below the current folder should be relative.

  Returns:
    SARIF 2.1.0: a result for each upsampler with a finding, and for each node
    that could not be traced.
  """
  uri, rules = _uri(path), list(_RULES)
  results = []
  for each in _not_clean(report):
    rule = 'tconv/kernel' if each['verdict'] == 'info' else 'tconv/grid'
    results.append((rule, _SARIF_LEVELS[each['verdict']], each))
  results += [('tconv/unknown', 'note', each) for each in report['unknown']]

  def result(rule, level, each):
    node = shown(each['node'])
    return {
        'ruleId': rule,
        'ruleIndex': rules.index(rule),
        'level': level,
        'message': {'text': _sarif_text(_describe(each))},
        'locations': [{
            # A model has no lines, but GitHub shows no result without one.
            'physicalLocation': {'artifactLocation': {'uri': uri},
                                 'region': {'startLine': 1}},
            'logicalLocations': [{'name': node, 'fullyQualifiedName': node}]}],
        # By this name, GitHub recognizes a result of another run. Its own
        # fingerprint of the first line would be the same for all nodes.
        'partialFingerprints': {'primaryLocationLineHash': hashlib.sha256(
            each['node'].encode(errors='backslashreplace')).hexdigest()[:16]
            + ':1'},
        'properties': {key: value for key, value in each.items() if (
            key not in ('node', 'op', 'reason') and value is not None)}}

  versions = {shown(k): shown(v) for k, v in report['versions'].items()}
  return to_json({
      '$schema': _SARIF_SCHEMA,
      'version': '2.1.0',
      'runs': [{
          'tool': {'driver': {
              'name': 'tconv audit',
              **({'version': versions['tconv']} if 'tconv' in versions else {}),
              'rules': [{
                  'id': rule,
                  'shortDescription': {'text': about},
                  'fullDescription': {'text': about},
                  'help': {'text': advice},
                  'defaultConfiguration': {'level': level},
              } for rule, (about, level, advice) in _RULES.items()]}},
          # Reports on several models can be uploaded side by side.
          'automationDetails': {'id': f'tconv audit/{uri}/'},
          'invocations': [{'executionSuccessful': True}],
          'results': [result(*each) for each in results],
          'properties': {'verdict': report['verdict'], 'versions': versions},
      }]})


def to_github(report: Report, path: str | os.PathLike[str]) -> str:
  """Writes the findings of a report as annotations of GitHub Actions.

  Args:
    report: report of an audit.
    path: path of the model.

  Returns:
    One command a line; nothing for a clean report.
  """
  findings = [(_GITHUB_LEVELS[each['verdict']], each)
              for each in _not_clean(report)]
  findings += [('notice', each) for each in report['unknown']]
  file = _github_property(shown(pathlib.PurePath(path).as_posix()))
  return '\n'.join(
      f'::{level} file={file},title={_github_property(shown(each["node"]))}::'
      f'{_github_text(_describe(each))}' for level, each in findings)


# What a format makes of a report and the path of its model.
FORMATS: Mapping[str, Callable[[Report, str | os.PathLike[str]], str]] = {
    'json': lambda report, path: to_json(report),
    'sarif': to_sarif,
    'github': to_github}


def _not_clean(report: Report) -> Sequence[Mapping[str, Any]]:
  return [e for e in report['upsamplers'] if e['verdict'] != 'clean']


def _describe(each: Mapping[str, Any]) -> str:
  return f'{shown(each["node"])} ({shown(each["op"])}): {shown(each["reason"])}'


def _count(n: int, noun: str) -> str:
  return f'{n} {noun}' + 's' * (n != 1)


def _uri(path: str | os.PathLike[str]) -> str:
  """A path as a reference of RFC 3986."""
  path = pathlib.Path(path)
  if path.is_absolute():
    return path.as_uri()
  return urllib.parse.quote(os.fsencode(path.as_posix()))


def _sarif_text(text: str) -> str:
  """Escapes what SARIF takes for placeholders, and breaks links."""
  return text.replace('{', '{{').replace('}', '}}').replace('](', '] (')


def _github_text(text: str) -> str:
  """Escapes the message of a command."""
  return text.replace('%', '%25').replace('\r', '%0D').replace('\n', '%0A')


def _github_property(text: str) -> str:
  """Escapes a property of a command."""
  return _github_text(text).replace(':', '%3A').replace(',', '%2C')
