"""Reports on the screen, as JSON, SARIF and annotations of GitHub."""

import io
import json
import pathlib
import re
import urllib.parse

from absl.testing import absltest
from absl.testing import parameterized
import jsonschema
import rich.console

from tconv.audit import report as report_lib
from tests.audit import samples

CLEAN = samples.report(
    verdict='clean', upsamplers=[samples.interpolation()], unknown=[])


def screen(report, width=120, **options):
  file = io.StringIO()
  report_lib.print_table(
      report, rich.console.Console(file=file, width=width, **options))
  return file.getvalue()


class SchemaTest(parameterized.TestCase):

  def test_it_is_a_schema(self):
    jsonschema.Draft202012Validator.check_schema(samples.schema())

  @parameterized.parameters(samples.report, samples.hostile_report)
  def test_reports_are_valid(self, make):
    samples.validate(make())

  @parameterized.parameters(
      {'schema': 2}, {'verdict': 'bad'}, {'unknown': None}, {'more': 1},
      {'upsamplers': [samples.upsampler(share=1.5)]},
      {'upsamplers': [samples.upsampler(period=[0])]},
      {'upsamplers': [samples.upsampler(node=None)]},
      {'upsamplers': [samples.upsampler(more=1)]},
      {'upsamplers': [{'node': 'a'}]}, {'versions': {'tconv': 1}},
      {'probes': [{'name': 'a', 'kind': 'b'}]})
  def test_others_are_not(self, **changes):
    with self.assertRaises(jsonschema.ValidationError):
      samples.validate(samples.report(**changes))


class TextTest(parameterized.TestCase):

  @parameterized.parameters('a', 'décodeur/重み', '[red]a[/red]', '')
  def test_printable_text_stays(self, text):
    self.assertEqual(report_lib.shown(text), text)

  def test_the_rest_can_be_printed(self):
    text = report_lib.shown(samples.HOSTILE)
    self.assertTrue(text.isprintable())
    self.assertIn(r'\x1b', text)
    self.assertLess(len(text), 400)
    self.assertTrue(text.endswith('x'))

  @parameterized.parameters(0, 1, -12.345, 123.45, 999.6, 1234.5, 1e-7, 1e9)
  def test_numbers_have_three_digits(self, value):
    text = report_lib.number(value)
    self.assertLessEqual(abs(float(text) - value), .005 * abs(value))

  @parameterized.parameters('clean', 'info', 'warning', 'error')
  def test_words_begin_with_the_verdict(self, verdict):
    words = report_lib.in_words(samples.report(verdict=verdict))
    self.assertStartsWith(words, f'{verdict}: ')


class ScreenTest(parameterized.TestCase):

  @parameterized.parameters(80, 120)
  def test_what_is_found(self, width):
    text = screen(samples.report(), width)
    lines = text.splitlines()
    self.assertLessEqual(max(map(len, lines[:lines.index(next(
        line for line in lines if line.startswith('error')))])), width)
    for reason in ('It paints.', 'It is faint.', 'It could.', 'It loops.'):
      self.assertIn(reason, text)
    self.assertNotIn('It has no kernel.', text)
    self.assertEqual(lines[-1], report_lib.in_words(samples.report()))

  def test_a_wide_screen_shows_all_columns(self):
    head = screen(samples.report()).split('├')[0]
    words = ' '.join(report_lib.COLUMNS).split()
    self.assertContainsSubset(words, re.findall(r'\w+', head))

  @parameterized.parameters(40, 80, 120, 400)
  def test_names_stay_text(self, width):
    text = screen(samples.hostile_report(), width)
    for line in text.split('\n'):
      self.assertTrue(line.isprintable(), line)
      # Runners of GitHub would take these for commands.
      self.assertFalse(line.lstrip().startswith('::'), line)
      self.assertNotIn('##[', line)
    self.assertIn('[red]', text)

  def test_there_is_no_markup(self):
    for text in '[red]', '[/red]', ':smile:':
      report = samples.report(
          model=f'model {text}',
          upsamplers=[samples.upsampler(node=f'node {text}',
                                        reason=f'reason {text}')],
          unknown=[{'node': 'b', 'op': 'c', 'reason': f'loop {text}'}])
      shown = screen(report)
      for word in 'model', 'node', 'reason', 'loop':
        self.assertIn(f'{word} {text}', shown)

  def test_colors_are_the_only_escapes(self):
    text = screen(samples.hostile_report(), force_terminal=True,
                  color_system='standard')
    colors = re.compile('\x1b\\[[0-9;]*m')
    self.assertRegex(text, colors)
    plain = colors.sub('', text)
    self.assertTrue(all(line.isprintable() for line in plain.split('\n')))
    self.assertEqual(plain, screen(samples.hostile_report()))

  def test_no_upsamplers(self):
    report = samples.report(verdict='clean', upsamplers=[], unknown=[])
    self.assertEqual(
        screen(report).strip(), report_lib.in_words(report))


class JsonTest(absltest.TestCase):

  def test_nothing_is_lost(self):
    for report in samples.report(), samples.hostile_report():
      text = report_lib.to_json(report)
      self.assertEqual(json.loads(text), report)
      self.assertTrue(text.isascii())
      self.assertTrue(all(line.isprintable() for line in text.split('\n')))

  def test_equal_reports_give_the_same_text(self):
    report = samples.report()
    other = dict(reversed(report.items()))
    other['versions'] = dict(reversed(report['versions'].items()))
    self.assertEqual(report_lib.to_json(report), report_lib.to_json(other))

  def test_nan_is_refused(self):
    for value in float('nan'), float('inf'):
      report = samples.report(upsamplers=[samples.upsampler(rho=value)])
      with self.assertRaises(ValueError):
        report_lib.to_json(report)


class SarifTest(parameterized.TestCase):

  def run_of(self, report, path='models/a.onnx'):
    log = json.loads(report_lib.to_sarif(report, path))
    self.assertEqual(log['version'], '2.1.0')
    self.assertStartsWith(log['$schema'], 'https://docs.oasis-open.org/sarif/')
    [run] = log['runs']
    return run

  def test_one_result_for_each_finding(self):
    run = self.run_of(samples.report())
    rules = run['tool']['driver']['rules']
    self.assertEqual(run['tool']['driver']['version'], '1.0')
    seen = []
    for result in run['results']:
      self.assertEqual(rules[result['ruleIndex']]['id'], result['ruleId'])
      [location] = result['locations']
      [logical] = location['logicalLocations']
      self.assertEqual(
          location['physicalLocation']['artifactLocation']['uri'],
          'models/a.onnx')
      self.assertIn(logical['name'], result['message']['text'])
      seen.append((logical['name'], result['ruleId'], result['level']))
    self.assertEqual(seen, [
        ('/up/ConvTranspose', 'tconv/grid', 'error'),
        ('/faint', 'tconv/grid', 'warning'),
        ('/balanced', 'tconv/kernel', 'note'),
        ('/loop', 'tconv/unknown', 'note')])
    self.assertEqual(run['results'][0]['properties']['output_rms_levels'], .61)

  def test_a_clean_report_has_no_results(self):
    self.assertEqual(self.run_of(CLEAN)['results'], [])

  def test_rules_have_what_github_shows(self):
    rules = self.run_of(CLEAN)['tool']['driver']['rules']
    for rule in rules:
      for key in 'shortDescription', 'fullDescription', 'help':
        self.assertNotEmpty(rule[key]['text'])
    self.assertLen({rule['id'] for rule in rules}, len(rules))

  def test_fingerprints_tell_nodes_apart_and_stay(self):
    prints = lambda report: [
        result['partialFingerprints']['primaryLocationLineHash']
        for result in self.run_of(report)['results']]
    before = prints(samples.report())
    self.assertLen(set(before), 4)
    changed = samples.report()
    changed['upsamplers'].pop(0)
    for each in changed['upsamplers']:
      each.update(share=.5, reason='Another one.')
    self.assertEqual(prints(changed), before[1:])

  @parameterized.parameters(
      ('a b/c:d%.onnx', 'a%20b/c%3Ad%25.onnx'), ('é.onnx', '%C3%A9.onnx'),
      (pathlib.PurePosixPath('/a b/c.onnx'), 'file:///a%20b/c.onnx'))
  def test_paths_are_references(self, path, expected):
    [result, *_] = self.run_of(samples.report(), path)['results']
    uri = result['locations'][0]['physicalLocation']['artifactLocation']['uri']
    self.assertEqual(uri, expected)
    self.assertEqual(urllib.parse.urlsplit(uri).fragment, '')

  def test_messages_have_no_links_and_placeholders(self):
    run = self.run_of(samples.hostile_report())
    for result in run['results']:
      text = result['message']['text']
      self.assertTrue(text.isprintable())
      self.assertNotRegex(text, r'\]\(')
      self.assertNotRegex(text.replace('{{', '').replace('}}', ''), '[{}]')


class GithubTest(parameterized.TestCase):

  def parse(self, text):
    """Reads commands as a runner does."""
    commands = []
    for line in text.split('\n'):
      head, message = line.removeprefix('::').split('::', 1)
      level, properties = head.split(' ', 1)
      commands.append((level, message, dict(
          p.split('=', 1) for p in properties.split(','))))
    return commands

  def unescape(self, text):
    return re.sub('%(25|0D|0A|3A|2C)',
                  lambda match: chr(int(match.group(1), 16)), text)

  def test_one_command_for_each_finding(self):
    commands = self.parse(report_lib.to_github(samples.report(), 'a/m.onnx'))
    self.assertEqual(
        [(level, properties['title']) for level, _, properties in commands],
        [('error', '/up/ConvTranspose'), ('warning', '/faint'),
         ('notice', '/balanced'), ('notice', '/loop')])
    for (_, message, properties), reason in zip(
        commands, ('It paints.', 'It is faint.', 'It could.', 'It loops.')):
      self.assertIn(reason, message)
      self.assertEqual(properties['file'], 'a/m.onnx')

  def test_a_clean_report_has_none(self):
    self.assertEqual(report_lib.to_github(CLEAN, 'm.onnx'), '')

  def test_nothing_breaks_out(self):
    path = 'a,b:c%2C=\n::error::.onnx'
    text = report_lib.to_github(samples.hostile_report(), path)
    commands = self.parse(text)
    self.assertLen(commands, 3)
    node = report_lib.shown(samples.HOSTILE)
    for (level, message, properties), (expected_level, expected) in zip(
        commands, (('error', node), ('notice', '::error::x'),
                   ('notice', node))):
      self.assertEqual(level, expected_level)
      self.assertEqual(set(properties), {'file', 'title'})
      self.assertEqual(self.unescape(properties['title']), expected)
      self.assertEqual(self.unescape(properties['file']),
                       report_lib.shown(path))
      self.assertStartsWith(self.unescape(message), expected)
      self.assertTrue(message.isprintable())


class FormatsTest(absltest.TestCase):

  def test_each_takes_a_report_and_a_path(self):
    texts = {name: write(samples.report(), 'm.onnx')
             for name, write in report_lib.FORMATS.items()}
    self.assertEqual(json.loads(texts['json']), samples.report())
    self.assertIn('runs', json.loads(texts['sarif']))
    self.assertStartsWith(texts['github'], '::error')


if __name__ == '__main__':
  absltest.main()
