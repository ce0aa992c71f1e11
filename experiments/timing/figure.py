"""The figure of the benchmark: ratios for each layer, and series."""

from collections.abc import Mapping
from typing import Any

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
import numpy as np

from experiments.timing import calls
from experiments.timing import targets
from tconv.audit import style

_STYLES = {'lax': (style.BLUE, 'o'), 'best peer': (style.VERMILION, 's'),
           'tconv': (style.GREEN, '^')}
_ROW = .27  # Inches of a layer.


def draw(results: Mapping[str, Any]) -> Figure:
  """Draws results, as for `targets.judge`: times over tconv's, and series."""
  layers, series = results['layers'], results['series']
  heights = 1.6 + _ROW * len(layers), 3.6
  figure = Figure(figsize=(11, sum(heights)), layout='constrained')
  (above,), (below,) = figure.subfigures(
      2, 1, squeeze=False, height_ratios=heights)
  for kind, axes in zip(calls.KINDS, above.subplots(1, 2, sharey=True)):
    _draw_ratios(axes, layers, kind)
  above.legend(*axes.get_legend_handles_labels(), ncols=2, frameon=False,
               loc='outside upper center')
  for axes, (name, label) in zip(below.subplots(1, 2), (
      ('stride', 'stride, with kernels twice as large'),
      ('size', 'side of the output, pixels'))):
    _draw_series(axes, series.get(name, {}), name, label)
  return figure


def _draw_ratios(axes: Axes, layers: Mapping[str, targets.Entry],
                 kind: str) -> None:
  """Draws a row for each layer; lines span the quartiles over rounds."""
  rows = np.arange(len(layers))
  for name, find in (('lax', lambda entry: 'lax'),
                     ('best peer', lambda entry: targets.fastest(entry, kind))):
    color, marker = _STYLES[name]
    ratios = [targets.against(entry, kind, find(entry))
              for entry in layers.values()]
    value, low, high = np.array(ratios, float).T
    axes.hlines(rows, low, high, color, linewidth=1)
    axes.plot(value, rows, marker, color=color, label=f'{name} / tconv')
  axes.axvline(1, color=style.GREY)
  axes.set(title=kind, xscale='log', xlabel='times as long as tconv',
           ylim=(len(layers) - .5, -.5))
  axes.set_yticks(rows, list(layers))
  _write_out(axes.xaxis)
  axes.grid(color=style.PALE)


def _draw_series(axes: Axes, series: Mapping[str, targets.Entry], name: str,
                 label: str) -> None:
  """Draws the time per unit of work, and the band of its target."""
  unit = targets.UNITS[name]
  places = [entry['stride'] if name == 'stride' else
            round(entry['output_pixels']**.5) for entry in series.values()]
  for peer in 'tconv', 'lax':
    color, marker = _STYLES[peer]
    axes.loglog(places, list(targets.relative(series, unit, peer).values()),
                color=color, marker=marker, label=peer)
  axes.axhspan(1, targets.FLAT, color=style.PALE, zorder=0)
  axes.set(xlabel=label, ylabel='time for the same work, over the least')
  axes.set_xticks(places, map(str, places))
  axes.xaxis.set_minor_locator(ticker.NullLocator())
  _write_out(axes.yaxis)
  axes.legend(frameon=False)


def _write_out(axis: Axis) -> None:
  """Labels an axis with 1, 2, 5, 10 and so on instead of powers of ten."""
  axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axis.set_major_formatter('{x:g}')
  axis.set_minor_locator(ticker.NullLocator())
