"""Writes formulas as MathML, which browsers show without a script or a font."""

from docutils import nodes
from latex2mathml import converter
from sphinx.application import Sphinx


def _inline(writer, node: nodes.math) -> None:
  writer.body.append(converter.convert(node.astext()))
  raise nodes.SkipNode


def _block(writer, node: nodes.math_block) -> None:
  formula = converter.convert(node.astext(), display='block')
  writer.body.append(f'<div class="formula">{formula}</div>')
  raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
  """Registers the renderer, which `html_math_renderer` selects."""
  app.add_html_math_renderer('mathml', (_inline, None), (_block, None))
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
