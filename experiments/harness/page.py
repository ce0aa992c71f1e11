"""The report of a run: one HTML file with its figures inside."""

import base64
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import jinja2

from experiments.harness.results import Table


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure of a page.

  Attributes:
    png: contents of a PNG file.
    caption: description of what to look at.
  """
  png: bytes
  caption: str

  @property
  def uri(self) -> str:
    """The picture as a data URI."""
    return f'data:image/png;base64,{base64.b64encode(self.png).decode()}'


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of a page under a heading.

  Attributes:
    title: heading.
    blocks: tables, figures and paragraphs (strings), in order.
  """
  title: str
  blocks: Sequence[Table | Figure | str]


@dataclasses.dataclass(frozen=True)
class Page:
  """What a study reports.

  Attributes:
    title: title of the page.
    summary: paragraph on what was done and how to read the results.
    sections: sections in order.
    credits: sources of the images shown.
    headlines: tables that are also printed on the screen.
  """
  title: str
  summary: str
  sections: Sequence[Section]
  credits: str
  headlines: Sequence[Table]


def html(page: Page, *, command: str, environment: dict[str, Any]) -> str:
  """Renders a page that needs no other file.

  Strings are shown as text, never interpreted as HTML.

  Args:
    page: contents of the page.
    command: command that made the results.
    environment: result of `workdir.environment`.

  Returns:
    The HTML.
  """
  templates = jinja2.Environment(
      loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
      autoescape=True, undefined=jinja2.StrictUndefined)
  return templates.get_template('page.html.j2').render(
      page=page, command=command, environment=environment)
