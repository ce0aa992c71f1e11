"""The command `tconv`, and `tconv.audit.inspect`."""

import contextlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import onnx
from PIL import Image

import tconv
from tconv.audit import cli
from tests.audit import onnx_cases
from tests.audit import samples


def run(*arguments):
  """The exit status, and what was printed on both streams."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      status = cli.main(list(map(str, arguments)))
    except SystemExit as end:
      status = end.code
  return status, out.getvalue(), err.getvalue()


class Case(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enter_context(
        tempfile.TemporaryDirectory()))
    self.model = self.folder / 'model.onnx'
    kernel = np.random.default_rng(0).uniform(
        0, .2, (3, 3, 4, 4)).astype(np.float32)
    onnx.save(onnx_cases.model(
        [onnx_cases.node('ConvTranspose', ['x', 'w'], ['y'], name='up',
                         strides=[2, 2], pads=[1, 1, 1, 1])],
        [1, 3, 32, 32], {'w': kernel}), self.model)
    pixels = np.random.default_rng(1).integers(0, 255, (48, 40, 3), np.uint8)
    Image.fromarray(pixels).save(self.folder / 'photo.png')


class AuditTest(Case):

  def test_report_page_and_status(self):
    page = self.folder / 'page.html'
    status, out, err = run('audit', self.model, '--html', page, '--format',
                           'json', '--inputs', self.folder / '*.png')
    report = json.loads(out)
    samples.validate(report)
    self.assertEqual((status, err), (1, ''))
    self.assertEqual(report['verdict'], 'error')
    [row] = report['upsamplers']
    self.assertEqual((row['node'], row['period']), ('up', [2, 2]))
    self.assertIsNotNone(row['line_db'])
    self.assertIn('up', page.read_text())
    status, out, _ = run('audit', self.model, '--fail-on', 'never')
    self.assertEqual(status, 0)
    self.assertIn('error', out)

  def test_repair_removes_the_pattern(self):
    before, repaired = self.model.read_bytes(), self.folder / 'repaired.onnx'
    status, out, _ = run('repair', self.model, '-o', repaired, '--min-psnr', 5)
    self.assertEqual(status, 0, out)
    self.assertRegex(out, 'up: Repaired: .*\nWrote ')
    self.assertEqual(self.model.read_bytes(), before)
    status, out, _ = run('audit', repaired, '--format', 'json')
    self.assertEqual((status, json.loads(out)['verdict']), (0, 'clean'))
    status, out, _ = run('repair', self.model, '-o', repaired, '--min-psnr', 99)
    self.assertEqual(status, 1)
    self.assertIn('no file was written', out)

  def test_mistakes_are_one_line_and_status_2(self):
    np.savez(self.folder / 'other.npz', z=np.ones(3))
    text = self.folder / 'text.onnx'
    text.write_text('not a model')
    for message, *arguments in (
        ('nothing.onnx', 'audit', self.folder / 'nothing.onnx'),
        ('text.onnx', 'audit', text),
        ('no such file', 'audit', self.model, '--inputs', 'nothing/*.png'),
        ('must hold the arrays x; got z', 'audit', self.model, '--inputs',
         self.folder / 'other.npz'),
        ('cannot be used', 'audit', self.model, '--inputs', text),
        ('--white must be above 0', 'audit', self.model, '--white', '0'),
        ('another file than the model', 'repair', self.model, '-o',
         self.model),
        ('nowhere', 'audit', self.model, '--html',
         self.folder / 'nowhere/page.html')):
      with self.subTest(message):
        status, out, err = run(*arguments)
        self.assertEqual((status, out), (2, ''))
        self.assertRegex(err, r'\Atconv: error: [^\n]*' + re.escape(message)
                         + r'[^\n]*\n\Z')

  def test_damaged_files(self):
    whole, generator = self.model.read_bytes(), np.random.default_rng(0)
    for number in range(40):
      damaged = bytearray(whole)
      for _ in range(generator.integers(1, 4)):
        damaged[generator.integers(min(len(damaged), 120))] = (
            generator.integers(256))
      if number % 2:
        del damaged[generator.integers(len(damaged)):]
      self.model.write_bytes(damaged)
      files = set(os.listdir(self.folder))
      status, _, err = run('audit', self.model)
      self.assertIn(status, (0, 1, 2))
      self.assertEqual(err.count('\n'), int(status == 2), err)
      self.assertEqual(set(os.listdir(self.folder)), files)

  def test_help_has_examples(self):
    done = subprocess.run(
        [sys.executable, '-m', 'tconv', 'audit', '--help'],
        capture_output=True, text=True, check=True)
    self.assertIn('tconv audit model.onnx', done.stdout)


class InspectTest(absltest.TestCase):

  def test_a_network(self):
    layers = [nnx.ConvTranspose(3, 4, (4, 4), 2, rngs=nnx.Rngs(0)),
              tconv.nnx.SubPixelConv(4, 3, (3, 3), 2, rngs=nnx.Rngs(1))]
    images = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
    report = tconv.audit.inspect(
        lambda x: layers[1](nnx.relu(layers[0](x))), images)
    samples.validate(report)
    self.assertEqual([row['period'] for row in report['upsamplers']],
                     [[4, 4], [2, 2]])
    for row in report['upsamplers']:
      self.assertEqual(row['confidence'], 'high')
      self.assertAlmostEqual(row['predicted_rms'] / row['measured_rms'], 1, 3)
    self.assertEqual(report['probes'][-1]['kind'], 'input')
    clean = tconv.nnx.ConvTranspose(
        3, 4, (4, 4), 2, equal_phases=True, rngs=nnx.Rngs(0))
    report = tconv.audit.inspect(
        clean, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    self.assertEqual(report['verdict'], 'clean')


if __name__ == '__main__':
  absltest.main()
