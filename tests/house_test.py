"""The rules of the house: imports run one way, and the API is documented."""

import ast
import inspect
import pathlib
import re
import subprocess
import sys

from _extensions.public import public
from absl.testing import absltest
from absl.testing import parameterized

import tconv

ROOT = pathlib.Path(__file__).parent.parent
MODULES = sorted((ROOT / 'tconv').rglob('*.py'))

# What a module may import, lowest first: only what stands in an earlier row. A
# package stands for its modules, which may import each other.
ORDER = (
    ('tconv.geometry', 'tconv.sharding', 'tconv.arrays'),
    ('tconv.windows',),  # Of any function, and of no operation here.
    ('tconv.forms',),
    ('tconv.dispatch',),
    ('tconv.tuning_cache',),
    ('tconv.trilinear', 'tconv.arguments'),
    ('tconv.operations', 'tconv.programs'),
    ('tconv.acceleration', 'tconv.tuning'),
    ('tconv.resample',),
    ('tconv.dialects',),
)
# These measure kernels and images, and know nothing of how they are made.
MEASURES = (
    ('tconv.geometry', 'tconv.sharding', 'tconv.arrays'),
    ('tconv.rounding', 'tconv.calibrated', 'tconv.equivalent'),
    ('tconv.phases', 'tconv.initializers'),
    ('tconv.spectrum',),
)
# These may use all of it. Layers alone know Flax.
LAYERS = (
    ('tconv.layers', 'tconv.sub_pixel'),
    ('tconv.nnx', 'tconv.linen'),
    ('tconv',),
    ('tconv.audit',),
    ('tconv.__main__',),
)

# The experiments: what each place may import besides itself and the library.
EXPERIMENTS = sorted((ROOT / 'experiments').rglob('*.py'))
SHARED = {'upsamplers', 'artifacts'}  # Not commands.
BELOW = {
    'shared': set(), 'harness': set(), 'data': {'harness'},
    'report': {'harness'},
    'timing': {'harness', 'report'},
    'compiled': {'harness', 'report', 'timing'},
    'studies': {'shared', 'harness', 'data', 'report'}}
# The parts of a study, lowest first.
PARTS = (('model', 'data'), ('metrics', 'training'), ('tables',), ('claims',),
         ('report',), ('__init__',))


def place_of(name):
  """The place of a module in `experiments`: a folder, or what it is."""
  first = name.removeprefix('experiments').strip('.').partition('.')[0]
  if first in SHARED:
    return 'shared'
  return first if first in BELOW else 'command'


# Not the classes: layers have the parameters of Flax, as dialects have others'.
FUNCTIONS = {
    name: f for name, f in public().items() if inspect.isfunction(f)}
OWN = {name: f for name, f in FUNCTIONS.items() if 'dialects' not in name}
# Parameters that have a default and may be given by position, as in lax.
BY_POSITION = {'strides', 'padding', 'initializer', 'means'}


def name_of(path):
  name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
  return name.removesuffix('.__init__')


def imports_of(path):
  """Modules of this project that a file imports."""
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      full = [f'{node.module}.{alias.name}' for alias in node.names]
      names = [n if any((ROOT / f'{n.replace(".", "/")}{end}').exists()
                        for end in ('', '.py')) else node.module for n in full]
    else:
      continue
    yield from (n for n in names
                if n.split('.')[0] in ('tconv', 'experiments', 'tests'))


class ImportsTest(parameterized.TestCase):

  @parameterized.parameters(*map(str, MODULES))
  def test_library_imports_downwards(self, path):
    path = pathlib.Path(path)
    name, imports = name_of(path), set(imports_of(path))
    if name == 'tconv':
      return self.assertTrue(all(i.startswith('tconv.') for i in imports))
    name, *imports = ('.'.join(i.split('.')[:2]) for i in (name, *imports))
    for below, order in ((), MEASURES), ((), ORDER), (ORDER + MEASURES, LAYERS):
      rows = [i for i, names in enumerate(order) if name in names]
      if rows:
        allowed = {n for names in (*below, *order[:rows[0]]) for n in names}
        return self.assertLessEqual(set(imports), allowed | {name})
    self.fail(f'{name} has no place in the order of modules.')

  def test_only_layers_wait_for_flax(self):
    subprocess.run(
        [sys.executable, '-c', """if True:
            import sys, tconv, tconv.dialects
            # Assertions of chex can be turned off: no argument is left to them.
            assert not {'flax', 'chex', 'absl', 'optax'} & set(sys.modules)
            assert tconv.nnx.ConvTranspose and tconv.linen.ConvTranspose
            public = dir(tconv)
            assert {'nnx', 'linen', 'conv'} <= set(public)
            assert len(public) == len(set(public)), public
            assert not {'importlib', 'types', 'operations'} & set(public)
            try:
              tconv.nothing
            except AttributeError as error:
              assert 'nothing' in str(error)
            else:
              sys.exit(1)
            """], cwd=ROOT, check=True)

  @parameterized.parameters(*map(str, EXPERIMENTS))
  def test_experiments_import_downwards(self, path):
    path = pathlib.Path(path)
    name, imports = name_of(path), set(imports_of(path))
    self.assertEmpty([i for i in imports if i.split('.')[0] == 'tests'])
    own, allowed = place_of(name), {place_of(name)}
    if own == 'command':
      return
    allowed |= BELOW[own]
    for imported in imports:
      if imported.startswith('experiments.'):
        self.assertIn(place_of(imported), allowed, imported)

  @parameterized.parameters(*map(str, (
      ROOT / 'experiments/studies').glob('*/*.py')))
  def test_within_a_study_imports_run_one_way(self, path):
    path = pathlib.Path(path)
    package = f'experiments.studies.{path.parent.name}'
    rank = lambda part: next(
        i for i, parts in enumerate(PARTS) if part in parts)
    own = rank(path.stem)
    for imported in imports_of(path):
      if not imported.startswith('experiments.studies'):
        continue
      study, _, part = imported.rpartition('.')
      self.assertEqual(study, package, 'A study imports no other study.')
      self.assertLess(rank(part), own, imported)


class ReadmeTest(parameterized.TestCase):

  def test_the_examples_run(self):
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    names = {}
    for example in re.findall(r'```python\n(.*?)```', text, re.DOTALL):
      exec(example, names)
    self.assertEqual(names['x'].shape, (8, 32, 32, 128))
    self.assertEqual(names['gradient'].shape, (4, 4, 128, 256))


class ReferenceTest(absltest.TestCase):

  def test_every_name_has_one_entry(self):
    pages = (ROOT / 'docs/api').glob('*.md')
    entries = [
        entry for page in pages for entry in re.findall(
            r'^\.\. auto(?:function|class):: (.+)', page.read_text('utf-8'),
            re.MULTILINE)]
    self.assertCountEqual(entries, public())


class InterfaceTest(parameterized.TestCase):

  def test_all_that_is_public_is_named(self):
    own = {name.removeprefix('tconv.') for name in public()}
    self.assertEqual(set(tconv.__all__), {n for n in own if '.' not in n}
                     | {'dialects', 'initializers', 'spectrum'})
    self.assertContainsSubset(
        {*tconv.__all__, 'nnx', 'linen'}, re.findall(r'\w+', tconv.__doc__))

  @parameterized.named_parameters(FUNCTIONS.items())
  def test_docstring(self, function):
    doc = inspect.getdoc(function) or ''
    parameters = inspect.signature(function).parameters
    for part in ('Returns:', *['Args:'] * bool(parameters),
                 *(f'{name}:' for name in parameters)):
      self.assertIn(part, doc)
    self.assertRegex(doc, r'\[[\w*]+.*\]', 'names no shape')

  @parameterized.named_parameters(OWN.items())
  def test_options_are_keyword_only(self, function):
    for parameter in inspect.signature(function).parameters.values():
      if (parameter.default is not parameter.empty
          and parameter.name not in BY_POSITION):
        self.assertEqual(parameter.kind, parameter.KEYWORD_ONLY,
                         parameter.name)


if __name__ == '__main__':
  absltest.main()
