"""The report of an audit as one HTML file, with its figures inside."""

import base64
from collections.abc import Mapping
from collections.abc import Sequence
import io
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import jinja2
from matplotlib.figure import Figure
import numpy as np

from tconv import phases
from tconv.audit import images
from tconv.audit import model
from tconv.audit import report as report_lib
from tconv.audit import spectra as spectra_lib
from tconv.audit import style

_SIDE = 2.7  # Inches of a panel.
_DPI = 100
_CHANNELS = 4  # Channels of which phase gains are drawn.
_CROP = 48  # Side of the crop of a flat field, in pixels.
_ENLARGED = 8  # Times.


def render(report: Mapping[str, Any],
           figures: Sequence[tuple[str, bytes]],
           repairs: Sequence[tuple[str, str]] = ()) -> str:
  """Renders a page that needs no other file and no script.

  Args:
    report: report of an audit.
    figures: caption and contents of a PNG file for each figure.
    repairs: name of each upsampler and what a repair would do with it.

  Returns:
    The HTML.
  """
  templates = jinja2.Environment(
      loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
      autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
      lstrip_blocks=True)
  templates.filters.update(
      shown=report_lib.shown, number=report_lib.number, row=report_lib.row)
  uris = [(caption, f'data:image/png;base64,{base64.b64encode(png).decode()}')
          for caption, png in figures]
  return templates.get_template('page.html.j2').render(
      report=report, columns=report_lib.COLUMNS, figures=uris,
      repairs=repairs,
      verdict=report_lib.in_words(report))


def phase_gain_map(weights: model.Weights, means: np.ndarray,
                   strides: Sequence[int], *,
                   kernel_dilation: int | Sequence[int] = 1,
                   groups: int = 1) -> bytes:
  """Draws the gain of each phase for the channels of strongest pattern.

  Args:
    weights: parameters of an upsampler.
    means: [O] means of its input channels.
    strides: one int for each axis; 1-D gains are drawn as bars, and 3-D ones as
      slices side by side.
    kernel_dilation: dilation of the kernel, one int or one for each axis.
    groups: number of groups of channels.

  Returns:
    Contents of a PNG file.
  """
  gains = np.asarray(phases.phase_gains(
      jnp.asarray(weights.kernel, jnp.float32), strides,
      kernel_dilation=kernel_dilation), np.float64)
  n, fine = len(strides), gains.shape[-2]
  means = np.asarray(means, np.float64).reshape(groups, -1)
  gains = gains.reshape(*strides, fine, groups, -1)
  gains = (gains * means).sum(-1).swapaxes(-1, -2).reshape(*strides, -1)
  if weights.bias is not None:
    gains = gains + weights.bias
  order = np.argsort(-gains.std(tuple(range(n))), kind='stable')[:_CHANNELS]
  gains = gains[..., order]
  # What rounding leaves of a pattern stays small in the figure.
  reach = max(np.abs(gains - gains.mean(tuple(range(n)))).max(),
              1e-3 * np.abs(gains).max()) or 1

  figure = Figure(figsize=(len(order) * _SIDE + .8,
                           _SIDE * (.7 if n == 3 else 1)),
                  layout='constrained')
  panels = figure.subplots(1, len(order), squeeze=False)[0]
  for axes, channel, gain in zip(panels, order, np.moveaxis(gains, -1, 0)):
    mean = gain.mean()
    axes.set_title(f'channel {channel}: {mean:.3g} '
                   f'\u00b1 {gain.std():.2g}', size='medium')
    if n == 1:
      axes.bar(range(len(gain)), gain - mean, color=style.BLUE)
      axes.axhline(0, color='black', linewidth=.8)
      axes.set(ylim=(-1.1 * reach, 1.1 * reach), xlabel='phase')
      axes.xaxis.get_major_locator().set_params(integer=True)
    else:
      axes.imshow(_beside(gain - mean), 'RdBu_r', vmin=-reach, vmax=reach)
      axes.set(xticks=(), yticks=(), xlabel='phase')
  if n == 1:
    panels[0].set_ylabel('gain less mean')
  else:
    figure.colorbar(panels[0].images[0], ax=list(panels),
                    label='gain less mean')
  return _png(figure)


def spectra(before: np.ndarray | None, after: np.ndarray,
            repaired: np.ndarray | None = None, *,
            period: Sequence[int]) -> bytes:
  """Draws power spectra side by side, with the pattern's frequencies circled.

  They are means over patches that overlap by half. For volumes, these are of
  all slices of the first axis, whose own frequencies are left out. So are axes
  of length 1.

  Args:
    before: [*size, C] input of the model, of any size; its bicubic enlargement
      is the reference. None if there is none.
    after: [*size, C] output of the model, at least 2 periods large.
    repaired: [*size, C] output of the repaired model, or None.
    period: period of the pattern in the output, one int for each axis.

  Returns:
    Contents of a PNG file.

  Raises:
    ValueError: the output is too small.
  """
  size = after.shape[:-1]
  if any(s < 2 * p and (s, p) != (1, 1) for s, p in zip(size, period)):
    raise ValueError(
        f'after must measure at least 2 periods of {tuple(period)}; got size '
        f'{size}.')
  signals = {}
  if before is not None:
    signals['input, enlarged'] = np.asarray(jax.image.resize(
        _luminance(before).astype(np.float32), size, 'cubic'))
  signals['output'] = _luminance(after)
  if repaired is not None:
    signals['output, repaired'] = _luminance(repaired)
  period = tuple(p for s, p in zip(size, period) if s > 1)[-2:]
  powers = {name: spectra_lib.power_spectrum(x.squeeze(), period)
            for name, x in signals.items()}
  high = max(power.max() for power in powers.values())
  low = max(high - 100, min(
      np.quantile(power, .02) for power in powers.values()))
  figure = Figure(figsize=(len(powers) * _SIDE + .8, _SIDE + .3),
                  layout='constrained')
  panels = figure.subplots(1, len(powers), squeeze=False)[0]
  for axes, (name, power), color in zip(panels, powers.items(), style.LINES):
    axes.set_title(name, size='medium')
    if power.ndim == 1:
      _draw_line(axes, power, period[0], color)
      axes.set_ylim(low - 3, high + 6)
      axes.set_xlabel('cycles per sample')
    else:
      spectra_lib.draw_spectrum(axes, power, period, limits=(low, high))
  if len(period) == 1:
    panels[0].set_ylabel('power, dB')
  else:
    figure.colorbar(panels[0].images[0], ax=list(panels), label='power, dB')
  return _png(figure)


def flat_field(image: np.ndarray, gain: float) -> bytes:
  """Draws the middle of a model's output for a flat field, amplified.

  Args:
    image: [*size, C] output in levels of 8 bits. Other numbers of channels than
      3 are drawn as the channel with the strongest pattern; of a volume, four
      slices are drawn.
    gain: factor by which deviations from the mean of each channel are
      amplified. The mean is medium grey.

  Returns:
    Contents of a PNG file.
  """
  image = np.asarray(image, np.float64)
  for axis, length in enumerate(image.shape[:-1]):
    side = _CROP if image.ndim < 4 else _CROP // 2 if axis else 4
    start = max(0, (length - side) // 2)
    image = image.take(range(start, min(length, start + side)), axis)
  spatial = tuple(range(image.ndim - 1))
  image = image - image.mean(spatial)
  if image.shape[-1] != 3:
    image = image[..., [image.std(spatial).argmax()]]
  note = f'1 grey step = {1 / gain:.3g} levels; root mean square ' \
         f'{image.std():.3g} levels'
  if image.ndim == 2:
    figure = Figure(figsize=(2 * _SIDE, _SIDE), layout='constrained')
    axes = figure.subplots()
    signal = image[:, image.std(0).argmax()]
    axes.bar(range(len(signal)), signal, color=style.BLUE)
    axes.axhline(0, color='black', linewidth=.8)
    axes.set(xlabel='sample', ylabel='levels less mean',
             ylim=(-127.5 / gain, 127.5 / gain))
    axes.set_title(note, size='medium')
    return _png(figure)

  image = _beside(image) if image.ndim == 4 else image
  pixels = np.rint(np.clip(127.5 + gain * image, 0, 255)).astype(np.uint8)
  pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
  # Placed by pixels: resampling would paint patterns of its own.
  pixels = pixels.repeat(_ENLARGED, 0).repeat(_ENLARGED, 1)
  height, width, _ = pixels.shape
  figure = Figure(figsize=(max(width, _CROP * _ENLARGED) / _DPI,
                           (height + 24) / _DPI), dpi=_DPI)
  figure.figimage(pixels, 0, 0, origin='upper')
  figure.text(0, 1, note, size=8, va='top')
  return _png(figure)


def _luminance(image: np.ndarray) -> np.ndarray:
  """[*size] luminance of a [*size, 3] image, or mean of other channels."""
  image = np.asarray(image, np.float64)
  if image.shape[-1] == 3:
    return images.luminance(image)[..., 0]
  return image.mean(-1)


def _draw_line(axes, power, period, color):
  """Draws half a [size] spectrum; the other half mirrors it."""
  half = len(power) // 2
  frequencies = np.arange(1, half + 1) / len(power)
  axes.plot(frequencies, power[1:half + 1], color=color, linewidth=1)
  lines = np.arange(1, period // 2 + 1)
  axes.plot(lines / period, power[lines * len(power) // period], 'o',
            markersize=8, fillstyle='none', color='black')


def _beside(volume: np.ndarray) -> np.ndarray:
  """[H, D (W + 1) - 1, ...] slices of a [D, H, W, ...] volume, side by side.

  Images [H, W] stay as they are. What separates slices has the value 0.
  """
  if volume.ndim == 2:
    return volume
  gap = np.zeros((volume.shape[1], 1, *volume.shape[3:]))
  parts = [part for each in volume for part in (each, gap)]
  return np.concatenate(parts[:-1], 1)


def _png(figure: Figure) -> bytes:
  file = io.BytesIO()
  figure.savefig(file, format='png', dpi=_DPI)
  return file.getvalue()
