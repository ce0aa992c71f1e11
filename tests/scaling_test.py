"""The page on large images and many processes, small."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

from absl.testing import absltest

ROOT = pathlib.Path(__file__).parents[1]


class ScalingTest(absltest.TestCase):

  def test_writes_the_page(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    page = pathlib.Path(folder) / 'page.md'
    page.write_bytes((ROOT / 'docs/scaling.md').read_bytes())
    subprocess.run(
        [sys.executable, '-m', 'experiments.scaling', f'--page={page}',
         '--sizes=64', '--processes=1'], cwd=ROOT, check=True,
        capture_output=True,
        # One device, as for users.
        env={**os.environ, 'XLA_FLAGS': '--xla_backend_optimization_level=0'})
    text = page.read_text(encoding='utf-8')
    self.assertRegex(text, r'\n\| 64² \|( \d+(\.\d)? \|){4} 0 \|')
    self.assertRegex(text, r'\n\| 1 \| \d+\.\d \| 1\.00 \|\n')
    self.assertNotIn('8192²', text)
    for row in re.findall(r'^\|.*', text, re.MULTILINE):
      self.assertIn(row.count('|'), (9, 4))


if __name__ == '__main__':
  absltest.main()
