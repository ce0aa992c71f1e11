"""The layers that enlarge, for the networks of all studies, by name."""

from collections.abc import Callable
import re
from typing import Any

from flax import nnx

import tconv
from tconv import initializers

_OTHERS = ('sub-pixel', 'sub-pixel ICNR', 'nearest+conv', 'bilinear+conv')
# Taps on each axis: as far as `tconv.equivalent_kernel` sees at x2.
LARGEST_KERNEL = 16
NAMES = ', '.join((
    f'transposed kK with a K up to {LARGEST_KERNEL}',
    'transposed kK equal phases', *_OTHERS))
_TRANSPOSED = re.compile(r'transposed k([1-9]\d*)(?: (equal phases))?')


def is_known(name: Any) -> bool:
  """Tells whether there is an upsampling layer of this name.

  Args:
    name: such as those in `NAMES`.

  Returns:
    Whether `upsampler` makes it.
  """
  match = _TRANSPOSED.fullmatch(str(name))
  return name in _OTHERS or (
      match is not None and int(match[1]) <= LARGEST_KERNEL)


def is_plain(name: str) -> bool:
  """Tells whether a layer is a transposed convolution as Flax has it, too.

  Args:
    name: of any layer.

  Returns:
    Whether it is 'transposed kK', without a cure.
  """
  match = _TRANSPOSED.fullmatch(name)
  return match is not None and not match[2]


def upsampler(name: str, in_features: int, out_features: int, scale: int, *,
              rngs: nnx.Rngs, use_bias: bool = True,
              conv_transpose: Callable[..., nnx.Module]
              = tconv.nnx.ConvTranspose) -> nnx.Module:
  """Makes a layer that enlarges images.

  Args:
    name: of the layer. Other kernels than those of 'transposed kK' are 3x3.
    in_features: channels of its inputs.
    out_features: channels of its result.
    scale: factor.
    rngs: where the kernel is drawn from.
    use_bias: whether to add a bias; that of a sub-pixel layer has an element
      for each of the channels before the shuffle.
    conv_transpose: the class of transposed convolutions, so that it can be
      compared with that of Flax.

  Returns:
    Layer from [N, h, w, in_features] to [N, scale * h, scale * w,
    out_features].
  """
  options: dict[str, Any] = {'rngs': rngs, 'use_bias': use_bias}
  if name.startswith('sub-pixel'):
    if name.endswith('ICNR'):
      options['kernel_init'] = initializers.icnr(scale)
    return tconv.nnx.SubPixelConv(
        in_features, out_features, (3, 3), scale, **options)
  if name.endswith('+conv'):
    return tconv.nnx.ResizeConv(
        in_features, out_features, (3, 3), scale,
        method=name.removesuffix('+conv'), **options)
  match = _TRANSPOSED.fullmatch(name)
  assert match, name
  if match[2]:
    options['equal_phases'] = True
  return conv_transpose(in_features, out_features, (int(match[1]),) * 2, scale,
                        **options)
