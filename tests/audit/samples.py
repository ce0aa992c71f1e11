"""A report of an audit, and names that try to break out of its formats."""

import copy
import json
import pathlib

import jsonschema

from tconv.audit import report as report_lib

HOSTILE = ('up \x1b[31m\r\n::warning::x\x9b2J\x7f \u202e [red]{0}[a](http://e) '
           '##[stop] a=b,c:d%0A </script><script>alert(1)</script> '
           '"><img src=x onerror=alert(2)> \ud800 ' + 'x' * 500)


def upsampler(**changes):
  return {
      'node': '/up/ConvTranspose', 'op': 'ConvTranspose', 'kernel_size': [4, 4],
      'strides': [2, 2], 'groups': 1, 'taps_per_phase': [4, 4],
      'period': [4, 4], 'rho': .512, 'rho_at_means': .0123,
      'predicted_rms': .0786, 'measured_rms': .0786, 'share': .93,
      'output_rms_levels': .61, 'line_db': 12.3, 'verdict': 'error',
      'confidence': 'high', 'reason': 'It paints.'} | changes


def interpolation(**changes):
  return upsampler(
      node='/resize', op='Resize', kernel_size=[], taps_per_phase=None,
      period=None, rho=None, rho_at_means=None, predicted_rms=None,
      measured_rms=None, share=None, output_rms_levels=None, line_db=None,
      verdict='clean', reason='It has no kernel.') | changes


def report(**changes):
  """A report with a finding of each kind."""
  return copy.deepcopy({
      'schema': 1, 'model': 'model.onnx', 'verdict': 'error',
      'upsamplers': [
          upsampler(), interpolation(),
          upsampler(node='/faint', verdict='warning', reason='It is faint.'),
          upsampler(node='/balanced', verdict='info', reason='It could.')],
      'unknown': [{'node': '/loop', 'op': 'Loop', 'reason': 'It loops.'}],
      'probes': [
          {'name': 'flat 0.25', 'kind': 'flat', 'size': [64, 64],
           'output_rms_levels': .61, 'line_db': None},
          {'name': 'cat.png', 'kind': 'input', 'size': [128, 128],
           'output_rms_levels': .55, 'line_db': 12.3}],
      'versions': {'tconv': '1.0', 'onnxruntime': '1.2'}} | changes)


def hostile_report():
  """A report in which every string that a file can choose is hostile."""
  return report(
      model=HOSTILE,
      upsamplers=[upsampler(node=HOSTILE, op=HOSTILE, reason=HOSTILE),
                  upsampler(node='::error::x', verdict='info')],
      unknown=[{'node': HOSTILE, 'op': HOSTILE, 'reason': HOSTILE}],
      probes=[{'name': HOSTILE, 'kind': 'input', 'size': [8, 8],
               'output_rms_levels': 1., 'line_db': 2.}],
      versions={HOSTILE: HOSTILE})


def schema():
  path = pathlib.Path(report_lib.__file__).with_name('schema.json')
  return json.loads(path.read_text(encoding='utf-8'))


def validate(report):
  """Raises jsonschema.ValidationError if this is no report."""
  jsonschema.Draft202012Validator(schema()).validate(report)
