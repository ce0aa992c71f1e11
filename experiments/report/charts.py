"""Charts that compare upsamplers.

There are more upsamplers than distinguishable colors. Each one therefore has
its own marker or line style as well, or a number.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import itertools

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
import numpy as np

from experiments.harness import results
from tconv.audit import style

_COLUMNS = 3  # Upsamplers side by side in phase maps.


def psnr_against_grid_level(
    points: Mapping[str, tuple[results.Interval, results.Interval]], *,
    truth_level: float) -> Figure:
  """Draws the PSNR of each upsampler over its grid level.

  The points are numbered, and the legend gives their names. Lines show the
  intervals, and may end at the frame if they are much longer than the
  differences between upsamplers.

  Args:
    points: intervals of the grid level and of the PSNR in dB, by name.
    truth_level: grid level of the ground truth in dB.

  Returns:
    The figure.
  """
  figure, axes = _canvas()
  axes.axvline(truth_level, color=style.GREY, linestyle='--',
               label='ground truth')
  looks = zip(itertools.cycle(style.LINES), itertools.cycle(style.MARKERS))
  for number, (name, (color, marker)) in enumerate(zip(points, looks), 1):
    level, psnr = points[name]
    axes.hlines(psnr.mean, level.low, level.high, color, linewidth=1)
    axes.vlines(level.mean, psnr.low, psnr.high, color, linewidth=1)
    axes.plot(level.mean, psnr.mean, color=color, marker=marker,
              linestyle='none', label=f'{number}  {name}')
  axes.set(xlabel='grid level, dB', ylabel='PSNR, dB')
  mean, low, high = np.transpose([psnr for _, psnr in points.values()])
  beyond = .5 * np.ptp(mean) or 1
  axes.set_ylim(max(low.min(), mean.min() - beyond) - .1 * beyond,
                min(high.max(), mean.max() + beyond) + .1 * beyond)
  figure.legend(loc='outside right upper', frameon=False)
  _number(figure, axes,
          [(level.mean, psnr.mean) for level, psnr in points.values()])
  return figure


def learning_curves(
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], *,
    label: str) -> Figure:
  """Draws losses over steps.

  Args:
    curves: steps and their losses, by the name of the training. To reduce
      noise, each loss is replaced by the median of a window of a tenth of all.
    label: label of the axis of losses, with their unit.

  Returns:
    The figure.
  """
  figure, axes = _canvas()
  for name, (steps, losses) in curves.items():
    reach = len(losses) // 20
    padded = np.pad(np.asarray(losses, float), reach, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    axes.semilogy(steps, np.nanmedian(around, -1), label=name)
  axes.set(xlabel='step', ylabel=label)
  axes.grid(True, which='both', color=style.PALE)
  figure.legend(loc='outside right upper', frameon=False)
  return figure


def radial_spectra(spectra: Mapping[str, np.ndarray], truth: np.ndarray, *,
                   period: int, size: int) -> Figure:
  """Draws spectra relative to that of the truth, and marks the grid bins.

  Args:
    spectra: [R] results of `tconv.spectrum.radial_spectrum` by name.
    truth: [R] spectrum of the truth.
    period: period of the marked pattern in pixels.
    size: shorter side of the images in pixels; index r of a spectrum is
      r / size cycles per pixel.

  Returns:
    The figure.
  """
  figure, axes = _canvas()
  axes.axhline(0, color=style.GREY, label='ground truth')
  frequency = np.arange(len(truth)) / size
  for name, power in spectra.items():
    # Stays finite if an image has no power.
    ratio = (power + 1e-30) / (truth + 1e-30)
    axes.plot(frequency, 10 * np.log10(ratio), label=name)
  axes.set(xlabel='distance from frequency zero, cycles per pixel',
           ylabel='power over that of the truth, dB', xlim=(0, .72))
  # Frequencies that an upsampler cancels would flatten all other curves.
  axes.set_ylim(bottom=max(axes.get_ylim()[0], -60))
  # Each grid bin has mirror images in the same annulus.
  bins = list(itertools.combinations_with_replacement(
      range(period // 2 + 1), 2))[1:]
  marks = axes.secondary_xaxis('top')
  marks.set_xticks([np.hypot(*b) / period for b in bins],
                   [f'{b[1]},{b[0]}' for b in bins])
  marks.set_xlabel(f'grid bins, in 1/{period} cycles per pixel')
  for b in bins:
    axes.axvline(np.hypot(*b) / period, color=style.GREY, linestyle=':',
                 zorder=0)
  figure.legend(loc='outside right upper', frameon=False)
  return figure


def phase_maps(maps: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
  """Draws the means of the phases, the pattern that an upsampler adds.

  Args:
    maps: two [s, s] arrays by name, in 8-bit levels: the means that the kernel
      predicts, and those measured in the image. The overall mean is subtracted.
      Numbers are shown up to s = 4.

  Returns:
    The figure.
  """
  patterns = {name: [means - np.mean(means) for means in pair]
              for name, pair in maps.items()}
  # The largest, unless a single upsampler would make all others pale.
  *_, second, first = 0, *sorted(np.abs(p).max() for p in patterns.values())
  limit = max(min(first, 2 * second) or first, .01)
  shade = ScalarMappable(Normalize(-limit, limit), 'RdBu_r')
  rows = -(-len(maps) // _COLUMNS)
  heights = .7, 2.15 * rows
  figure = Figure(figsize=(10.5, sum(heights)), layout='constrained')
  (top,), (body,) = figure.subfigures(
      2, 1, squeeze=False, height_ratios=heights)
  figure.colorbar(shade, cax=top.subplots(), orientation='horizontal',
                  extend='both' if limit < first else 'neither',
                  label='mean of a phase less the mean of all, 8-bit levels')
  boxes = body.subfigures(rows, _COLUMNS, squeeze=False)
  for box, (name, pair) in zip(boxes.flat, patterns.items()):
    box.suptitle(name, weight='bold')
    for axes, title, values in zip(
        box.subplots(1, 2), ('predicted', 'measured'), pair):
      axes.imshow(values, shade.cmap, shade.norm)
      axes.set(title=title, xticks=(), yticks=())
      if len(values) <= 4:
        for (row, column), value in np.ndenumerate(values):
          axes.text(column, row, f'{value:z.2f}', ha='center', va='center',
                    fontsize=9,
                    color='white' if abs(value) > .6 * limit else 'black')
  return figure


def _canvas() -> tuple[Figure, Axes]:
  """Makes axes with room for a legend, and a style for each line."""
  figure = Figure(figsize=(10.5, 5.2), layout='constrained')
  axes = figure.subplots()
  axes.set_prop_cycle(color=style.LINES * len(style.DASHES),
                      linestyle=style.DASHES * len(style.LINES))
  return figure, axes


def _number(figure: Figure, axes: Axes,
            points: Sequence[tuple[float, float]]) -> None:
  """Writes numbers from 1 near the points, where there is room."""
  figure.draw_without_rendering()  # Fixes the positions of the points.
  places = axes.transData.transform(points)
  turns = np.linspace(0, 2 * np.pi, 16, endpoint=False) + np.pi / 4
  offsets = np.array([(radius * np.cos(turn), radius * np.sin(turn))
                      for radius in (14, 20, 28, 38) for turn in turns])
  taken = places
  for number, (point, place) in enumerate(zip(points, places), 1):
    away = np.linalg.norm(place + offsets[:, None] - taken, axis=-1).min(1)
    offset = offsets[np.argmax(
        np.minimum(away, 20) - .1 * np.linalg.norm(offsets, axis=-1))]
    taken = np.vstack([taken, place + offset])
    axes.annotate(
        str(number), point, offset, textcoords='offset pixels', ha='center',
        va='center', path_effects=[withStroke(linewidth=3, foreground='white')],
        arrowprops={'arrowstyle': '-', 'color': style.GREY, 'lw': .5})
