"""The computations of the layers in `tconv.nnx` and `tconv.linen`.

Those two modules adapt these functions to Flax. A layer is any object with the
attributes that both kinds of layers have. Its parameters are separate
arguments, and so is `promote`, which converts arrays to one dtype. Inputs are
[*batch, *size, I] arrays with any number of batch axes, or none.
"""

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tconv import geometry
from tconv import operations
from tconv import phases
from tconv import resample
from tconv.dialects import lax as lax_dialect

# Converts inputs, kernel and bias (or None) to one dtype.
Promote = Callable[..., Sequence[Any]]


def kernel_axes(kernel_size: int | Sequence[int]) -> geometry.Size:
  """Reads a layer's kernel size; as in Flax, an int stands for one axis."""
  return geometry.per_axis('kernel_size', kernel_size, np.size(kernel_size), 1)


def kernel_shape(kernel_size: int | Sequence[int], in_features: int,
                 out_features: int, feature_group_count: int,
                 transpose_kernel: bool = False) -> geometry.Size:
  """The shape of a layer's kernel.

  Args:
    kernel_size: number of taps on each axis; an int stands for one axis.
    in_features: number of channels of the inputs, I.
    out_features: number of channels of the result, O.
    feature_group_count: number of groups of channels.
    transpose_kernel: whether the kernel is that of a convolution from O to I
      channels.

  Returns:
    [*K, I / groups, O], or [*K, O / groups, I] with `transpose_kernel`.

  Raises:
    ValueError: an argument is invalid; the message names it.
  """
  groups = feature_group_count
  if (not isinstance(groups, (int, np.integer)) or groups < 1
      or in_features % groups or out_features % groups):
    raise ValueError(
        'feature_group_count must be an int >= 1 that divides the layer\'s '
        f'{in_features} input and {out_features} output channels; got '
        f'{groups!r}.')
  channels = ((out_features // groups, in_features) if transpose_kernel
              else (in_features // groups, out_features))
  return *kernel_axes(kernel_size), *channels


def check_inputs(inputs: jax.Array, kernel_shape: Sequence[int],
                 feature_group_count: int,
                 transpose_kernel: bool = False) -> None:
  """Checks a layer's inputs against the shape of its kernel.

  Args:
    inputs: [*batch, *size, I] array.
    kernel_shape: [*K, I / groups, O], or [*K, O / groups, I] with
      `transpose_kernel`.
    feature_group_count: number of groups of channels.
    transpose_kernel: `transpose_kernel` of the layer.

  Raises:
    ValueError: `inputs` have too few axes or a wrong number of channels.
  """
  shape = jnp.shape(inputs)
  num_axes = len(kernel_shape) - 2
  if len(shape) < num_axes + 1:
    raise ValueError(
        f'inputs must have at least {num_axes + 1} axes, [*size, I]; got shape '
        f'{shape}.')
  features = (kernel_shape[-1] if transpose_kernel
              else kernel_shape[-2] * feature_group_count)
  if shape[-1] == features:
    return
  hint = ''
  if num_axes and shape[-num_axes - 1] == features:
    hint = (' The inputs look channels first, but layers take channels last: '
            f'pass jnp.moveaxis(inputs, {-num_axes - 1}, -1).')
  raise ValueError(
      f'inputs must have in_features = {features} channels on the last axis; '
      f'got {shape[-1]}, with inputs of shape {shape} and a layer\'s kernel of '
      f'shape {tuple(kernel_shape)}.{hint}')


def shuffled_features(kernel_size: int | Sequence[int],
                      scale: int | Sequence[int], features: int) -> int:
  """The number of channels before pixel shuffle, prod(scale) * features."""
  scale = geometry.per_axis('scale', scale, len(kernel_axes(kernel_size)), 1)
  return math.prod(scale) * features


def conv_transpose(layer: Any, inputs: jax.Array, kernel: jax.Array,
                   bias: jax.Array | None, promote: Promote,
                   output_size: int | Sequence[int] | None) -> jax.Array:
  """Applies a `ConvTranspose`.

  Args:
    layer: object with Flax's `strides`, `padding`, `kernel_dilation`,
      `mask`, `precision`, `preferred_element_type`, `transpose_kernel`, and
      `feature_group_count`, `output_padding`, `method`, `equal_phases`,
      `use_consistent_padding`.
    inputs: [*batch, *size, I] array.
    kernel: [*K, I / groups, O] array, or [*K, O / groups, I] with
      `transpose_kernel`.
    bias: [O] array, or None.
    promote: function that converts the arrays to one dtype.
    output_size: size of the result, as in `tconv.conv_transpose`.

  Returns:
    [*batch, *fine, O] array.

  Raises:
    ValueError: an argument of the layer is invalid; the message names it.
  """
  check_inputs(inputs, kernel.shape, layer.feature_group_count,
               layer.transpose_kernel)
  kernel_size = kernel.shape[:-2]
  num_axes = len(kernel_size)
  strides, dilation = _steps(layer, num_axes)
  if layer.mask is not None:
    if layer.equal_phases:
      raise ValueError(
          'equal_phases must be False with a mask, because each would undo the '
          'other.')
    if layer.mask.shape != kernel.shape:
      raise ValueError(
          f'mask must have the shape of the kernel, {kernel.shape}; got '
          f'{layer.mask.shape}.')
    kernel = kernel * layer.mask
  padding = _padding(layer, kernel_size, dilation)
  inputs, kernel, bias = promote(inputs, kernel, bias)
  if layer.equal_phases:  # In the dtype of the computation: no rounding after.
    # The kernel may be flipped: `tconv.phases` explains why that is the same.
    kernel = phases.equalize_phases(kernel, strides, kernel_dilation=dilation)
  kernel = lax_dialect.kernel_from_flax(
      kernel, layer.transpose_kernel,
      feature_group_count=layer.feature_group_count)

  def apply(images):
    result = operations.conv_transpose(
        images, kernel, strides, padding, output_padding=layer.output_padding,
        output_size=output_size, kernel_dilation=dilation,
        feature_group_count=layer.feature_group_count,
        precision=layer.precision, method=layer.method,
        preferred_element_type=layer.preferred_element_type)
    if padding == 'CIRCULAR':
      # tconv centers the taps. Flax centers the part of a 'VALID' result that
      # exceeds size * stride, and prefers the low end if it flips the kernel.
      effective = geometry.effective_size(kernel_size, dilation)
      shift = [(e - 1) // 2 - (max(e - s, 0) + layer.transpose_kernel) // 2
               for e, s in zip(effective, strides)]
      result = jnp.roll(result, shift, range(1, num_axes + 1))
    return _with_bias(result, bias)

  return _over_batch_axes(apply, inputs, num_axes)


def fold(layer: Any, kernel: jax.Array, promote: Promote,
         inputs: jax.Array | None) -> jax.Array:
  """The kernel with which a layer no longer needs `equal_phases`.

  Args:
    layer: object with `strides`, `kernel_dilation`, `feature_group_count`,
      `transpose_kernel`, `mask` and `equal_phases`.
    kernel: parameter of the layer, [*K, I / groups, O] or [*K, O / groups, I].
    promote: function that converts the arrays to one dtype.
    inputs: [*batch, *size, I] array to calibrate with, or None.

  Returns:
    Array like `kernel`: the equalized kernel that the layer uses for inputs of
    the parameter's dtype; or, without `equal_phases` but with `inputs`, the
    kernel with equal phases whose outputs differ least.
  """
  if not layer.equal_phases and inputs is None:
    return kernel
  strides, dilation = _steps(layer, kernel.ndim - 2)
  _, computed, _ = promote(kernel, kernel, None)
  # The dtype with fewer bits determines which values can be kept.
  narrow = min(computed.dtype, kernel.dtype, key=lambda d: jnp.finfo(d).bits)
  groups = layer.feature_group_count
  if inputs is not None and not layer.equal_phases:
    if layer.mask is not None:
      raise ValueError('inputs must be None for a layer with a mask.')
    check_inputs(inputs, kernel.shape, groups, layer.transpose_kernel)
    inputs = inputs.reshape(-1, *inputs.shape[-kernel.ndim + 1:])
    equal = lax_dialect.kernel_to_flax(
        phases.equalize_phases(
            lax_dialect.kernel_from_flax(
                kernel.astype(narrow), layer.transpose_kernel,
                feature_group_count=groups),
            strides, kernel_dilation=dilation, inputs=inputs,
            feature_group_count=groups),
        layer.transpose_kernel, feature_group_count=groups)
  else:
    equal = phases.equalize_phases(
        kernel.astype(narrow), strides, kernel_dilation=dilation)
  return equal.astype(kernel.dtype)


def resize_conv(layer: Any, inputs: jax.Array, kernel: jax.Array,
                bias: jax.Array | None, promote: Promote) -> jax.Array:
  """Applies a `ResizeConv`.

  Args:
    layer: object with `scale`, `padding`, `method`, `feature_group_count`
      and `precision`.
    inputs: [*batch, *size, I] array.
    kernel: [*K, I / groups, O] array.
    bias: [O] array, or None.
    promote: function that converts the arrays to one dtype.

  Returns:
    [*batch, *fine, O] array.
  """
  check_inputs(inputs, kernel.shape, layer.feature_group_count)
  inputs, kernel, bias = promote(inputs, kernel, bias)

  def apply(images):
    return _with_bias(resample.resize_conv(
        images, kernel, layer.scale, layer.padding, method=layer.method,
        feature_group_count=layer.feature_group_count,
        precision=layer.precision), bias)

  return _over_batch_axes(apply, inputs, kernel.ndim - 2)


def sub_pixel_conv(layer: Any, inputs: jax.Array, kernel: jax.Array,
                   bias: jax.Array | None, promote: Promote) -> jax.Array:
  """Applies a `SubPixelConv`: the bias comes before the shuffle.

  Args:
    layer: object with `scale`, `padding`, `mode`, `feature_group_count`
      and `precision`.
    inputs: [*batch, *size, I] array.
    kernel: [*K, I / groups, prod(scale) * O] array.
    bias: [prod(scale) * O] array, or None.
    promote: function that converts the arrays to one dtype.

  Returns:
    [*batch, *fine, O] array.
  """
  check_inputs(inputs, kernel.shape, layer.feature_group_count)
  inputs, kernel, bias = promote(inputs, kernel, bias)

  def apply(images):
    return resample.depth_to_space(_with_bias(operations.conv(
        images, kernel, 1, layer.padding,
        feature_group_count=layer.feature_group_count,
        precision=layer.precision), bias), layer.scale, mode=layer.mode)

  return _over_batch_axes(apply, inputs, kernel.ndim - 2)


def _steps(layer: Any, num_axes: int) -> tuple[geometry.Size, geometry.Size]:
  """Reads a layer's strides and dilation; in Flax, None stands for 1."""
  strides, dilation = (
      geometry.per_axis(name, 1 if steps is None else steps, num_axes, 1)
      for name, steps in (('strides', layer.strides),
                          ('kernel_dilation', layer.kernel_dilation)))
  return strides, dilation


def _padding(layer: Any, kernel_size: geometry.Size,
             dilation: geometry.Size) -> geometry.Padding:
  """Converts a layer's padding, whose numbers are those of lax, to tconv's."""
  padding = layer.padding
  pads = geometry.explicit_padding(padding, len(kernel_size))
  if isinstance(pads, str):
    if pads != padding:
      raise ValueError(
          f'padding must be in capitals, {pads!r}; got {padding!r}. Flax reads '
          'lower case as the padding of an ordinary convolution, at strides of '
          '1 only and with another result.')
    return pads
  if layer.use_consistent_padding:
    return pads
  return lax_dialect.forward_pads(pads, kernel_size, dilation)


def _with_bias(result: jax.Array, bias: jax.Array | None) -> jax.Array:
  """Adds a [C] bias to [..., C]; the mode of dtype promotion applies."""
  if bias is None:
    return result
  return result + bias.reshape((1,) * (result.ndim - 1) + (-1,))


def _over_batch_axes(apply: Callable[[jax.Array], jax.Array],
                     inputs: jax.Array, num_axes: int) -> jax.Array:
  """Applies a function of [N, *size, I] to any number of batch axes."""
  axes = inputs.ndim - num_axes - 1
  batch, image = inputs.shape[:axes], inputs.shape[axes:]
  result = apply(inputs.reshape(math.prod(batch), *image))
  return result.reshape(*batch, *result.shape[1:])
