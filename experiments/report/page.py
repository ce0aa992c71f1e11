"""The page of a run: one file, with its figures inside, that opens offline."""

import base64
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import jinja2
from rich import console
from rich import table as table_lib


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of the page.

  Attributes:
    caption: says what is in it, with units.
    columns: headings.
    rows: of cells, strings or None for an empty one, as many as headings.
  """
  caption: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str | None]]


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure of the page.

  Attributes:
    path: a PNG file.
    caption: says what to see in it.
  """
  path: pathlib.Path
  caption: str


def write_page(path: pathlib.Path, *, title: str, summary: str,
               tables: Sequence[Table], figures: Sequence[Figure], command: str,
               environment: dict[str, Any], credits: str) -> None:
  """Writes the page. All strings are shown as they are, never as HTML.

  Args:
    path: the file.
    title: of the page.
    summary: what was done and what came out, a paragraph.
    tables: the first one is the headline.
    figures: shown after the first table.
    command: that made the page.
    environment: of the run, as `experiments.workdir.environment` gives it.
    credits: of the data shown.
  """
  templates = jinja2.Environment(
      loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
      autoescape=True, undefined=jinja2.StrictUndefined)
  images = [
      (base64.b64encode(figure.path.read_bytes()).decode(), figure.caption)
      for figure in figures]
  path.write_text(templates.get_template('report.html.j2').render(
      title=title, summary=summary, tables=tables, images=images,
      command=command, environment=environment, credits=credits),
                  encoding='utf-8')


def print_table(table: Table) -> None:
  """Prints a table on the screen.

  Args:
    table: to print.
  """
  screen = table_lib.Table(title=table.caption, title_justify='left')
  for i, name in enumerate(table.columns):
    screen.add_column(name, justify='right' if i else 'left')
  for row in table.rows:
    screen.add_row(*row)
  console.Console(markup=False).print(screen)
