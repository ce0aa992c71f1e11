"""Fails the build if a public name of tconv is on no page of the reference."""

import inspect

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import tconv
from tconv import audit
from tconv import linen
from tconv import nnx


def public_names() -> set[str]:
  """The full names under which users call functions and classes of tconv."""
  names = {f'tconv.{name}' for name in tconv.__all__
           if not inspect.ismodule(getattr(tconv, name))}
  for module in (tconv.dialects, tconv.initializers, linen, nnx, audit):
    names |= {
        f'{module.__name__}.{name}' for name, value in vars(module).items()
        if not name.startswith('_') and inspect.getmodule(value) is not None
        and inspect.getmodule(value).__name__.startswith(module.__name__)
        and not inspect.ismodule(value)}
  return names | {'tconv.spectrum.legacy_radial_profile'}


def _check(app: Sphinx, env: BuildEnvironment) -> None:
  documented = env.domains.python_domain.objects
  for name in sorted(public_names() - set(documented)):
    logging.getLogger(__name__).warning('%s is on no page of docs/api', name)


def setup(app: Sphinx) -> dict[str, bool]:
  """Checks the reference when all pages have been read."""
  app.connect('env-check-consistency', _check)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
