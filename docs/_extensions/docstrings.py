"""Shows docstrings that are written for `help` in pages of the reference.

Shapes such as [N, *size, C] become code: backticks around each would be in the
way in `help`, and in reStructuredText, their stars begin emphasis.
"""

import inspect
import re

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

# Code, which stays as it is: examples, indented blocks after `::`, backticks.
_CODE = r'^ *>>>(?:.+\n)+|::\n\n(?:(?:  .*)?\n)+|`[^`]+`_*'
_SHAPE = r'\[[^][`]*\]'


def _show_shapes(app: Sphinx, what: str, name: str, obj, options,
                 lines: list[str]) -> None:
  text = re.sub(
      f'(?P<code>{_CODE})|{_SHAPE}',
      lambda found: found['code'] or f'``{found[0]}``',
      '\n'.join(lines) + '\n', flags=re.MULTILINE)
  lines[:] = text.splitlines()


def _show_signature(app: Sphinx, what: str, name: str, obj, options,
                    signature: str, returns: str) -> tuple[str, str] | None:
  """Shows parameters that a metaclass hides, and no defaults of many words."""
  if what == 'class' and signature == '(*args, **kwargs)':
    _, *parameters = inspect.signature(obj.__init__).parameters.values()
    signature = stringify_signature(
        inspect.Signature(parameters), show_annotation=False)
  if signature:
    signature = re.sub(r"<class '[\w.]*?(\w+)'>", r'\1', signature)
    signature = re.sub(r'=<.*?>(?=[,)])', '=...', signature)
  return signature, returns


def setup(app: Sphinx) -> dict[str, bool]:
  """Changes docstrings, before napoleon reads them, and signatures."""
  app.connect('autodoc-process-docstring', _show_shapes, priority=100)
  app.connect('autodoc-process-signature', _show_signature)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
