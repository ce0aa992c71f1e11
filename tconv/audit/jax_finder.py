"""Finds the upsamplers in a program of JAX.

Transposed convolutions are those that `tconv.accelerate` recognizes. Sub-pixel
convolutions are convolutions, or products with a matrix, of which the channels
are moved into blocks of the grid; `jax_views` follows them there.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any
from typing import NamedTuple

from jax import lax
from jax.extend import core
import numpy as np

from tconv.audit import jax_layers
from tconv.audit import jax_views
from tconv.audit import model
from tconv.programs import choices
from tconv.programs import jaxprs

# Primitives that compute each element from the same element of their operands.
_ELEMENTWISE = frozenset("""
    abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp
    cos cosh div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow
    is_finite le log log1p logistic lt max min mul ne neg nextafter not or pow
    reduce_precision rem round rsqrt select_n sign sin sinh sqrt square
    stop_gradient sub tan tanh xor""".split())
_RESIZE = '_resize'  # The function inside `jax.image.resize`.


class Layer(NamedTuple):
  """Where the weights and activations of an upsampler are in a program.

  Attributes:
    before: its input.
    after: its result.
    kernel: its kernel.
    bias: its bias; None if it has none.
  """
  before: jax_layers.Tap
  after: jax_layers.Tap
  kernel: jax_layers.Slot
  bias: jax_layers.Slot | None


class Site(NamedTuple):
  """An upsampler in a program.

  Attributes:
    upsampler: what it is; without weights.
    layer: where it is; None if it has no weights.
  """
  upsampler: model.Upsampler
  layer: Layer | None = None


class _Trace(NamedTuple):
  """A variable that is a view of a source, perhaps after other operations.

  Attributes:
    source: the source.
    axes: the view.
    is_exact: whether nothing but a bias has changed the values.
    bias: operand with the bias, whose parameters are one for each channel.
    shuffle: the pixel shuffle that is finished.
  """
  source: jax_layers.Source
  axes: jax_views.Axes
  is_exact: bool = True
  bias: jax_layers.Slot | None = None
  shuffle: jax_views.Shuffle | None = None

  @property
  def is_open(self) -> bool:
    """Whether a pixel shuffle may follow that makes it an upsampler."""
    return not self.source.upsamples and not self.shuffle


def stays(eqn: Any) -> bool:
  """Whether the equation of a call is needed to recognize an upsampler."""
  return eqn.params.get('name') == _RESIZE


def find(flat: jaxprs.Flat
         ) -> tuple[list[Site], list[model.Unknown], list[Any]]:
  """Finds the upsamplers of a program.

  Args:
    flat: program; its last input is the image. `stays` says which calls remain.

  Returns:
    The upsamplers whose input depends on the image, in order of execution; what
    may be one; and the equations that do not depend on the image.
  """
  finder = _Finder(flat)
  names: dict[str, int] = {}

  def unique(name):
    names[name] = names.get(name, 0) + 1
    return name if names[name] == 1 else f'{name} #{names[name]}'

  sites = [
      site._replace(upsampler=dataclasses.replace(
          site.upsampler, name=unique(site.upsampler.name)))
      for site in finder.sites.values()]
  unknown = [u._replace(node=unique(u.node)) for u in finder.unknown.values()]
  return sites, unknown, finder.fixed


class _Finder:
  """Goes through the equations once, in order."""

  def __init__(self, flat):
    # By the variable that begins an upsampler.
    self.sites: dict[Any, Site] = {}
    self.unknown: dict[Any, model.Unknown] = {}
    self.fixed: list[Any] = []
    self._traces: dict[Any, list[_Trace]] = {}
    self._producers: Mapping[Any, Any] = {
        v: eqn for eqn in flat.eqns for v in eqn.outvars}
    self._pads = {v: eqn for v, eqn in self._producers.items()
                  if eqn.primitive is lax.pad_p}
    self._varying = {flat.inputs[-1]}
    for eqn in flat.eqns:
      if any(map(self._varies, eqn.invars)):
        self._varying.update(eqn.outvars)
        self._read(eqn)
      else:
        self.fixed.append(eqn)

  def _varies(self, v):
    return not isinstance(v, core.Literal) and v in self._varying

  def _refuse(self, eqn, op, reason, key=None):
    self.unknown[key or eqn.outvars[0]] = model.Unknown(
        jax_layers.name_of(eqn), op, reason)

  def _read(self, eqn):
    """Begins to follow the result of an equation, or goes on."""
    source = jax_layers.read(eqn, self._pads, self._varies)
    if source:
      trace = _Trace(source, source.axes)
      self._traces[eqn.outvars[0]] = [trace]
      if source.upsamples:
        self._finish(eqn.outvars[0], trace)
      if eqn.primitive is jaxprs.CONV and (
          choices.joined(eqn, self._pads)[0][0] is not eqn.invars[0]):
        self.unknown.pop(eqn.invars[0], None)  # The convolution has its zeros.
      return
    for program in core.jaxprs_in_params(eqn.params):
      for inner, pads in jaxprs.walk(program):
        if not stays(eqn) and jax_layers.enlarges(inner, pads):
          self._refuse(inner, jax_layers.TRANSPOSED,
                       f'it is inside a {eqn.primitive.name}')
    if eqn.primitive is lax.pad_p and any(
        interior for *_, interior in eqn.params['padding_config']):
      self._refuse(eqn, 'pad', 'it inserts zeros, and no convolution follows '
                   'directly')
    if stays(eqn):
      self._resize(eqn)
    elif len(eqn.outvars) == 1:
      self._follow(eqn, eqn.outvars[0])

  def _resize(self, eqn):
    """Reads `jax.image.resize`; only whole factors count."""
    shape, new = (v.aval.shape for v in (eqn.invars[0], eqn.outvars[0]))
    if not self._varies(eqn.invars[0]) or not 3 <= len(shape) <= 5:
      return
    first = 1 if shape[-1] == new[-1] else 2  # Channels last or first.
    factors = [b // a if b % a == 0 else 0 for a, b in zip(shape, new)]
    scale = tuple(factors[first:len(shape) - 2 + first])
    if math.prod(scale) == math.prod(factors) > 1:
      self.sites[eqn.outvars[0]] = Site(
          model.Upsampler(jax_layers.name_of(eqn), 'Resize', scale))

  def _follow(self, eqn, out):
    """Follows sources through an equation."""
    operand, found = eqn.invars[0], []
    if self._varies(operand) and jax_views.moved(
        jax_views.whole(operand.aval.shape), eqn) is not None:
      for trace in self._traces.get(operand) or _new(eqn):
        axes = jax_views.moved(trace.axes, eqn)
        if axes is not None:
          found.append(self._moved(out, trace._replace(axes=axes)))
    elif eqn.primitive.name in _ELEMENTWISE:
      varying = [v for v in eqn.invars if self._varies(v)]
      if all(v.aval.shape == out.aval.shape for v in varying):
        found = list(filter(None, (
            self._changed(eqn, out, traces) for traces in zip(
                *(self._traces.get(v, []) for v in varying)))))
    if found:
      self._traces[out] = found

  def _moved(self, out, trace):
    """Recognizes a pixel shuffle."""
    source = trace.source
    shuffle = jax_views.shuffle(trace.axes, source.batch, source.channel)
    done = math.prod(trace.shuffle.scale) if trace.shuffle else 1
    if shuffle is None or math.prod(shuffle.scale) <= done:
      return trace
    trace = trace._replace(shuffle=shuffle)
    self._finish(out, trace)
    return trace

  def _finish(self, out, trace):
    """Notes an upsampler whose result, so far, is a variable."""
    source, shuffle = trace.source, trace.shuffle
    key = source.eqn.outvars[0]
    layer = source.layer(shuffle)
    if isinstance(layer, str):
      self._refuse(
          source.eqn, 'DepthToSpace' if shuffle else jax_layers.TRANSPOSED,
          layer)
      return
    if shuffle:
      order = shuffle.fine
      channels = jax_layers.channels_of(shuffle, source.channel)
    else:
      split = jax_views.split(source.shape, trace.axes)
      spatial = [a for a in range(len(source.shape))
                 if a not in (source.batch, source.channel)]
      order = tuple(split[a] for a in (source.batch, *spatial, source.channel))
      size = source.shape[source.channel]
      channels = np.broadcast_to(
          np.arange(size), (*layer.upsampler.strides, size))
    bias = trace.bias and dataclasses.replace(
        trace.bias, order=trace.bias.order[channels])
    after = jax_layers.Tap(
        out, lambda a: jax_views.arrange(a, trace.axes, order))
    self.sites[key] = Site(
        dataclasses.replace(layer.upsampler, is_exact=trace.is_exact),
        Layer(layer.before, after, layer.kernel, bias))

  def _changed(self, eqn, out, traces):
    """The trace after an operation on each element; None if it ends.

    Args:
      eqn: equation of the operation.
      out: its result.
      traces: a trace of each operand that depends on the input.

    Returns:
      The trace, or None.
    """
    trace, *others = traces
    if any((t.source, t.axes) != (trace.source, trace.axes) for t in others):
      return None
    if eqn.primitive.name in ('add', 'add_any') and not others and (
        trace.is_exact and not trace.bias):
      bias = self._bias(eqn, out, trace)
      if bias:
        trace = trace._replace(bias=bias)
        if not trace.is_open:
          self._finish(out, trace)
        return trace
    if not trace.is_open:
      return None
    same = all(t.bias is trace.bias for t in traces)
    return trace._replace(is_exact=False, bias=trace.bias if same else None)

  def _bias(self, eqn, out, trace):
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
    positions = np.arange(math.prod(shape)).reshape(shape)
    order = np.zeros(grid.size, int)
    order[grid] = np.broadcast_to(positions, grid.shape)
    return jax_layers.Slot(variable, (out, number), shape, order)


def _new(eqn: Any) -> list[_Trace]:
  """Traces of an operand that is no convolution: it may be shuffled, too."""
  shape = eqn.invars[0].aval.shape
  reason = lambda _: 'a pixel shuffle that no convolution precedes directly'
  axes = jax_views.whole(shape)
  return [
      _Trace(jax_layers.Source(
          eqn, shape, axes, 0, channel, False, reason), axes)
      for channel in (1, len(shape) - 1) if len(shape) >= 3]
