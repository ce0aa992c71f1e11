"""Audits of kernels alone, from safetensors files."""

import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import ml_dtypes
import numpy as np
from safetensors import numpy as safetensors_numpy

from tconv.audit import safetensors_file
from tconv.audit.model import AuditError
from tests.audit import cli_test
from tests.audit import samples

# [I, O / groups, *K]: taps 1, 2, 3 have the gains 1 + 3 and 2 at stride 2.
UNEQUAL = np.array([[[1, 2, 3]]], np.float32)
EQUAL = np.array([[[1, 2, 1]]], np.float32)


class Case(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enter_context(
        tempfile.TemporaryDirectory()))
    self.path = self.folder / 'weights.safetensors'

  def audit(self, tensors, *layers, layout='torch'):
    safetensors_numpy.save_file(
        {name: np.ascontiguousarray(a) for name, a in tensors.items()},
        self.path)
    report = safetensors_file.audit(self.path, layers, layout)
    samples.validate(report)
    json.dumps(report, allow_nan=False)
    return report


class AuditTest(Case):

  def test_only_what_could_be_is_said(self):
    report = self.audit(
        {'up.0': UNEQUAL, 'a:b': EQUAL, 'bias': EQUAL[0, 0]}, 'up.0:2', 'a:b:2')
    unequal, equal = report['upsamplers']
    # The variance of 4 and 2, over the mean of their squares.
    self.assertAlmostEqual(unequal['rho'], 1 / 10, places=6)
    self.assertEqual(unequal['node'], 'up.0')
    self.assertEqual(unequal['taps_per_phase'], [1, 2])
    self.assertEqual(unequal['kernel_size'], [3])
    self.assertEqual([unequal['verdict'], equal['verdict']], ['info', 'clean'])
    self.assertEqual(equal['node'], 'a:b')
    for row in unequal, equal:
      self.assertEqual(row['confidence'], 'low')
      for key in ('period', 'rho_at_means', 'predicted_rms', 'measured_rms',
                  'share', 'output_rms_levels', 'line_db'):
        self.assertIsNone(row[key])
    self.assertIn('could', unequal['reason'])
    self.assertIn('only one that runs can show', unequal['reason'])
    self.assertEqual((report['verdict'], report['probes']), ('info', []))
    self.assertIn('safetensors', report['versions'])

  @parameterized.parameters('float16', 'float32', 'float64',
                            ml_dtypes.bfloat16)
  def test_dtypes(self, dtype):
    report = self.audit({'up': UNEQUAL.astype(dtype)}, 'up:2')
    self.assertAlmostEqual(report['upsamplers'][0]['rho'], 1 / 10, places=6)

  def test_layouts_and_strides(self):
    weight = np.random.default_rng(0).normal(size=(3, 2, 6, 4))
    options = [
        self.audit({'up': weight}, 'up:3,2'),
        self.audit({'up': np.moveaxis(weight, (0, 1), (-2, -1))[::-1, ::-1]},
                   'up:3,2', layout='flax')]
    rows = [report['upsamplers'][0] for report in options]
    self.assertEqual(rows[0], rows[1])
    self.assertEqual(rows[0]['strides'], [3, 2])
    self.assertEqual(rows[0]['kernel_size'], [6, 4])
    self.assertEqual(rows[0]['taps_per_phase'], [4, 4])
    gains = weight.reshape(3, 2, 2, 3, 2, 2).sum((2, 4))
    self.assertAlmostEqual(
        rows[0]['rho'],
        gains.var((-2, -1)).sum() / (gains**2).mean((-2, -1)).sum(), places=5)
    [row] = self.audit({'up': weight}, 'up:2')['upsamplers']
    self.assertEqual(row['strides'], [2, 2])

  @parameterized.parameters(
      ('up', 'NAME:STRIDE'), ('up:', 'NAME:STRIDE'), (':2', 'NAME:STRIDE'),
      ('up:x', 'NAME:STRIDE'), ('up:1', 'above 1'), ('up:0', 'above 1'),
      ('up:2,0', 'above 1'), ('up:-2', 'above 1'), ('up:2,2', '1 axes'),
      ('up:' + '9' * 30, 'too large'), ('up:' + '9' * 5000, 'NAME:STRIDE'),
      ('bias:2', '3 to 5 axes'), ('ints:2', 'got .* of I32'),
      ('empty:2', '3 to 5 axes'), ('nan:2', 'not finite'),
      ('down:2', r'no such tensor.* up \[1, 1, 3\]'))
  def test_wrong_layers(self, layer, message):
    tensors = {'up': UNEQUAL, 'bias': UNEQUAL[0], 'empty': UNEQUAL[:0],
               'ints': UNEQUAL.astype('int32'), 'nan': UNEQUAL * np.nan}
    with self.assertRaisesRegex(AuditError, message):
      self.audit(tensors, layer)

  def test_without_layers_candidates_are_listed(self):
    tensors = {f'up.{i:02}': UNEQUAL for i in range(25)}
    tensors |= {'bias': np.ones(3, 'f'), 'a\n\x1b[31m': EQUAL}
    with self.assertRaisesRegex(
        AuditError, r'--layer .* up.00 \[1, 1, 3\], .* and 6 more') as error:
      self.audit(tensors)
    self.assertNotIn('bias', str(error.exception))
    self.assertTrue(str(error.exception).isprintable())

  def test_damaged_files(self):
    self.audit({'up': UNEQUAL}, 'up:2')
    whole = self.path.read_bytes()
    claim = whole.replace(b'[1,1,3]', b'[9,9,9]')
    self.assertNotEqual(claim, whole)
    for data in (b'', b'text', whole[:-1], whole[:40], claim,
                 b'\xff' * 8 + whole[8:]):
      self.path.write_bytes(data)
      with self.assertRaisesRegex(AuditError, 'cannot be read'):
        safetensors_file.audit(self.path, ['up:2'])
    for path in (self.folder, self.folder / 'none.safetensors'):
      with self.assertRaisesRegex(AuditError, 'not a file'):
        safetensors_file.audit(path, ['up:2'])


class CommandTest(Case):

  def test_report_and_status(self):
    self.audit({'up': UNEQUAL}, 'up:2')
    status, out, err = cli_test.run('audit', self.path, '--layer', 'up:2')
    self.assertEqual((status, err), (0, ''))
    self.assertIn('no model ran', out)
    self.assertNotIn('in the output', out)
    status, out, _ = cli_test.run(
        'audit', self.path, '--layer', 'up:2', '--fail-on', 'info',
        '--format', 'json')
    self.assertEqual((status, json.loads(out)['verdict']), (1, 'info'))

  def test_mistakes_are_one_line_and_status_2(self):
    self.audit({'up': UNEQUAL}, 'up:2')
    pickles = []
    for suffix in ('.pt', '.pth', '.ckpt', '.pkl', '.PTH'):
      path = self.folder / f'model{suffix}'
      # Unpickled, this would end the process.
      path.write_bytes(b'cos\n_exit\n(I9\ntR.')
      pickles += [('pickle', 'audit', path, '--layer', 'up:2'),
                  ('torch.onnx.export', 'repair', path, '-o', 'x.onnx')]
    for message, *arguments in (
        *pickles,
        ('up [1, 1, 3]', 'audit', self.path),
        ('--inputs and --html need a model', 'audit', self.path, '--layer',
         'up:2', '--html', self.folder / 'page.html'),
        ('--layer is for safetensors', 'audit', 'a.onnx', '--layer', 'up:2'),
        ('not an ONNX file', 'repair', self.path, '-o', 'x.onnx')):
      with self.subTest(message):
        status, out, err = cli_test.run(*arguments)
        self.assertEqual((status, out), (2, ''))
        self.assertIn(message, err)
        self.assertEqual(err.count('\n'), 1)


if __name__ == '__main__':
  absltest.main()
