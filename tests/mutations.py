"""Breaks the code in 50 places, one at a time, and counts what tests notice.

    python -m tests.mutations
    python -m tests.mutations --only='^geometry' --at-least=3

A mutation is a bug that a person could write, such as a swapped pair, a
forgotten dtype or a boundary that is off by one. Each is visible to a user, and
most affect some arguments only. They were chosen before any of them was run,
and stay here whether or not a test fails: the count is to measure the tests.
Each is applied to a copy of the tree, in which the test files named with it
run until the first failure. At the end, the tests that failed run once more
without any mutation, and must pass: only then did the mutations fail them.

A mutation whose text no longer occurs exactly once is an error: edit the table
where code or tests were rewritten. Files are found in any folder, so that they
may move; both names of files and of tests may be globs.

48 of 50 were caught when the suite had 15,000 lines. All 50 are caught since it
was shortened to 11,400 lines and two tests were added, for `tconv.programs`;
eleven minutes on two cores.
"""

from collections.abc import Sequence
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from absl import app
from absl import flags

_ONLY = flags.DEFINE_string(
    'only', '', 'Regular expression that the names of mutations to run match.')
_AT_LEAST = flags.DEFINE_integer(
    'at-least', 0, 'Exit with status 1 if fewer mutations are caught.')
ROOT = pathlib.Path(__file__).parents[1]


class Mutation(NamedTuple):
  """A bug: in the file that `module` ends the path of, `new` in place of `old`.

  `tests` are names of test files, without _test.py, that should notice.
  """
  module: str
  what: str
  old: str
  new: str
  tests: str

  @property
  def name(self) -> str:
    return f'{self.module}: {self.what}'


_FORMS = 'agreement dispatch operations'
MUTATIONS = tuple(Mutation(*row) for row in (
    ('geometry', 'CIRCULAR wraps the odd position at the wrong end',
     '((e - 1) // 2, e // 2)', '(e // 2, (e - 1) // 2)',
     'geometry operations layers* stacks'),
    ('geometry', 'SAME puts an odd zero at the low end',
     '(c - 1) * s + e - f, 0) // 2', '(c - 1) * s + e - f + 1, 0) // 2',
     'geometry operations agreement dialects_*'),
    ('geometry', 'output_padding is limited by the stride alone',
     'tuple(max(s, d) for s, d in zip(strides, dilation))', 'tuple(strides)',
     'geometry operations dialects_* fuzz'),
    ('dispatch', 'half types accumulate in half', 'dtype.itemsize < 4',
     'dtype.itemsize < 2', 'dispatch* operations trilinear agreement'),
    ('matrix', 'high padding in place of the low',
     '- geometry.padding[axis][0])', '- geometry.padding[axis][1])', _FORMS),
    ('vjp', 'the transposed convolution ignores precision',
     'lambda x: conv(x, kernel, geometry, precision=precision)',
     'lambda x: conv(x, kernel, geometry)', 'dispatch trilinear'),
    ('forms/lax', 'padding of the wrong end', '(e - 1 - lo, e - 1 - hi)',
     '(e - 1 - hi, e - 1 - lo)', _FORMS),
    ('zero_insertion', 'kernel not flipped',
     'layout.flip(layout.swap_channels(kernel, groups))',
     'layout.swap_channels(kernel, groups)', _FORMS),
    ('polyphase', 'phases without taps written first', '*((0, s - p, 0) for',
     '*((s - p, 0, 0) for', _FORMS),
    ('overlap_add', 'rows counted twice in a kernel gradient', 'row < again',
     'row < 0', f'{_FORMS} rows'),
    ('taps', 'channel multipliers taken for depthwise',
     'if (x.shape[-1], kernel.shape[-1]) == (groups, groups):',
     'if x.shape[-1] == groups:', _FORMS),
    ('cudnn', 'real pixels cropped where the low padding is larger',
     'max(hi - pad, 0)', 'hi - pad', _FORMS),
    ('residues', 'common divisor of stride and dilation forgotten',
     'tuple(map(math.gcd, geometry.strides, geometry.dilation))',
     '(1,) * geometry.num_axes', _FORMS),
    ('rows', 'blocks of a loop start at the wrong fine row',
     'start + i * rows * stride', 'start + i * rows', f'rows {_FORMS}'),
    ('trilinear', 'a gradient has the dtype of its cotangent',
     'dtype=aval.dtype)', 'dtype=cotangent.dtype)',
     'trilinear operations dispatch'),
    ('trilinear', 'vmap folds an axis before the groups', 'return -1, groups',
     'return -1, 1', 'trilinear operations'),
    ('operations', 'a permutation is not inverted', 'np.argsort(to_kernel)',
     'to_kernel', 'operations mistakes fuzz'),
    ('arguments', 'groups of 0 pass the check',
     '(int, np.integer)) or groups < 1', '(int, np.integer)) or groups < 0',
     'operations mistakes'),
    ('arguments', 'complex results of real arrays',
     "and (wanted.kind == 'c') == (dtype.kind == 'c')", '',
     'operations mistakes dispatch'),
    ('phases', 'channels of different groups are weighed together',
     'reshape(*rest, groups, channels // groups).sum(-1)',
     'reshape(*rest, channels // groups, groups).sum(-2)', 'phases cures'),
    ('phases', 'float64 computed in float32',
     "np.dtype('float64' if dtype == 'float64' else 'float32')",
     "np.dtype('float32')", 'phases cures'),
    ('rounding', 'the sum itself is not rounded',
     'jnp.round(lax.stop_gradient(gain) / finest) * finest',
     'lax.stop_gradient(gain)', 'phases cures layers_additions'),
    ('initializers', 'bilinear factor of an odd kernel',
     'factor = -(-size // 2)', 'factor = size // 2',
     'initializers layers_upsamplers resample'),
    ('resample', 'interpolation of an odd scale is off by half a pixel',
     'int(2 * reach) * s - s % 2', 'int(2 * reach) * s', 'resample cures'),
    ('windows', 'halos of the result have the size of those of the image',
     '_times(scale, reach) * _halos', 'reach * _halos', 'windows'),
    ('grid', 'the last patch does not count', 'blocks.shape[1] - r + 1, r // 2',
     'blocks.shape[1] - r, r // 2', 'spectrum*'),
    ('lines', 'real lines count their neighbours once',
     'jnp.where(real, 2, 1) * count', 'count', 'spectrum*'),
    ('radial', 'halves round to even radii', 'np.floor(np.sqrt(square) + .5)',
     'np.rint(np.sqrt(square))', 'spectrum*'),
    ('sharding', 'the batch is gathered',
     'jax.typeof(inputs).sharding.spec[:1]', '()',
     'spectrum* resample operations windows phases'),
    ('layers', 'CIRCULAR of a transposed kernel is off by one',
     '(max(e - s, 0) + layer.transpose_kernel) // 2', 'max(e - s, 0) // 2',
     'layers*'),
    ('nnx', 'the bias ignores param_dtype',
     'bias_init(rngs.params(), (features,), param_dtype)',
     'bias_init(rngs.params(), (features,))', 'layers*'),
    ('linen', 'a folded layer equalizes again',
     'self.clone(equal_phases=False)', 'self.clone()', 'layers*'),
    ('torch', 'one number in a sequence does not stand for all axes',
     'value = tuple(value) * num_axes', 'value = tuple(value)',
     'dialects_torch porting fuzz'),
    ('onnx', 'output_shape without auto_pad crops the other end',
     "if auto_pad == 'SAME_UPPER':", "if auto_pad != 'SAME_LOWER':",
     'dialects_onnx porting fuzz'),
    ('keras', 'negative padding at the low end too', 'max(t // 2, 0) for t',
     't // 2 for t', 'dialects_keras porting fuzz'),
    ('dialects/lax', 'names of paddings in lower case',
     "padding not in ('SAME', 'VALID')",
     "padding.upper() not in ('SAME', 'VALID')", 'dialects_lax mistakes fuzz'),
    ('tuning', 'noise decides against the rule',
     'times[fastest] * _CLEARLY < times', 'times[fastest] < times', 'tuning'),
    ('tuning_cache', 'contractions of two result dtypes share a file',
     'for field in dataclasses.fields(self)}',
     'for field in dataclasses.fields(self)[:-1]}', 'tuning_cache'),
    ('mapping', 'precisions of the two operands swapped',
     'tuple(precision)[::-1]', 'tuple(precision)', 'mapping acceleration'),
    ('choices', 'two insertions of zeros add up', 'd * (interior + 1)',
     'd + interior', 'mapping acceleration'),
    ('jaxprs', 'inserted values taken for zeros', 'if pad.invars[1].val != 0:',
     'if pad.invars[1].val is None:', 'mapping acceleration'),
    ('acceleration', 'wrong default', "which: str = 'transposed'",
     "which: str = 'all'", 'acceleration'),
    ('checkpoints', 'the oldest one is read', 'all_steps(), reverse=True)',
     'all_steps())', 'checkpoints loop'),
    ('records', 'the last step before a resumption is forgotten',
     "line['step'] <= done", "line['step'] < done", 'loop checkpoints'),
    ('workdir', 'NaN written as JSON', 'allow_nan=False', 'allow_nan=True',
     'workdir'),
    ('results', 'every seed draws other images', 'size=(_SAMPLES, 1, images)',
     'size=(_SAMPLES, seeds, images)', 'results'),
    ('measure', 'the smallest legal image is skipped',
     'min(height, width) < smallest', 'min(height, width) <= smallest',
     'measure'),
    ('batches', 'all processes get the same part', 'start * count + index',
     'start * count', 'batches devices'),
    ('artifacts', 'an energy in wrong units', 'LEVELS**2 * spectrum',
     'LEVELS * spectrum', 'artifacts'),
    ('timing/targets', 'a limit that is just met is missed',
     "value >= limit if sign == '>='", "value > limit if sign == '>='",
     'timing/targets timing/tables'),
))


def locate(mutation: Mutation, tree: pathlib.Path
           ) -> tuple[pathlib.Path, list[str]]:
  """Finds the file to change, and the paths of the test files that run."""
  found = [path for path in tree.glob(f'*/**/{mutation.module}.py')
           for _ in range(path.read_text('utf-8').count(mutation.old))]
  if len(found) != 1:
    raise ValueError(
        f'{mutation.name}: {mutation.old!r} must occur exactly once in '
        f'{mutation.module}.py; it occurs {len(found)} times.')
  tests = []
  for name in mutation.tests.split():
    matches = sorted(tree.glob(f'tests/**/{name}_test.py'))
    if not matches:
      raise ValueError(f'{mutation.name}: there is no tests/**/{name}_test.py.')
    tests += [str(path.relative_to(tree)) for path in matches]
  return found[0], list(dict.fromkeys(tests))


def run(tests: Sequence[str], tree: pathlib.Path) -> str:
  """Runs tests until one fails, and gives its name, or '' if all pass."""
  process = subprocess.run(
      [sys.executable, '-m', 'pytest', '-x', '-q', '-p', 'no:cacheprovider',
       '-n', '0', '--tb=no', '-r', 'fE', *tests],
      cwd=tree, text=True, capture_output=True, check=False)
  if process.returncode == 0:
    return ''
  failed = re.search(
      r'^(?:FAILED|ERROR|SUBFAILED.*?) (tests/.+?)(?: - .*)?$',
      process.stdout, re.MULTILINE)
  if process.returncode > 2 or failed is None:
    raise RuntimeError(f'pytest failed:\n{process.stdout}\n{process.stderr}')
  return failed[1]


def main(argv: Sequence[str]) -> None:
  """Prints what came of each mutation, and the totals."""
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  chosen = [m for m in MUTATIONS if re.search(_ONLY.value, m.name)]
  caught, begin = [], time.monotonic()
  with tempfile.TemporaryDirectory() as folder:
    tree = pathlib.Path(folder) / 'tree'
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(
        '.git', '.venv*', '.hypothesis', 'runs', '__pycache__'))
    places = [locate(mutation, tree) for mutation in chosen]
    for mutation, (file, tests) in zip(chosen, places):
      start, whole = time.monotonic(), file.read_text('utf-8')
      file.write_text(whole.replace(mutation.old, mutation.new), 'utf-8')
      failed = run(tests, tree)
      file.write_text(whole, 'utf-8')
      caught += [failed] if failed else []
      print(f'{"caught  " if failed else "SURVIVED"} '
            f'{time.monotonic() - start:4.0f} s  {mutation.name}'
            f'{failed and f" ({failed})"}', flush=True)
    if caught and (failed := run(sorted(set(caught)), tree)):
      sys.exit(f'{failed} fails without a mutation, too.')
  print(f'{len(caught)} of {len(chosen)} caught in '
        f'{time.monotonic() - begin:.0f} s')
  if len(caught) < _AT_LEAST.value:
    sys.exit(1)


if __name__ == '__main__':
  app.run(main)
