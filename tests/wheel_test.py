"""The wheel holds the library and nothing else, and works where it is alone."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

from absl.testing import absltest

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ('configs', 'experiments', 'tconv', 'tests')
FILES = ('LICENSE', 'README.md', 'pyproject.toml', 'setup.py')


def build(folder):
  """Builds a wheel without network, from a copy: builds leave files behind."""
  source = folder / 'source'
  for name in FOLDERS:
    shutil.copytree(ROOT / name, source / name,
                    ignore=shutil.ignore_patterns('__pycache__'))
  for name in FILES:
    shutil.copy(ROOT / name, source)
  subprocess.run(
      [sys.executable, '-c',
       'from setuptools import build_meta; build_meta.build_wheel("..")'],
      cwd=source, check=True, capture_output=True)
  [wheel] = folder.glob('*.whl')
  return wheel


class WheelTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.TemporaryDirectory()
    cls.addClassCleanup(folder.cleanup)
    cls.folder = pathlib.Path(folder.name)
    cls.site = cls.folder / 'site'
    with zipfile.ZipFile(build(cls.folder)) as wheel:
      cls.names = set(wheel.namelist())
      wheel.extractall(cls.site)
    [info] = cls.site.glob('*.dist-info')
    cls.metadata = (info / 'METADATA').read_text(encoding='utf-8')

  def test_the_wheel_holds_the_library_and_nothing_else(self):
    modules = {str(path.relative_to(ROOT))
               for path in (ROOT / 'tconv').rglob('*.py')}
    self.assertEqual(
        {name for name in self.names if '.dist-info/' not in name},
        modules | {'tconv/py.typed', 'tconv/audit/page.html.j2',
                   'tconv/audit/schema.json'})

  def test_metadata(self):
    header, _, readme = self.metadata.partition('\n\n')
    self.assertContainsSubset(
        {'Name: tconv', 'License-Expression: Apache-2.0',
         'Requires-Python: >=3.11'}, header.splitlines())
    required = re.findall(r'^Requires-Dist: ([^;\n]+)$', header, re.MULTILINE)
    self.assertCountEqual(required, ['flax', 'jax>=0.10.2', 'numpy'])
    self.assertStartsWith(readme, '# tconv')
    citation = (ROOT / 'CITATION.cff').read_text(encoding='utf-8')
    [version] = re.findall(r'^Version: (.+)$', header, re.MULTILINE)
    self.assertIn(f'version: {version}', citation.splitlines())

  def test_the_first_example_of_the_readme_runs_with_the_wheel_alone(self):
    example = re.search(r'```python\n(.*?)```', self.metadata, re.DOTALL)
    # Neither the checkout nor what only the studies need is in reach.
    program = '\n'.join([
        f'import sys; sys.path.insert(0, {str(self.site)!r})', example.group(1),
        f'assert tconv.__file__.startswith({str(self.site)!r})',
        'assert not {"absl", "flax", "optax"} & set(sys.modules)'])
    subprocess.run([sys.executable, '-I', '-c', program], cwd=self.folder,
                   check=True)


if __name__ == '__main__':
  absltest.main()
