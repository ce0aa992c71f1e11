"""Settings of the documentation site, which `make docs` builds with Sphinx.

Pages are Markdown (MyST). Tutorials are Python programs in jupytext's percent
format: their cells are executed when the site is built, and hold assertions,
so that `python docs/idea.py` is a test as well.

No page needs the network: fonts are those of the reader's system, formulas are
MathML, and the search index is a script beside the pages.
"""

import json
import logging
import os
import pathlib
import sys

DOCS = pathlib.Path(__file__).parent
sys.path.insert(0, str(DOCS))

project = 'tconv'
copyright = 'The tconv authors, Apache License 2.0'  # noqa: A001
html_title = 'tconv'

extensions = [
    'myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon',
    'sphinx_copybutton', 'sphinx_design', '_extensions.coverage',
    '_extensions.docstrings', '_extensions.mathml',
]
exclude_patterns = ['_build', '_extensions', 'conf.py', 'explorer_data.py',
                    'figures.py']
html_theme = 'furo'
html_static_path = ['_static']
html_css_files = ['site.css']
html_copy_source = False
# A summary in a result would be fetched, which browsers forbid for files.
html_show_search_summary = False

myst_enable_extensions = ['colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 3

html_math_renderer = 'mathml'

nb_custom_formats = {'.py': '_extensions.tutorials.reads'}
# Kernels leave the user's IPython profile alone, and are not chatty.
_PROFILE = DOCS / '_build/ipython/profile_default'
_PROFILE.mkdir(parents=True, exist_ok=True)
(_PROFILE / 'ipython_kernel_config.json').write_text(
    json.dumps({'IPKernelApp': {'log_level': logging.ERROR}}))
os.environ['IPYTHONDIR'] = str(_PROFILE.parent)
logging.getLogger('traitlets').setLevel(logging.WARNING)

nb_execution_mode = 'force'
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_number_source_lines = False

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # `Args` says what the arguments are.
# A longer signature has a line for each parameter.
python_maximum_signature_line_length = 72
# `tconv.conv` in a docstring is a link, and `strides` is code.
default_role = 'py:obj'
smartquotes_action = 'D'  # Dashes only: 'SAME' is to be copied as it is.
highlight_language = 'none'  # Of blocks that do not name theirs: formulas.
napoleon_numpy_docstring = False
napoleon_custom_sections = [('Attributes', 'params_style')]
napoleon_use_rtype = False

# Prompts are not part of an example to copy.
copybutton_exclude = '.linenos, .gp, .go'


def setup(app):
  """Declares the language of translated pages, which decides their glyphs."""
  def declare(app, page, template, context, doctree):
    if page.endswith('_zh'):
      context['language'] = 'zh-CN'
  app.connect('html-page-context', declare)
