"""The upsamplers that studies compare, in a registry by name.

Every upsampler is an entry of `REGISTRY`. To add one, write a class with the
methods of `Upsampler` and register it.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

from flax import nnx
import numpy as np

import tconv
from tconv import initializers

INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic')
# Taps on each axis: as far as `tconv.equivalent_kernel` sees at scale 2.
LARGEST_KERNEL = 16
# 'equal phases' is an option of the layer, and the others are added to a
# network or its training by a study. Repairs come after training.
EQUAL_PHASES = 'equal phases'
REPAIRED, CALIBRATED = REPAIRS = ('repaired', 'calibrated')
ADDED_CURES = (*REPAIRS, 'penalty', 'hold')
CURES = (EQUAL_PHASES, *ADDED_CURES)

_KERNEL_SIZE = (3, 3)  # Of the layers that are not transposed convolutions.


@dataclasses.dataclass(frozen=True)
class Upsampler:
  """A way to enlarge images by a factor, the scale.

  Attributes:
    name: name in configs and results.
    cure: what was done against checkerboards; empty if nothing.
    base: name of the upsampler without the cure; its own name if there is none.
  """
  name: str
  cure: str = ''
  base: str = ''

  @property
  def is_learned(self) -> bool:
    """Whether it has parameters."""
    return True

  @property
  def trained_as(self) -> str:
    """Name of the upsampler whose training it shares."""
    return self.base if self.cure in REPAIRS else self.name

  @property
  def is_stage(self) -> bool:
    """Whether it is a layer and nothing else, so that layers can be stacked."""
    return self.is_learned and self.cure not in ADDED_CURES

  @property
  def is_plain(self) -> bool:
    """Whether its layer is one that Flax has as well."""
    return False

  def layer(self, in_features: int, out_features: int, scale: int, *,
            rngs: nnx.Rngs, use_bias: bool = True,
            conv_transpose: Callable[..., nnx.Module]
            = tconv.nnx.ConvTranspose) -> Callable[..., Any]:
    """Makes the layer.

    Args:
      in_features: number of input channels.
      out_features: number of output channels.
      scale: factor.
      rngs: random streams for the kernel.
      use_bias: whether to add a bias; that of a sub-pixel layer has an element
        for each of the channels before the shuffle.
      conv_transpose: class of transposed convolutions, so that tconv's can be
        compared with that of Flax.

    Returns:
      Layer from [N, h, w, in_features] to [N, scale * h, scale * w,
      out_features].
    """
    raise NotImplementedError

  def covers(self, scale: int) -> bool:
    """Tells whether it writes every pixel.

    Args:
      scale: factor.

    Returns:
      False for transposed kernels that are smaller than the scale. Between
      them are pixels that get the bias only.
    """
    del scale
    return True

  def multiply_adds(self, kernel_shape: tuple[int, ...], scale: int) -> float:
    """Counts the multiply-adds for an output pixel, away from the border.

    Args:
      kernel_shape: shape of the kernel.
      scale: factor.

    Returns:
      Their mean number. An interpolation counts one for each coarse position
      that contributes to a pixel, and none if pixels are copied.
    """
    return np.prod(kernel_shape) / scale**2


@dataclasses.dataclass(frozen=True)
class Interpolation(Upsampler):
  """A fixed interpolation, named by its method."""

  @property
  def is_learned(self) -> bool:
    return False

  def layer(self, in_features, out_features, scale, **options):
    return _bound(tconv.upsample, scale=scale, method=self.name)

  def multiply_adds(self, kernel_shape, scale):
    return _interpolation_work(self.name, scale)


@dataclasses.dataclass(frozen=True)
class Transposed(Upsampler):
  """A transposed convolution with a square kernel, cured or not.

  Attributes:
    size: taps on each axis.
  """
  size: int = 0

  @property
  def is_plain(self) -> bool:
    return not self.cure

  def layer(self, in_features, out_features, scale, *, rngs, use_bias=True,
            conv_transpose=tconv.nnx.ConvTranspose):
    options: dict[str, Any] = (
        {'equal_phases': True} if self.cure == EQUAL_PHASES else {})
    return conv_transpose(in_features, out_features, (self.size, self.size),
                          scale, rngs=rngs, use_bias=use_bias, **options)

  def covers(self, scale):
    return self.size >= scale

  def multiply_adds(self, kernel_shape, scale):
    # A moving average counts one for each pixel that is averaged.
    average = scale**2 if self.cure == 'hold' else 0
    return super().multiply_adds(kernel_shape, scale) + average


@dataclasses.dataclass(frozen=True)
class SubPixel(Upsampler):
  """A convolution to more channels, which are then shuffled into pixels."""

  def layer(self, in_features, out_features, scale, *, rngs, use_bias=True,
            **_):
    options: dict[str, Any] = (
        {'kernel_init': initializers.icnr(scale)} if self.cure else {})
    return tconv.nnx.SubPixelConv(in_features, out_features, _KERNEL_SIZE,
                                  scale, rngs=rngs, use_bias=use_bias,
                                  **options)


@dataclasses.dataclass(frozen=True)
class Resized(Upsampler):
  """An interpolation that is followed by a convolution.

  Attributes:
    method: method of the interpolation.
  """
  method: str = ''

  def layer(self, in_features, out_features, scale, *, rngs, use_bias=True,
            **_):
    return tconv.nnx.ResizeConv(in_features, out_features, _KERNEL_SIZE, scale,
                                method=self.method, rngs=rngs,
                                use_bias=use_bias)

  def multiply_adds(self, kernel_shape, scale):
    work = _interpolation_work(self.method, scale) * kernel_shape[-2]
    return np.prod(kernel_shape) + work


# Equal results for equal arguments, so that equal networks are compiled once.
_bound = functools.cache(functools.partial)


def _interpolation_work(method: str, scale: int) -> float:
  if method == 'nearest':
    return 0.
  taps = tconv.interpolation_kernel((scale, scale), method=method)
  return np.count_nonzero(np.abs(taps) > 1e-12) / scale**2


def _transposed(size: int, cure: str) -> Transposed:
  base = f'transposed k{size}'
  return Transposed(f'{base} {cure}'.strip(), cure, base, size)


def _all() -> list[Upsampler]:
  return [
      *(Interpolation(name, base=name) for name in INTERPOLATIONS),
      *(_transposed(size, cure) for size in range(1, LARGEST_KERNEL + 1)
        for cure in ('', *CURES)),
      SubPixel('sub-pixel', base='sub-pixel'),
      SubPixel('sub-pixel ICNR', 'ICNR', 'sub-pixel'),
      *(Resized(f'{method}+conv', base=f'{method}+conv', method=method)
        for method in ('nearest', 'bilinear'))]


REGISTRY = {upsampler.name: upsampler for upsampler in _all()}


def names(entries: dict[str, Upsampler]) -> str:
  """Lists names for an error message.

  Args:
    entries: some entries of the registry.

  Returns:
    The names, with K for the size of a transposed kernel.
  """
  short = (f'transposed kK {e.cure}'.strip() if isinstance(e, Transposed)
           else e.name for e in entries.values())
  return f'{", ".join(dict.fromkeys(short))}, with a K up to {LARGEST_KERNEL}'


STAGES = {name: u for name, u in REGISTRY.items() if u.is_stage}
