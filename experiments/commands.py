"""What the measuring commands share: arguments, errors, versions and pages."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
from importlib import metadata
import pathlib
import platform
import re
import shlex
import sys

from absl import app
import rich.console

from experiments.harness import workdir
from experiments.harness.results import Table


@contextlib.contextmanager
def started(name: str, argv: list[str]
            ) -> Iterator[tuple[rich.console.Console, str]]:
  """Runs a command; its errors end the process with one line.

  Args:
    name: name of the command's module in `experiments`.
    argv: command line without the parsed flags.

  Yields:
    The console to print on, and the command line to report.
  """
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {shlex.join(argv[1:])}')
  try:
    yield (rich.console.Console(markup=False, highlight=False), shlex.join(
        ['python', '-m', f'experiments.{name}', *sys.argv[1:]]))
  except (workdir.RunError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    sys.exit(130)


def versions(*packages: str) -> dict[str, str]:
  """Returns the versions of 'python' and of packages, if they are installed."""
  found = {}
  for package in packages:
    with contextlib.suppress(metadata.PackageNotFoundError):
      found[package] = (platform.python_version() if package == 'python'
                        else metadata.version(package))
  return found


def listed(found: Mapping[str, str]) -> str:
  """Formats versions as in 'python 3.12.1, jax 0.10.2'."""
  return ', '.join(f'{name} {version}' for name, version in found.items())


def write_page(path: pathlib.Path, title: str, *parts: str | Table) -> None:
  """Writes a Markdown page of paragraphs and tables."""
  workdir.write_text(path, '\n\n'.join((f'# {title}', *(
      part if isinstance(part, str) else part.markdown() for part in parts)))
      + '\n')


def replace_part(page: str, start: str, end: str, text: str) -> None:
  """Replaces a measured part of a Markdown page that is written by hand.

  Args:
    page: path of the page.
    start: first words of the part's first line.
    end: first words of the part's last line.
    text: new lines, without the last line break.
  """
  old = pathlib.Path(page).read_text(encoding='utf-8')
  new, count = re.subn(
      rf'^{re.escape(start)}(?s:.*?)^{re.escape(end)}.*$',
      lambda _: text, old, flags=re.MULTILINE)
  if count != 1:
    raise workdir.RunError(
        f'{page} must have one part from "{start}" to "{end}"; found {count}.')
  workdir.write_text(pathlib.Path(page), new)
