"""Makes generator.safetensors and samples.safetensors with PyTorch 2.13.0.

They are what the PyTorch part of docs/porting.md saves, for where there is no
PyTorch:

    python tests/data/torch_generator.py
"""

import os
import pathlib
import re

DATA = pathlib.Path(__file__).absolute().parent

if __name__ == '__main__':
  guide = (DATA.parent.parent / 'docs/porting.md').read_text(encoding='utf-8')
  os.chdir(DATA)
  exec(re.search(r'```python torch\n(.*?)```', guide, re.DOTALL)[1])
