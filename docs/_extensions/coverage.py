"""Fails the build if a public name of tconv is on no page of the reference."""

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from _extensions import public


def _check(app: Sphinx, env: BuildEnvironment) -> None:
  documented = env.domains.python_domain.objects
  for name in sorted(set(public.public()) - set(documented)):
    logging.getLogger(__name__).warning('%s is on no page of docs/api', name)


def setup(app: Sphinx) -> dict[str, bool]:
  """Checks the reference when all pages have been read."""
  app.connect('env-check-consistency', _check)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
