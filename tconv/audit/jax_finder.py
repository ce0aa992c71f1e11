"""Finds the upsamplers in a program of JAX.

Transposed convolutions are those that `tconv.accelerate` recognizes. Sub-pixel
convolutions are convolutions, or products with a matrix, of which the channels
are moved into blocks of the grid; `jax_views` follows them there.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.extend import core
import numpy as np

from tconv import sub_pixel
from tconv.audit import jax_views
from tconv.audit import model
from tconv.programs import choices
from tconv.programs import jaxprs
from tconv.programs import mapping

# Primitives that compute each element from the same element of their operands.
_ELEMENTWISE = frozenset("""
    abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp
    convert_element_type copy cos cosh div eq erf erf_inv erfc exp exp2 expm1
    floor ge gt integer_pow is_finite le log log1p logistic lt max min mul name
    ne neg nextafter not or pow reduce_precision rem round rsqrt select_n sign
    sin sinh sqrt square stop_gradient sub tan tanh xor""".split())
_RESIZE = '_resize'  # The function inside `jax.image.resize`.
_SHUFFLE = 'Conv + DepthToSpace'
_UNTRACED = 'a pixel shuffle does not follow a convolution directly'


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

  def write(self, parameters: np.ndarray) -> np.ndarray | None:
    """Returns the values that hold parameters; None if they cannot."""
    values = np.zeros(math.prod(self.shape), parameters.dtype)
    values[self.order] = parameters
    if not np.array_equal(values[self.order], parameters):
      return None
    return values.reshape(self.shape)


class Tap(NamedTuple):
  """An activation: a variable, and a function that makes it channels last."""
  variable: Any
  arrange: Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Site:
  """An upsampler in a program.

  Attributes:
    upsampler: what it is; without weights.
    before: its input; None without a kernel.
    after: its result; None without a kernel.
    kernel: its kernel; None if it has none.
    bias: its bias; None if it has none.
  """
  upsampler: model.Upsampler
  before: Tap | None = None
  after: Tap | None = None
  kernel: Slot | None = None
  bias: Slot | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Source:
  """An array whose elements are followed.

  Attributes:
    number: position of its equation in the program.
    eqn: its equation.
    shape: its shape.
    batch: axis of its batch.
    channel: axis of its channels.
    site: function of a pixel shuffle that returns the upsampler, or the reason
      why there is none. A transposed convolution ignores its argument.
    is_transposed: whether it is the result of a transposed convolution.
  """
  number: int
  eqn: Any
  shape: tuple[int, ...]
  batch: int
  channel: int
  site: Callable[..., Site | str]
  is_transposed: bool = False


class _Trace(NamedTuple):
  """A variable that is a view of a source, perhaps after other operations.

  Attributes:
    source: the source.
    axes: the view.
    is_exact: whether nothing but a bias has changed the values.
    bias: operand with the bias, whose parameters are one for each channel.
    shuffle: the pixel shuffle that is finished.
  """
  source: _Source
  axes: jax_views.Axes
  is_exact: bool = True
  bias: Slot | None = None
  shuffle: jax_views.Shuffle | None = None


def stays(eqn: Any) -> bool:
  """Whether the equation of a call is needed to recognize an upsampler."""
  return eqn.params.get('name') == _RESIZE


def find(flat: jaxprs.Flat) -> tuple[list[Site], list[model.Unknown], list[Any]]:
  """Finds the upsamplers of a program.

  Args:
    flat: program; its last input is the image. `stays` says which calls remain.

  Returns:
    The upsamplers whose input depends on the image, in order of execution; what
    may be one; and the equations that do not depend on the image.
  """
  finder = _Finder(flat)
  names = {}

  def unique(name):
    names[name] = names.get(name, 0) + 1
    return name if names[name] == 1 else f'{name} #{names[name]}'

  sites = [
      dataclasses.replace(site, upsampler=dataclasses.replace(
          site.upsampler, name=unique(site.upsampler.name)))
      for _, site in sorted(finder.sites.items())]
  unknown = [u._replace(node=unique(u.node))
             for _, u in sorted(finder.unknown.items())]
  return sites, unknown, finder.fixed


class _Finder:
  """Goes through the equations once, in order."""

  def __init__(self, flat):
    self.sites, self.unknown, self.fixed = {}, {}, []
    self._traces: dict[Any, list[_Trace]] = {}
    self._producers = {v: eqn for eqn in flat.eqns for v in eqn.outvars}
    self._pads = {v: eqn for v, eqn in self._producers.items()
                  if eqn.primitive is lax.pad_p}
    self._varying = {flat.inputs[-1]}
    merged = set()  # Inserted zeros that belong to a convolution.
    for number, eqn in enumerate(flat.eqns):
      if not any(self._varies(v) for v in eqn.invars):
        self.fixed.append(eqn)
        continue
      self._varying.update(eqn.outvars)
      self._read(number, eqn)
      if eqn.primitive is jaxprs.CONV:
        operands, _ = choices.joined(eqn, self._pads)
        if operands[0] is not eqn.invars[0]:
          merged.add(eqn.invars[0])
    for number, eqn in enumerate(flat.eqns):
      if eqn.primitive is lax.pad_p and eqn.outvars[0] not in merged and any(
          interior for *_, interior in eqn.params['padding_config']) and (
              self._varies(eqn.invars[0])):
        self.unknown[number] = model.Unknown(
            _name(eqn), 'pad', 'it inserts zeros, and no convolution follows '
            'directly')

  def _varies(self, v):
    return not isinstance(v, core.Literal) and v in self._varying

  def _read(self, number, eqn):
    match eqn.primitive.name:
      case 'conv_general_dilated':
        self._convolution(number, eqn)
      case 'tconv_conv_transpose' | 'tconv_conv':
        self._own(number, eqn)
      case 'dot_general':
        self._product(number, eqn)
      case 'jit' if stays(eqn):
        self._resize(number, eqn)
      case _:
        self._inside(number, eqn)
        self._follow(number, eqn)

  # Where upsamplers begin.

  def _convolution(self, number, eqn):
    """Reads a convolution of lax."""
    (lhs, rhs), params = choices.joined(eqn, self._pads)
    numbers, out = params['dimension_numbers'], eqn.outvars[0].aval
    transposed = max(params['lhs_dilation'], default=1) > 1
    try:
      read = mapping.read(lhs.aval, rhs.aval, out, params, gradients=False)
    except mapping.NotMappable as error:
      self._refuse(number, eqn, transposed, str(error), *numbers.out_spec[:2])
      return
    empty = np.broadcast_to(np.int8(0), lhs.aval.shape)
    order = np.asarray(read.operands(empty, _positions(rhs.aval.shape))[1])
    image = lambda a: read.operands(a, np.zeros(rhs.aval.shape, np.int8))[0]
    self._kernel(number, eqn, Tap(lhs, image), rhs, order, read.geometry,
                 transposed, numbers.out_spec)

  def _own(self, number, eqn):
    """Reads a convolution of this library."""
    geometry, (lhs, rhs) = eqn.params['geometry'], eqn.invars
    transposed = eqn.primitive.name == 'tconv_conv_transpose'
    n = geometry.num_axes
    self._kernel(number, eqn, Tap(lhs, lambda a: a), rhs,
                 _positions(rhs.aval.shape), geometry,
                 transposed and max(geometry.strides, default=1) > 1,
                 (0, n + 1, *range(1, n + 1)), transposed)

  def _kernel(self, number, eqn, before, rhs, order, geometry, upsamples, spec,
              transposed=False):
    """Begins to follow the result of a convolution."""
    if self._varies(rhs):
      reason = 'its kernel depends on the input of the model'
    elif not self._varies(before.variable):
      return  # Its result depends on parameters only.
    elif upsamples:
      reason = ''
    elif transposed or max(geometry.strides, default=1) > 1:
      reason = 'a strided convolution before a pixel shuffle'
    elif any(d > 1 < k for d, k in zip(geometry.dilation,
                                       geometry.kernel_size)):
      reason = 'a dilated convolution before a pixel shuffle'
    else:
      reason = ''
    batch, channel, *spatial = spec
    if reason:
      self._refuse(number, eqn, upsamples, reason, batch, channel)
      return
    slot = Slot(rhs, (eqn.outvars[0], 1), rhs.aval.shape, order)
    low = tuple(lo for lo, _ in geometry.padding)
    out = eqn.outvars[0]

    def upsampler(_=None):
      return Site(
          model.Upsampler(
              _name(eqn), 'ConvTranspose', geometry.strides,
              geometry.kernel_size, geometry.dilation,
              geometry.feature_group_count, offset=low),
          before, None, slot)

    def sub_pixel_conv(shuffle):
      shape = out.aval.shape
      if [c for c in shuffle.coarse] != [
          jax_views.whole(shape)[axis] for axis in spatial]:
        return 'the pixel shuffle rearranges the grid as well'
      return _sub_pixel(eqn, before, slot, geometry.kernel_size, low,
                        geometry.feature_group_count, shuffle, channel)

    self._begin(_Source(
        number, eqn, out.aval.shape, batch, channel,
        upsampler if upsamples else sub_pixel_conv, upsamples), out,
        jax_views.whole(out.aval.shape))

  def _product(self, number, eqn):
    """Reads a product with a matrix, which is a convolution of one tap."""
    contracted, batched = eqn.params['dimension_numbers']
    sides = [i for i, v in enumerate(eqn.invars) if self._varies(v)]
    if len(sides) != 1 or any(batched) or len(contracted[0]) != 1:
      return
    [side] = sides
    image, matrix = eqn.invars[side], eqn.invars[1 - side]
    (axis,), (depth,) = contracted[side], contracted[1 - side]
    free = [a for a in range(image.aval.ndim) if a != axis]
    columns = np.delete(matrix.aval.shape, depth)
    channel = len(free)
    # The channels of the result may have several axes.
    strides = [math.prod(columns[i + 1:]) for i in range(len(columns))]
    outer = tuple(
        (jax_views.Factor(channel, int(s), int(c)),) if c > 1 else ()
        for s, c in zip(strides, columns))
    inner = jax_views.whole([image.aval.shape[a] for a in free])
    order = np.moveaxis(_positions(matrix.aval.shape), depth, 0)
    shape = tuple(image.aval.shape[a] for a in (*free, axis))

    def site(shuffle):
      n = len(shuffle.coarse)
      channels = jax_views.whole(shape)[-1]
      parts = (shuffle.batch, *shuffle.coarse, channels)
      arrange = lambda a: jax_views.arrange(
          a.transpose(*free, axis), jax_views.split(
              shape, [f for part in parts for f in part]), parts)
      slot = Slot(matrix, (eqn.outvars[0], 1 - side), matrix.aval.shape,
                  order.reshape((1,) * n + (shape[-1], -1)))
      return _sub_pixel(eqn, Tap(image, arrange), slot, (1,) * n, (0,) * n, 1,
                        shuffle, channel)

    self._begin(_Source(number, eqn, (*shape[:-1], int(math.prod(columns))), 0,
                        channel, site), eqn.outvars[0],
                inner + outer if side == 0 else outer + inner)

  def _resize(self, number, eqn):
    """Reads `jax.image.resize`; only whole factors count."""
    shape, new = (v.aval.shape for v in (eqn.invars[0], eqn.outvars[0]))
    if not self._varies(eqn.invars[0]) or not 3 <= len(shape) <= 5:
      return
    first = 1 if shape[-1] == new[-1] else 2  # Channels last or first.
    factors = [b // a if b % a == 0 else 0 for a, b in zip(shape, new)]
    scale = factors[first:len(shape) - 2 + first]
    if all(scale) and math.prod(scale) == math.prod(factors) > 1:
      self.sites[number] = Site(
          model.Upsampler(_name(eqn), 'Resize', tuple(scale)))

  def _inside(self, number, eqn):
    """Lists transposed convolutions in loops, branches and the like."""
    for program in core.jaxprs_in_params(eqn.params):
      for i, (inner, pads) in enumerate(jaxprs.walk(program)):
        if _enlarges(inner, pads):
          self.unknown[number + (i + 1) / (i + 2)] = model.Unknown(
              _name(inner), 'ConvTranspose',
              f'it is inside a {eqn.primitive.name}')

  # Where they end.

  def _begin(self, source, variable, axes):
    self._traces[variable] = [_Trace(source, axes)]
    if source.is_transposed:
      self._finish(variable, self._traces[variable][0])

  def _refuse(self, number, eqn, upsamples, reason, batch, channel):
    """Lists an upsampler, or what becomes one by a pixel shuffle, as unknown."""
    if upsamples:
      self.unknown[number] = model.Unknown(
          _name(eqn), 'ConvTranspose', reason)
    out = eqn.outvars[0]
    self._begin(_Source(number, eqn, out.aval.shape, batch, channel,
                        lambda _: reason), out,
                jax_views.whole(out.aval.shape))

  def _follow(self, number, eqn):
    """Follows sources through an equation."""
    if len(eqn.outvars) != 1:
      return
    out = eqn.outvars[0]
    found = []
    if self._varies(eqn.invars[0]) and jax_views.moved(
        jax_views.whole(eqn.invars[0].aval.shape), eqn):
      for trace in self._known(number, eqn):
        axes = jax_views.moved(trace.axes, eqn)
        if axes is not None:
          found.append(self._moved(out, trace._replace(axes=axes)))
    elif eqn.primitive.name in _ELEMENTWISE:
      trace = self._changed(eqn)
      if trace:
        found = [trace]
    if found:
      self._traces[out] = found

  def _known(self, number, eqn):
    """The traces of an operand; new ones if nothing is known about it."""
    operand = eqn.invars[0]
    if operand in self._traces:
      return self._traces[operand]
    shape = operand.aval.shape
    if len(shape) < 3:
      return []
    return [_Trace(_Source(number, eqn, shape, 0, channel, lambda _: _UNTRACED),
                   jax_views.whole(shape)) for channel in (1, len(shape) - 1)]

  def _moved(self, out, trace):
    """Recognizes a pixel shuffle."""
    source = trace.source
    shuffle = jax_views.shuffle(trace.axes, source.batch, source.channel)
    done = trace.shuffle.scale if trace.shuffle else ()
    if shuffle is None or math.prod(shuffle.scale) <= math.prod(done):
      return trace
    if source.is_transposed:
      self.unknown[source.number] = model.Unknown(
          _name(source.eqn), 'DepthToSpace',
          'a pixel shuffle of a transposed convolution')
      return trace
    if len(out.aval.shape) != len(source.shape) and (
        source.site(shuffle) is _UNTRACED):
      return trace
    trace = trace._replace(shuffle=shuffle)
    self._finish(out, trace)
    return trace

  def _finish(self, out, trace):
    """Notes an upsampler whose result, so far, is a variable."""
    source = trace.source
    site = source.site(trace.shuffle)
    if isinstance(site, str):
      self.unknown[source.number] = model.Unknown(
          _name(source.eqn), 'DepthToSpace', site)
      return
    if trace.shuffle:
      order = trace.shuffle.fine
      channels = _channels(trace.shuffle, source.channel)
    else:
      split = jax_views.split(
          source.shape, [f for axis in trace.axes for f in axis])
      spatial = [a for a in range(len(source.shape))
                 if a not in (source.batch, source.channel)]
      order = tuple(split[a] for a in (source.batch, *spatial, source.channel))
      channels = np.broadcast_to(
          np.arange(source.shape[source.channel]),
          (*site.upsampler.strides, source.shape[source.channel]))
    bias = trace.bias and dataclasses.replace(
        trace.bias, order=trace.bias.order[channels])
    self.sites[source.number] = dataclasses.replace(
        site, after=Tap(out, lambda a: jax_views.arrange(a, trace.axes, order)),
        bias=bias, upsampler=dataclasses.replace(
            site.upsampler, is_exact=trace.is_exact))

  def _changed(self, eqn):
    """The trace after an operation on each element; None if it ends."""
    out = eqn.outvars[0]
    varying = [v for v in eqn.invars if self._varies(v)]
    traces = [t for v in varying for t in self._traces.get(v, [])[:1]
              if v.aval.shape == out.aval.shape]
    if len(traces) != len(varying):
      return None
    trace = traces[0]
    if any(t[:2] != trace[:2] for t in traces):
      return None
    open_ = not trace.source.is_transposed and not trace.shuffle
    if len(traces) == 1 and trace.is_exact and not trace.bias and (
        eqn.primitive.name in ('add', 'add_any')):
      bias = self._bias(eqn, trace)
      if bias:
        trace = trace._replace(bias=bias)
        if not open_:
          self._finish(out, trace)
        return trace
    if not open_:
      return None
    bias = trace.bias if all(t.bias is trace.bias for t in traces) else None
    return trace._replace(is_exact=False, bias=bias)

  def _bias(self, eqn, trace):
    """The fixed operand of an addition, if it is one value for each channel."""
    [number] = [i for i, v in enumerate(eqn.invars) if not self._varies(v)]
    variable = eqn.invars[number]
    shape = variable.aval.shape or (1,) * len(trace.axes)
    spread = (None if isinstance(variable, core.Literal)
              else self._producers.get(variable))
    if spread is not None and spread.primitive.name == 'broadcast_in_dim' and (
        spread.invars[0].aval.size < variable.aval.size):
      variable = spread.invars[0]
      small = [1] * len(shape)
      for size, axis in zip(
          variable.aval.shape, spread.params['broadcast_dimensions']):
        small[axis] = size
      shape = tuple(small)
    channel = trace.source.channel
    if any(size > 1 and any(f.axis != channel for f in axis)
           for size, axis in zip(shape, trace.axes)):
      return None
    grid = jax_views.channels_of(trace.axes, channel)
    positions = np.broadcast_to(
        np.arange(math.prod(shape)).reshape(shape), grid.shape)
    order = np.zeros(grid.size, int)
    order[grid.ravel()] = positions.ravel()
    return Slot(variable, (eqn.outvars[0], number), tuple(shape), order)


def _sub_pixel(eqn, before, slot, kernel_size, low, groups, shuffle, channel):
  """The upsampler that a convolution and a pixel shuffle make; or a reason."""
  channels = _channels(shuffle, channel)
  order = np.moveaxis(channels, -1, 0).ravel()
  of_group = order.size // groups
  if any(order // of_group != np.arange(order.size) // of_group):
    return 'pixels of a block come from different groups of channels'
  taps = sub_pixel.transposed_kernel(
      slot.order[..., order].astype(np.int32), shuffle.scale, mode='CRD',
      feature_group_count=groups)
  return Site(
      model.Upsampler(
          _name(eqn), _SHUFFLE, shuffle.scale, kernel_size,
          (1,) * len(kernel_size), groups, offset=tuple(
              s * (k - 1 - lo) for s, k, lo in zip(
                  shuffle.scale, kernel_size, low))),
      before, None, dataclasses.replace(slot, order=np.asarray(taps)))


def _channels(shuffle: jax_views.Shuffle, channel: int) -> np.ndarray:
  """[*scale, C] channel of the convolution for each pixel of a block."""
  return jax_views.channels_of((*shuffle.block, shuffle.channels), channel)


def _positions(shape: tuple[int, ...]) -> np.ndarray:
  return np.arange(math.prod(shape), dtype=np.int32).reshape(shape)


def _enlarges(eqn: Any, pads: Any) -> bool:
  """Whether an equation is a transposed convolution."""
  if eqn.primitive is jaxprs.CONV:
    _, params = choices.joined(eqn, pads)
    return max(params['lhs_dilation'], default=1) > 1
  return eqn.primitive.name == 'tconv_conv_transpose' and max(
      eqn.params['geometry'].strides, default=1) > 1


def _name(eqn: Any) -> str:
  """The scope of an equation; without one, the line that made it."""
  return str(eqn.source_info.name_stack) or jaxprs.user_line(eqn)
