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
  """A table of the page, sorted by a click on a heading.

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

  def uri(self) -> str:
    """The whole picture as a link."""
    data = base64.b64encode(self.path.read_bytes()).decode()
    return f'data:image/png;base64,{data}'


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page under a heading.

  Attributes:
    title: the heading.
    blocks: tables, figures and, as strings, paragraphs, in their order.
  """
  title: str
  blocks: Sequence[Table | Figure | str]


def write_page(path: pathlib.Path, *, title: str, summary: str,
               sections: Sequence[Section], command: str,
               environment: dict[str, Any], credits: str) -> None:
  """Writes the page. All strings are shown as they are, never as HTML.

  Args:
    path: the file.
    title: of the page.
    summary: what was done and what came out, a paragraph.
    sections: in their order; a page with several lists them at its top.
    command: that made the page.
    environment: of the run, as `experiments.workdir.environment` gives it.
    credits: of the data shown.
  """
  templates = jinja2.Environment(
      loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
      autoescape=True, undefined=jinja2.StrictUndefined)
  path.write_text(templates.get_template('report.html.j2').render(
      title=title, summary=summary, sections=sections, command=command,
      environment=environment, credits=credits), encoding='utf-8')


def print_table(table: Table) -> None:
  """Prints a table on the screen.

  Args:
    table: to print.
  """
  screen = table_lib.Table(title=table.caption, title_justify='left')
  for i, name in enumerate(table.columns):
    screen.add_column(
        name, justify='right' if i else 'left', overflow='fold')
  for row in table.rows:
    screen.add_row(*row)
  console.Console(markup=False).print(screen)
