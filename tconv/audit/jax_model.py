"""JAX functions as models.

The program of a function shows its upsamplers (`jax_finder`). To run the model
is to run this program with more results, the activations, and with the weights
as arguments. So any layer of any library can be replaced without its help.
"""

from collections.abc import Callable
from collections.abc import Mapping
import copy
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv.audit import jax_finder
from tconv.audit import model
from tconv.programs import jaxprs

_INPUT = 'input'


class JaxModel(model.Model):
  """A JAX function, and the last of its arguments as the input.

    JaxModel(lambda x: net.apply(params, x), x)
    JaxModel(net.apply, params, x)
    JaxModel(net, x)  # A module of `flax.nnx` or Equinox.

  The last argument is the image, volume or signal, [N, *size, C]. The others
  are fixed. The function must not change its arguments: pass a model of
  `flax.nnx` after `model.eval()`. Layers whose input does not depend on the
  last argument are left out, because they give the same on every image.

  Its upsamplers are transposed convolutions, sub-pixel convolutions and calls
  of `jax.image.resize` by whole factors. Interpolation by products and sums,
  such as `tconv.upsample`, appears as what it is: a transposed convolution with
  a constant kernel. Repetition (`jnp.repeat`) is not listed.
  """

  def __init__(self, fn: Callable[..., Any], *args: Any):
    """Traces the function.

    Args:
      fn: function of pytrees that JAX can trace.
      *args: arguments of the function. The last one is an array, or a
        `jax.ShapeDtypeStruct`, with the shape of the input.

    Raises:
      ValueError: `fn` is not a function, or `args` are no such arguments.
      AuditError: JAX cannot trace the function.
    """
    if not callable(fn):
      raise ValueError(f'fn must be a function; got {fn!r}.')
    image: Any = args[-1] if args else None
    if not (jaxprs.is_array(image) or isinstance(image, jax.ShapeDtypeStruct)):
      raise ValueError(
          f'args must end with an array, the input; got {type(image).__name__}.'
      )
    if any(isinstance(leaf, jax.ShapeDtypeStruct)
           for leaf in jax.tree.leaves(args[:-1])):
      raise ValueError(
          'args must be arrays except for the last one; got a '
          'jax.ShapeDtypeStruct, which has no values.')
    self.name = getattr(fn, '__name__', type(fn).__name__)
    self.versions = {'tconv': tconv.__version__, 'jax': jax.__version__}
    self._fn, self._fixed = fn, args[:-1]
    self._programs: dict[tuple[int, ...], _Program] = {}
    self._dtype = np.dtype(image.dtype)
    self._traced(image.shape)
    self._shape = image.shape
    program = self._programs[image.shape]
    self.upsamplers = program.upsamplers
    self.unknown = program.unknown
    self.inputs = (model.Input(
        _INPUT, self._free_axes(), self._dtype,
        len(image.shape) - 1 if 3 <= len(image.shape) <= 5 else None),)

  def run(self, feeds: Mapping[str, np.ndarray]) -> model.Activations:
    if set(feeds) != {_INPUT}:
      raise model.AuditError(
          f"feeds must have the key '{_INPUT}' alone; got {sorted(feeds)}.")
    image = np.asarray(feeds[_INPUT])
    if image.dtype != self._dtype:
      raise model.AuditError(
          f'feeds must have the dtype of the input, {self._dtype}; got '
          f'{image.dtype}.')
    program = self._traced(image.shape)
    weights = [u.weights for u in self.upsamplers if u.weights]
    try:
      before, after, outputs = program.run(image, weights)
    except Exception as error:
      raise model.AuditError(
          f'fn fails on an input of shape {image.shape}: {_line(error)}'
          ) from error
    names = [u.name for u in self.upsamplers if u.weights]
    wide = lambda named: {name: _wide(a) for name, a in dict(named).items()}
    return model.Activations(wide(zip(names, before)), wide(zip(names, after)),
                             wide(outputs))

  def replaced(self, weights: Mapping[str, model.Weights]) -> 'JaxModel':
    known = {u.name: u for u in self.upsamplers if u.weights}
    for name, new in weights.items():
      if name not in known:
        raise model.AuditError(
            f'weights must name upsamplers with weights; got {name!r}.')
      self._check(known[name], new)
    changed = copy.copy(self)
    changed.upsamplers = [
        dataclasses.replace(u, weights=weights.get(u.name, u.weights))
        for u in self.upsamplers]
    return changed

  def _check(self, upsampler, new):
    """Checks that weights can replace those of an upsampler."""
    old = upsampler.weights
    for name, a, b in zip(('kernel', 'bias'), old, new):
      if np.shape(a) != np.shape(b) or (a is None) != (b is None):
        raise model.AuditError(
            f'weights of {upsampler.name!r} must have a {name} of '
            f'{"none" if a is None else f"shape {np.shape(a)}"}; got '
            f'{"none" if b is None else f"shape {np.shape(b)}"}.')
    if new.bias is not None and self._programs[self._shape].splits_bias(
        upsampler.name, np.asarray(new.bias)):
      raise model.AuditError(
          f'weights of {upsampler.name!r} must have the same bias for all '
          'phases, because the model adds it after the upsampling.')

  def _traced(self, shape: tuple[int, ...]) -> '_Program':
    """The program for a shape of the input."""
    if shape in self._programs:
      return self._programs[shape]
    image = jax.ShapeDtypeStruct(shape, self._dtype)
    try:
      traced = jaxprs.trace(self._fn, (*self._fixed, image), {}, pure=True)
    except Exception as error:  # What fn raises is its own affair.
      raise model.AuditError(
          f'fn cannot be traced for an input of shape {shape}: {_line(error)}'
          ) from error
    program = _Program(*traced)
    if self._programs:
      first = next(iter(self._programs.values()))
      if program.signature != first.signature:
        raise model.AuditError(
            f'fn has other upsamplers for an input of shape {shape}: '
            f'{program.signature} instead of {first.signature}.')
    self._programs[shape] = program
    return program

  def _free_axes(self) -> tuple[int | None, ...]:
    """The shape of the input, with None for axes that may be larger."""
    shape = list(self._shape)
    size = list(range(1, len(shape) - 1)) if 3 <= len(shape) <= 5 else []
    for axes in ([0], size):
      larger = [n * 2 if axis in axes else n
                for axis, n in enumerate(self._shape)]
      try:
        self._traced(tuple(larger))
      except model.AuditError:
        continue
      for axis in axes:
        shape[axis] = None
    return tuple(shape)


class _Program:
  """The program of a function for one shape of the input.

  Attributes:
    sites: its upsamplers, and where they are in it.
    upsamplers: the same, as a model has them.
    unknown: what may be an upsampler.
    signature: what must be equal for all shapes of the input.
  """

  def __init__(self, program, arrays, rebuild):
    self._flat = jaxprs.flatten(program, jax_finder.stays)
    self._rebuild = rebuild
    self.sites, self.unknown, self._fixed = jax_finder.find(self._flat)
    self._layers = [site.layer for site in self.sites if site.layer]
    self._slots = [slot for layer in self._layers
                   for slot in (layer.kernel, layer.bias) if slot]
    self._values = self._flat.constants | dict(
        zip(self._flat.inputs[:-1], arrays[:-1]))
    self.signature = [
        (u.op, u.strides, u.offset, layer and layer.kernel.order.shape)
        for u, layer in self.sites]

  @functools.cached_property
  def upsamplers(self) -> list[model.Upsampler]:
    """The upsamplers with their weights; these do not depend on the input."""
    wanted = [slot.variable for slot in self._slots]
    eqns = jaxprs.needed(self._fixed, wanted)
    known = list(self._values)
    results = jax.jit(lambda values: jaxprs.run(
        eqns, dict(zip(known, values)), wanted, {}))(
            list(self._values.values()))
    values = {slot.place: slot.read(_wide(a))
              for slot, a in zip(self._slots, results)}
    return [
        dataclasses.replace(u, weights=model.Weights(
            values[layer.kernel.place],
            values[layer.bias.place] if layer.bias else None)
                            if layer else None)
        for u, layer in self.sites]

  def splits_bias(self, name: str, bias: np.ndarray) -> bool:
    """Whether a bias has several values where the program has one."""
    slot, = (layer.bias for u, layer in self.sites
             if layer and layer.bias and u.name == name)
    return not np.array_equal(slot.read(slot.write(bias)), bias)

  def run(self, image: np.ndarray, weights: list[model.Weights]
          ) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Returns the activations before and after the layers, and the outputs."""
    operands = [
        slot.write(np.asarray(values))
        for layer, new in zip(self._layers, weights, strict=True)
        for slot, values in zip((layer.kernel, layer.bias), new) if slot]
    before, after, results = self._compiled(
        list(self._values.values()), image, operands)
    paths, _ = jax.tree_util.tree_flatten_with_path(self._rebuild(results))
    outputs = {
        'output' + jax.tree_util.keystr(path): a for path, a in paths
        if jaxprs.is_array(a) and 3 <= a.ndim <= 5
        and jnp.issubdtype(a.dtype, jnp.floating)}
    return before, after, outputs

  @functools.cached_property
  def _compiled(self):
    known, image_in = list(self._values), self._flat.inputs[-1]
    taps = [*(layer.before for layer in self._layers),
            *(layer.after for layer in self._layers)]
    wanted = [*(tap.variable for tap in taps), *self._flat.outputs]
    eqns = jaxprs.needed(self._flat.eqns, wanted)
    types = {(eqn.outvars[0], i): v.aval for eqn in eqns
             for i, v in enumerate(eqn.invars)}

    @jax.jit
    def compute(values, image, operands):
      spread = {}
      for slot, a in zip(self._slots, operands):
        aval = types[slot.place]
        shape = aval.shape and slot.shape
        spread[slot.place] = jnp.broadcast_to(
            a.reshape(shape).astype(aval.dtype), aval.shape)
      results = jaxprs.run(
          eqns, dict(zip(known, values)) | {image_in: image}, wanted, spread)
      arranged = [tap.arrange(a) for tap, a in zip(taps, results)]
      n = len(self._layers)
      return arranged[:n], arranged[n:], results[2 * n:]

    return compute


def _wide(array: Any) -> np.ndarray:
  """Converts to NumPy; float64 stays, and other dtypes become float32."""
  array = np.asarray(array)
  return array if array.dtype == np.float64 else array.astype(np.float32)


def _line(error: Exception) -> str:
  """The first line of an error's message."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0]
