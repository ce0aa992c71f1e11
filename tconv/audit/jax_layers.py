"""Reads equations of a program of JAX as the beginning of an upsampler."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import math
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from tconv import sub_pixel
from tconv.audit import jax_views
from tconv.audit import model
from tconv.geometry import Geometry
from tconv.programs import choices
from tconv.programs import jaxprs
from tconv.programs import mapping

TRANSPOSED = 'ConvTranspose'
_OWN = 'tconv_conv'


@dataclasses.dataclass(frozen=True)
class Slot:
  """An operand that holds parameters.

  Attributes:
    variable: variable or literal with the values.
    place: first result of the equation that takes the operand, and its number.
    shape: shape of the values; they are broadcast to that of the operand.
    order: for each parameter, its position among the values.
  """
  variable: Any
  place: tuple[Any, int]
  shape: tuple[int, ...]
  order: np.ndarray

  def read(self, values: np.ndarray) -> np.ndarray:
    """Returns the parameters that values hold."""
    return values.ravel()[self.order]

  def write(self, parameters: np.ndarray) -> np.ndarray:
    """Returns the values that hold parameters; `read` tells if they do."""
    values = np.zeros(math.prod(self.shape), parameters.dtype)
    values[self.order] = parameters
    return values.reshape(self.shape)


class Tap(NamedTuple):
  """An activation: a variable, and a function that makes it channels last."""
  variable: Any
  arrange: Callable[[jax.Array], jax.Array]


class Convolution(NamedTuple):
  """A convolution as an upsampler: what it is, its input and its kernel."""
  upsampler: model.Upsampler
  before: Tap
  kernel: Slot


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
  """An array whose elements are followed through the program.

  Attributes:
    eqn: equation that makes it, or the first one that takes it.
    shape: its shape. The channels of a product with a matrix are one axis.
    axes: its axes, as a view of an array of that shape.
    batch: axis of its batch.
    channel: axis of its channels.
    upsamples: whether it is the result of a transposed convolution.
    layer: function from a pixel shuffle to the layer that it makes with the
      source, or to the reason why there is none. The result of a transposed
      convolution is a layer without one.
  """
  eqn: Any
  shape: tuple[int, ...]
  axes: jax_views.Axes
  batch: int
  channel: int
  upsamples: bool
  layer: Callable[[jax_views.Shuffle | None], Convolution | str]


def name_of(eqn: Any) -> str:
  """The scope of an equation; without one, the line that made it."""
  return str(eqn.source_info.name_stack) or jaxprs.user_line(eqn)


def enlarges(eqn: Any, pads: Mapping[Any, Any]) -> bool:
  """Whether an equation is a transposed convolution."""
  if eqn.primitive is jaxprs.CONV:
    _, params = choices.joined(eqn, pads)
    return max(params['lhs_dilation'], default=1) > 1
  return eqn.primitive.name == 'tconv_conv_transpose' and max(
      eqn.params['geometry'].strides, default=1) > 1


def read(eqn: Any, pads: Mapping[Any, Any],
         varies: Callable[[Any], bool]) -> Source | None:
  """Reads an equation of which an operand depends on the input of the model.

  Args:
    eqn: the equation.
    pads: equation of the `lax.pad` that made a variable, by variable.
    varies: function that tells whether a variable depends on the input.

  Returns:
    Its result, to be followed; None if it is no convolution, or one of
    parameters only.
  """
  if eqn.primitive.name == 'dot_general':
    return _product(eqn, varies)
  if eqn.primitive is not jaxprs.CONV and not eqn.primitive.name.startswith(
      _OWN) or eqn.primitive.name == 'tconv_conv_kernel_grad':
    return None
  upsamples, out = enlarges(eqn, pads), eqn.outvars[0]
  if eqn.primitive is jaxprs.CONV:
    (lhs, rhs), params = choices.joined(eqn, pads)
    batch, channel, *spatial = params['dimension_numbers'].out_spec
  else:
    (lhs, rhs), params = eqn.invars, eqn.params
    n = params['geometry'].num_axes
    batch, channel, spatial = 0, n + 1, list(range(1, n + 1))
  if varies(rhs):
    layer = lambda _: 'its kernel depends on the input of the model'
  elif not varies(lhs):
    return None
  else:
    layer = _layer(eqn, lhs, rhs, params, upsamples, channel, spatial)
  shape = out.aval.shape
  return Source(eqn, shape, jax_views.whole(shape), batch, channel, upsamples,
                layer)


def _layer(eqn, lhs, rhs, params, upsamples, channel, spatial):
  """The function `Source.layer` of a convolution."""
  image = lambda a: a
  order = _positions(rhs.aval.shape)
  out = eqn.outvars[0].aval
  if eqn.primitive is jaxprs.CONV:
    try:
      found = mapping.read(lhs.aval, rhs.aval, out, params, gradients=False)
    except mapping.NotMappable as error:
      reason = str(error)
      return lambda _: reason
    geometry = found.geometry
    empty = lambda v: np.broadcast_to(np.int8(0), v.aval.shape)
    order = np.asarray(found.operands(empty(lhs), order)[1])
    image = lambda a: found.operands(a, empty(rhs))[0]
  else:
    geometry = params['geometry']
  before = Tap(lhs, image)
  kernel = Slot(rhs, (eqn.outvars[0], 1), rhs.aval.shape, order)
  low = tuple(lo for lo, _ in geometry.padding)

  def transposed(shuffle):
    if shuffle:
      return 'a pixel shuffle of a transposed convolution'
    return Convolution(
        model.Upsampler(
            name_of(eqn), TRANSPOSED, geometry.strides, geometry.kernel_size,
            geometry.dilation, geometry.feature_group_count, offset=low),
        before, kernel)

  def shuffled(shuffle):
    whole = jax_views.whole(out.shape)
    if eqn.primitive.name == 'tconv_conv_transpose' or (
        max(geometry.strides, default=1) > 1):
      return 'a strided convolution before a pixel shuffle'
    if any(d > 1 < k for d, k in zip(geometry.dilation, geometry.kernel_size)):
      return 'a dilated convolution before a pixel shuffle'
    if shuffle.coarse != tuple(whole[axis] for axis in spatial):
      return 'a pixel shuffle that rearranges the grid as well'
    return _sub_pixel(eqn, before, kernel, geometry, shuffle, channel)

  return transposed if upsamples else shuffled


def _product(eqn, varies) -> Source | None:
  """Reads a product with a matrix, which is a convolution of one tap."""
  contracted, batched = eqn.params['dimension_numbers']
  sides = [i for i, v in enumerate(eqn.invars) if varies(v)]
  if len(sides) != 1 or any(batched) or len(contracted[0]) != 1:
    return None
  [side] = sides
  image, matrix = eqn.invars[side], eqn.invars[1 - side]
  (axis,), (depth,) = contracted[side], contracted[1 - side]
  free = [a for a in range(image.aval.ndim) if a != axis]
  size = tuple(image.aval.shape[a] for a in free)
  channel, inputs = len(free), image.aval.shape[axis]
  # The channels of the result may have several axes.
  columns = [n for a, n in enumerate(matrix.aval.shape) if a != depth]
  parts = tuple(
      (jax_views.Factor(channel, math.prod(columns[i + 1:]), n),)
      if n > 1 else () for i, n in enumerate(columns))
  grid = jax_views.whole(size)
  order = np.moveaxis(_positions(matrix.aval.shape), depth, 0)

  def layer(shuffle):
    n = len(shuffle.coarse)
    shape = (*size, inputs)
    wanted = shuffle.batch, *shuffle.coarse, jax_views.whole(shape)[-1]
    arrange = lambda a: jax_views.arrange(
        a.transpose(*free, axis), jax_views.split(shape, wanted), wanted)
    coarse = tuple(math.prod(f.size for f in c) for c in shuffle.coarse)
    kernel = Slot(matrix, (eqn.outvars[0], 1 - side), matrix.aval.shape,
                  order.reshape((1,) * n + (inputs, -1)))
    ones, zeros = (1,) * n, ((0, 0),) * n
    return _sub_pixel(
        eqn, Tap(image, arrange), kernel,
        Geometry(coarse, coarse, ones, ones, ones, zeros), shuffle, channel)

  return Source(eqn, (*size, math.prod(columns)),
                parts + grid if side else grid + parts, 0, channel, False,
                layer)


def _sub_pixel(eqn, before, kernel, geometry, shuffle,
               channel) -> Convolution | str:
  """The layer that a convolution and a pixel shuffle make."""
  channels = channels_of(shuffle, channel)
  groups = geometry.feature_group_count
  order = np.moveaxis(channels, -1, 0).ravel()
  size = order.size // groups
  if channels.shape[-1] % groups or any(
      order // size != np.arange(order.size) // size):
    return 'pixels of a block come from different groups of channels'
  taps = sub_pixel.transposed_kernel(
      kernel.order[..., order].astype(np.int32), shuffle.scale, mode='CRD',
      feature_group_count=groups)
  offset = tuple(s * (k - 1 - lo) for s, k, (lo, _) in zip(
      shuffle.scale, geometry.kernel_size, geometry.padding))
  return Convolution(
      model.Upsampler(
          name_of(eqn), 'Conv + DepthToSpace', shuffle.scale,
          geometry.kernel_size, (1,) * geometry.num_axes, groups,
          offset=offset),
      before, dataclasses.replace(kernel, order=np.asarray(taps)))


def channels_of(shuffle: jax_views.Shuffle, channel: int) -> np.ndarray:
  """[*scale, C] channel of the source for each pixel of a block."""
  return jax_views.channels_of((*shuffle.block, shuffle.channels), channel)


def _positions(shape: tuple[int, ...]) -> np.ndarray:
  return np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
