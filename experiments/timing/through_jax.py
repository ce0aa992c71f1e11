"""Layers computed by JAX: tconv, lax, flax; and a matmul of the same work."""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen
from flax import nnx
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from experiments.timing import calls
from experiments.timing import layers
import tconv

Function = Callable[..., Any]


def _tconv(layer: layers.Layer) -> Function:
  return functools.partial(
      tconv.conv_transpose, strides=layer.stride, padding=layer.padding,
      output_padding=layer.output_padding, kernel_dilation=layer.dilation,
      feature_group_count=layer.groups)


def _lax(layer: layers.Layer) -> Function:
  """As its users write it, with a kernel [*K, O / groups, C], flipped."""
  strides, dilation, padding = _options(layer)
  if layer.groups == 1:
    return functools.partial(lax.conv_transpose, strides=strides,
                             padding=padding, rhs_dilation=dilation)
  spatial = 'DHW'[-layer.num_axes:]
  return functools.partial(
      lax.conv_general_dilated, window_strides=(1,) * layer.num_axes,
      padding=padding, lhs_dilation=strides, rhs_dilation=dilation,
      dimension_numbers=(f'N{spatial}C', f'{spatial}IO', f'N{spatial}C'),
      feature_group_count=layer.groups)


def _nnx(module: Callable[..., nnx.Module], layer: layers.Layer
         ) -> Function:
  """By a layer of nnx; kernel as for lax."""
  graph, _ = nnx.split(nnx.eval_shape(lambda: module(
      layer.fan_in, layer.fan_out, layer.geometry.kernel_size,
      rngs=nnx.Rngs(0), **_layer_options(module, layer))))

  def apply(inputs, kernel):
    built: Any = nnx.merge(graph, nnx.State({'kernel': nnx.Param(kernel)}))
    return built(inputs)

  return apply


def _linen(module: Callable[..., linen.Module], layer: layers.Layer
           ) -> Function:
  """By a layer of linen; kernel as for lax."""
  built = module(layer.fan_out, layer.geometry.kernel_size,
                 **_layer_options(module, layer))
  return lambda inputs, kernel: built.apply(
      {'params': {'kernel': kernel}}, inputs)


def _layer_options(module, layer) -> dict[str, Any]:
  """The arguments that layers of nnx and of linen share."""
  strides, dilation, padding = _options(layer)
  options = {'strides': strides, 'padding': padding,
             'kernel_dilation': dilation, 'use_bias': False}
  if layer.groups == 1:
    return options
  if module is nnx.ConvTranspose:
    raise NotImplementedError('has no groups')
  return {**options, 'feature_group_count': layer.groups}


def _options(layer: layers.Layer):
  """Strides, dilation, and the padding of the *dilated* input."""
  geometry = layer.geometry
  return geometry.strides, geometry.dilation, [
      (e - 1 - low, e - 1 - high) for e, (low, high) in zip(
          geometry.effective_kernel_size, geometry.padding)]


# lax comes first: the others are compared with it.
_FUNCTIONS = {
    'lax': _lax, 'tconv': _tconv,
    'flax': functools.partial(_nnx, nnx.ConvTranspose),
    'tconv.nnx': functools.partial(_nnx, tconv.nnx.ConvTranspose),
    'tconv.linen': functools.partial(_linen, tconv.linen.ConvTranspose),
}
NAMES = 'lax', 'tconv', 'flax'
LAYERS = 'tconv.nnx', 'tconv.linen'  # The same work as tconv's, not timed.


def _flipped(kernel: np.ndarray, groups: int) -> np.ndarray:
  """[*K, C / groups, O] and [*K, O / groups, C], flipped: there and back."""
  *taps, fine, coarse = kernel.shape
  grouped = kernel.reshape(*taps, fine, groups, coarse // groups)
  return np.flip(grouped.swapaxes(-1, -3), tuple(range(len(taps)))).reshape(
      *taps, coarse // groups, groups * fine)


def program(name: str, layer: layers.Layer, kind: str
            ) -> tuple[Function, list[jax.ShapeDtypeStruct]]:
  """What is to be compiled.

  Args:
    name: one of `NAMES` or `LAYERS`.
    layer: to compute.
    kind: one of `calls.KINDS`.

  Returns:
    A function of inputs and kernel, and in training of cotangents, too; and the
    shapes of those.

  Raises:
    NotImplementedError: the peer cannot do it; the message says why.
  """
  forward = _FUNCTIONS[name](layer)
  taps, (fine, coarse) = layer.kernel_shape[:-2], layer.kernel_shape[-2:]
  kernel = (fine, coarse) if name == 'tconv' else (
      coarse // layer.groups, layer.fan_out)
  shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (
      layer.inputs_shape, (*taps, *kernel), layer.outputs_shape)]
  if kind == 'forward':
    return forward, shapes[:2]

  def train(inputs, kernel, cotangents):
    outputs, pull_back = jax.vjp(forward, inputs, kernel)
    return outputs, *pull_back(cotangents)

  return train, shapes


def build(name: str, layer: layers.Layer, arrays: layers.Arrays,
          kind: str) -> calls.Call:
  """Compiles a layer.

  Args:
    name: one of `NAMES`.
    layer: to compute.
    arrays: as `Layer.arrays` gives them.
    kind: one of `calls.KINDS`.

  Returns:
    The call.

  Raises:
    NotImplementedError: the peer cannot do it; the message says why.
  """
  function, shapes = program(name, layer, kind)
  own = (lambda kernel: kernel) if name == 'tconv' else functools.partial(
      _flipped, groups=layer.groups)
  inputs, kernel, cotangents = arrays
  operands = inputs, own(kernel), cotangents

  def read(outputs):
    if kind == 'forward':
      return [np.asarray(outputs)]
    *images, gradient = map(np.asarray, outputs)
    return [*images, own(gradient)]

  return calls.Call(compiled(function, *operands[:len(shapes)]), read)


def matmul(layer: layers.Layer, arrays: layers.Arrays
           ) -> Callable[[], jax.Array]:
  """One plain matmul with the multiply-adds of a layer without groups.

  Args:
    layer: to take the sizes from.
    arrays: as `Layer.arrays` gives them.

  Returns:
    A function without arguments, of [N * coarse, O] times [O, K * C].
  """
  inputs, kernel, _ = arrays
  return compiled(jnp.matmul, inputs.reshape(-1, layer.fan_in),
                  kernel.reshape(layer.fan_in, -1))


def compiled(function: Function, *operands: np.ndarray) -> Callable[[], Any]:
  """A function without arguments, which returns when all is computed."""
  placed = [jnp.asarray(operand) for operand in operands]
  program = jax.jit(function).lower(*placed).compile()
  return lambda: jax.block_until_ready(program(*placed))
