"""Layers computed by tconv, lax and Flax, and a matmul of the same work.

On a CPU, a call runs a layer once. On a GPU, this would measure the launch and
not the device. There a call enqueues a program of many runs and does not wait.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen
from flax import nnx
import jax
from jax import lax
from jax.experimental import layout
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
  """Uses lax in the common way, with a flipped [*K, O / groups, C] kernel."""
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
  """Uses a layer of nnx, with the kernel of lax."""
  graph, _ = nnx.split(nnx.eval_shape(lambda: module(
      layer.fan_in, layer.fan_out, layer.geometry.kernel_size,
      rngs=nnx.Rngs(0), **_layer_options(module, layer))))

  def apply(inputs, kernel):
    built: Any = nnx.merge(graph, nnx.State({'kernel': nnx.Param(kernel)}))
    return built(inputs)

  return apply


def _linen(module: Callable[..., linen.Module], layer: layers.Layer
           ) -> Function:
  """Uses a layer of linen, with the kernel of lax."""
  built = module(layer.fan_out, layer.geometry.kernel_size,
                 **_layer_options(module, layer))
  return lambda inputs, kernel: built.apply(
      {'params': {'kernel': kernel}}, inputs)


def _layer_options(module, layer) -> dict[str, Any]:
  """Returns the arguments that layers of nnx and linen share."""
  strides, dilation, padding = _options(layer)
  options = {'strides': strides, 'padding': padding,
             'kernel_dilation': dilation, 'use_bias': False}
  if layer.groups == 1:
    return options
  if module is nnx.ConvTranspose:
    raise NotImplementedError('has no groups')
  return {**options, 'feature_group_count': layer.groups}


def _options(layer: layers.Layer):
  """Returns strides, dilation and the padding of the *dilated* input."""
  geometry = layer.geometry
  return geometry.strides, geometry.dilation, [
      (e - 1 - low, e - 1 - high) for e, (low, high) in zip(
          geometry.effective_kernel_size, geometry.padding)]


# lax is first, because the others are compared with it.
_FUNCTIONS = {
    'lax': _lax, 'tconv': _tconv,
    'flax': functools.partial(_nnx, nnx.ConvTranspose),
    'tconv.nnx': functools.partial(_nnx, tconv.nnx.ConvTranspose),
    'tconv.linen': functools.partial(_linen, tconv.linen.ConvTranspose),
}
NAMES = 'lax', 'tconv', 'flax'
# These do the same work as tconv, and are not timed on a CPU.
LAYERS = 'tconv.nnx', 'tconv.linen'


def _flipped(kernel: np.ndarray, groups: int) -> np.ndarray:
  """Converts [*K, C / groups, O] to flipped [*K, O / groups, C], or back."""
  *taps, fine, coarse = kernel.shape
  grouped = kernel.reshape(*taps, fine, groups, coarse // groups)
  return np.flip(grouped.swapaxes(-1, -3), tuple(range(len(taps)))).reshape(
      *taps, coarse // groups, groups * fine)


def program(name: str, layer: layers.Layer, kind: str, dtype: str = 'float32'
            ) -> tuple[Function, list[jax.ShapeDtypeStruct]]:
  """Returns a function that computes a layer, and its argument shapes.

  Args:
    name: one of `NAMES` or `LAYERS`.
    layer: layer to compute.
    kind: one of `calls.KINDS`.
    dtype: dtype of all arrays.

  Returns:
    A function of inputs, kernel and, in training, cotangents; and the shapes of
    these arguments.

  Raises:
    NotImplementedError: the peer does not support the layer.
  """
  forward = _FUNCTIONS[name](layer)
  taps, (fine, coarse) = layer.kernel_shape[:-2], layer.kernel_shape[-2:]
  kernel = (fine, coarse) if name == 'tconv' else (
      coarse // layer.groups, layer.fan_out)
  shapes = [jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for shape in (
      layer.inputs_shape, (*taps, *kernel), layer.outputs_shape)]
  if kind == 'forward':
    return forward, shapes[:2]

  def train(inputs, kernel, cotangents):
    outputs, pull_back = jax.vjp(forward, inputs, kernel)
    return outputs, *pull_back(cotangents)

  return train, shapes


def build(name: str, layer: layers.Layer, arrays: layers.Arrays,
          kind: str) -> calls.Call:
  """Compiles a layer, as in `program`, for the arrays of `Layer.arrays`."""
  function, operands, read = _prepared(name, layer, arrays, kind, 'float32')
  return calls.Call(_compiled(function, *operands), read)


def lowered_steps(name: str, layer: layers.Layer, arrays: layers.Arrays,
                  kind: str, dtype: str, count: int
                  ) -> tuple[jax.stages.Lowered, Callable[[Any], calls.Call]]:
  """Lowers a program that computes a layer `count` times in sequence.

  The other arguments are those of `program`, and the arrays of `Layer.arrays`.

  Returns:
    The program to compile, and a function that makes a call of the compiled
    program.
  """
  function, operands, read = _prepared(name, layer, arrays, kind, dtype)
  placed = [jnp.asarray(operand, dtype) for operand in operands]

  def step(_, carry):
    # The barrier makes a step wait for the previous one and keeps it in the
    # loop. The layout is fixed because arguments of a program have it too; XLA
    # would choose another layout for the whole loop.
    operands, _ = lax.optimization_barrier(carry)
    operands = jax.tree.map(_in_usual_layout, operands)
    return operands, jax.tree.map(_in_usual_layout, function(*operands))

  def run(*operands):
    outputs = jax.tree.map(lambda array: jnp.zeros(array.shape, array.dtype),
                           jax.eval_shape(function, *operands))
    return lax.fori_loop(0, count, step, (list(operands), outputs))[1]

  return jax.jit(run).lower(*placed), lambda program: calls.Call(
      lambda: program(*placed), read, jax.block_until_ready)


def _in_usual_layout(array: jax.Array) -> jax.Array:
  return layout.with_layout_constraint(
      array, layout.Layout(tuple(range(array.ndim))))


def _prepared(name, layer, arrays, kind, dtype):
  """Returns the function, its operands, and a function to read outputs."""
  function, shapes = program(name, layer, kind, dtype)
  own = (lambda kernel: kernel) if name == 'tconv' else functools.partial(
      _flipped, groups=layer.groups)
  inputs, kernel, cotangents = arrays
  operands = inputs, own(kernel), cotangents

  def read(outputs):
    outputs = [np.asarray(output, np.float32)
               for output in jax.tree.leaves(outputs)]
    return [*outputs[:2], *map(own, outputs[2:])]

  return function, operands[:len(shapes)], read


def matmul(layer: layers.Layer, arrays: layers.Arrays
           ) -> Callable[[], jax.Array]:
  """Compiles a matmul with as many multiply-adds as a layer without groups.

  Returns:
    A function without arguments: [N * coarse, O] times [O, K * C].
  """
  inputs, kernel, _ = arrays
  return _compiled(jnp.matmul, inputs.reshape(-1, layer.fan_in),
                  kernel.reshape(layer.fan_in, -1))


def _compiled(function: Function, *operands: np.ndarray) -> Callable[[], Any]:
  """Returns a function without arguments that waits for the result."""
  placed = [jnp.asarray(operand) for operand in operands]
  program = jax.jit(function).lower(*placed).compile()
  return lambda: jax.block_until_ready(program(*placed))
