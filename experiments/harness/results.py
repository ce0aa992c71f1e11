"""Results of an experiment: rows, means with intervals, claims and tables.

A row is a dict with one value for each column: those that name what was
measured, such as 'upsampler', 'seed' and 'image', and the metrics.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import NamedTuple
from typing import Self

import numpy as np
from rich import table as rich_table
from rich import text as rich_text

_SAMPLES = 10_000  # Of the bootstrap.
MARK = ' !'  # Ends a cell that misses its target.


class Interval(NamedTuple):
  """A mean with an interval around it."""
  mean: float
  low: float
  high: float

  def text(self, decimals: int, sign: str = '') -> str:
    """Writes 'mean [low, high]'; `sign` '+' also marks positive numbers."""
    mean, low, high = (f'{value:{sign}z.{decimals}f}' for value in self)
    return f'{mean} [{low}, {high}]'


def bootstrap(values: Any) -> Interval:
  """Computes the mean over seeds and images with its 95 % bootstrap interval.

  Each of the bootstrap's samples draws seeds and, for all of them, images, with
  replacement, because every seed is measured on the same images. With one seed
  the interval reflects the images only; with three images it is rough, and too
  narrow. The samples are the same at every call.

  Args:
    values: [seeds, images] array of a metric.

  Returns:
    The mean, and the 2.5 % and 97.5 % quantiles of the samples' means.

  References:
    Owen, `The pigeonhole bootstrap <https://arxiv.org/abs/0712.1111>`_, 2007.
  """
  values = np.asarray(values, float)
  rng = np.random.default_rng(0)
  seeds, images = values.shape
  drawn_seeds = rng.integers(seeds, size=(_SAMPLES, seeds, 1))
  drawn_images = rng.integers(images, size=(_SAMPLES, 1, images))
  means = values[drawn_seeds, drawn_images].mean((1, 2))
  low, high = np.quantile(means, [.025, .975])
  return Interval(float(values.mean()), float(low), float(high))


class Results:
  """The rows of a run, or a selection of them."""

  def __init__(self, rows: Sequence[dict[str, Any]]):
    """Wraps rows with the same columns."""
    self.rows = rows

  def where(self, **key: Any) -> Self:
    """Selects the rows that match all of a key.

    Args:
      **key: value of a column, or a tuple of the values that it may have.

    Returns:
      The selected rows.
    """
    return type(self)([
        row for row in self.rows
        if all(row[column] in value if isinstance(value, tuple)
               else row[column] == value for column, value in key.items())])

  def distinct(self, column: str) -> list[Any]:
    """Values of a column, each once, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in self.rows))

  def values(self, metric: str, **key: Any) -> np.ndarray:
    """Collects the values of a metric.

    Args:
      metric: name of the metric.
      **key: selection of rows, as in `where`.

    Returns:
      [seeds, images] array, where images are the rows of a seed; empty where
      the metric was not measured.
    """
    by_seed: dict[Any, list[float]] = {}
    for row in self.where(**key).rows:
      if row.get(metric) is not None:
        by_seed.setdefault(row['seed'], []).append(row[metric])
    return np.array(list(by_seed.values()), float)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table for the screen, for a page of HTML and for Markdown.

  Attributes:
    caption: description of the table, with units.
    columns: headings.
    rows: one cell for each heading, a string or None if it is empty.
  """
  caption: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str | None]]

  def screen(self) -> rich_table.Table:
    """Formats the table for `rich`; rows with a `MARK` are red."""
    shown = rich_table.Table(title=self.caption, title_justify='left')
    for i, name in enumerate(self.columns):
      shown.add_column(
          name, justify='right' if i else 'left', overflow='fold')
    for row in self.rows:
      is_marked = any(cell and cell.endswith(MARK) for cell in row)
      shown.add_row(*(rich_text.Text(cell or '') for cell in row),
                    style='red' if is_marked else None)
    return shown

  def markdown(self) -> str:
    """Formats the table in Markdown, below its caption."""
    lines = [self.columns, ['---'] * len(self.columns), *self.rows]
    return '\n'.join((self.caption, '', *(
        f'| {" | ".join(cell or "" for cell in line)} |' for line in lines)))


class Claim(NamedTuple):
  """A claim that a run can test.

  Attributes:
    text: the claim.
    seen: what the run shows.
    verdict: 'yes', 'no' or 'cannot tell'.
  """
  text: str
  seen: str
  verdict: str


def claims_table(caption: str, claims: Sequence[Claim]) -> Table:
  """Lists claims with what was seen of them."""
  return Table(caption, ('claim', 'seen', 'holds'), claims)
