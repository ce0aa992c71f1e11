"""Layers for `flax.linen`. `tconv.layers` has the computations."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
from typing import Any

from flax import linen as nn
from flax import typing
from flax.core import meta
from flax.linen import dtypes
from flax.linen import linear
import jax
import jax.numpy as jnp

from tconv import geometry
from tconv import layers


class ConvTranspose(nn.ConvTranspose):
  """Flax's transposed convolution, with groups, any size and equal phases.

  It can replace `flax.linen.ConvTranspose`: it has the same arguments, the same
  parameters for the same seed, and the same results. Variables are
  interchangeable.

  Attributes:
    features: number of channels of the result, O.
    kernel_size: number of taps on each spatial axis; an int stands for one
      axis.
    strides: one int, or one for each axis; None for 1.
    padding: 'SAME', 'VALID' or 'CIRCULAR' of the forward convolution, in
      capitals, where 'CIRCULAR' is centered as in Flax; or numbers: one int,
      one int for each axis, or a (low, high) pair for each axis. Numbers pad
      the dilated inputs, as in `jax.lax.conv_transpose`: they are k_eff - 1
      minus the padding of the forward convolution and of PyTorch. With
      `use_consistent_padding`, numbers are that padding itself.
    kernel_dilation: distance between taps, one int or one for each axis; None
      for 1.
    use_bias: whether to add a bias.
    mask: array of the kernel's shape by which to multiply the kernel, or None.
    dtype: dtype of the computation; None for that of inputs and parameters.
    param_dtype: dtype of the parameters.
    precision: precision of products, as in `tconv.conv_transpose`.
    kernel_init: initializer of the kernel.
    bias_init: initializer of the bias.
    transpose_kernel: whether the kernel is that of the forward convolution, as
      in PyTorch, ONNX, Keras and `tconv.conv_transpose`.
    promote_dtype: function that converts inputs, kernel and bias to one dtype.
    preferred_element_type: dtype of the accumulation and of the result, as in
      `tconv.conv_transpose`.
    feature_group_count: number of groups of channels. The kernel is
      [*K, I / groups, O], or [*K, O / groups, I] with `transpose_kernel`.
    output_padding: number of positions to add at the high end, for padding in
      numbers, as in `tconv.conv_transpose`.
    method: form that computes the result, as in `tconv.conv_transpose`.
    equal_phases: whether to apply `tconv.equalize_phases` to the kernel, so
      that the layer cannot learn a checkerboard. Gradients flow through it.
      After training, `fold` makes the equalized kernel the parameter.
    use_consistent_padding: whether padding in numbers is that of the forward
      convolution, as in PyTorch and `tconv.conv_transpose`. The name is that of
      an argument of `jax.lax.conv_transpose`.

  Example:
    >>> layer = tconv.linen.ConvTranspose(3, (3, 3), (2, 2), equal_phases=True)
    >>> y = jnp.ones((1, 8, 8, 4))
    >>> x, variables = layer.init_with_output(jax.random.key(0), y)
    >>> x.shape, layer.apply(variables, y, output_size=(15, 16)).shape
    ((1, 16, 16, 3), (1, 15, 16, 3))
    >>> layer, variables = layer.fold(variables)  # After training.
    >>> kernel = variables['params']['kernel']
    >>> round(float(tconv.phase_nonuniformity(kernel, 2)), 6)
    0.0
  """

  feature_group_count: int = 1
  output_padding: int | Sequence[int] = 0
  method: str = 'auto'
  equal_phases: bool = False
  use_consistent_padding: bool = False

  @nn.compact
  def __call__(self, inputs: jax.Array, *,
               output_size: int | Sequence[int] | None = None) -> jax.Array:
    """Upsamples images.

    Args:
      inputs: [*batch, *size, I] array, with any number of batch axes or none.
      output_size: spatial size of the result, as in `tconv.conv_transpose`.

    Returns:
      [*batch, *fine, O] array.

    Raises:
      ValueError: an argument is invalid; the message names it.
    """
    return layers.conv_transpose(
        self, inputs,
        *_parameters(self, inputs, self.features, self.transpose_kernel),
        _promote(self), output_size=output_size)

  @nn.nowrap
  def fold(self, variables: Mapping[str, Any], inputs: jax.Array | None = None
           ) -> tuple['ConvTranspose', dict[str, Any]]:
    """Returns a layer without `equal_phases`, and its equalized variables.

    The new layer computes the same values, without equalizing the phases in
    each call. Further training may bring a grid back.

    If inputs have a wider dtype than the parameter, the layer equalized the
    kernel in that dtype. Results then differ by the rounding of the kernel to
    the parameter's dtype.

    Without `equal_phases` but with `inputs`, this repairs a trained layer: the
    parameter becomes the kernel with equal phases whose outputs for `inputs`
    differ least from those of the layer, as in `tconv.equalize_phases`.

    Args:
      variables: variables of this layer; in a model, those under the layer's
        name.
      inputs: [*batch, *size, I] inputs of the layer; not used with
        `equal_phases`.

    Returns:
      The layer without `equal_phases`, and the variables with the new kernel.

    Raises:
      ValueError: `inputs` are invalid.
    """
    params = dict(variables['params'])
    params['kernel'] = jax.tree.map(
        lambda kernel: layers.fold(self, kernel, _promote(self), inputs),
        params['kernel'])
    return self.clone(equal_phases=False), {**variables, 'params': params}


class _Upsampler(nn.Module):
  """Base of `ResizeConv` and `SubPixelConv`, which enlarge without weights."""

  features: int
  kernel_size: int | Sequence[int]
  scale: int | Sequence[int]
  padding: geometry.Padding = 'SAME'
  feature_group_count: int = 1
  use_bias: bool = True
  dtype: typing.Dtype | None = None
  param_dtype: typing.Dtype = jnp.float32
  precision: typing.PrecisionLike = None
  kernel_init: typing.Initializer = linear.default_kernel_init
  bias_init: typing.Initializer = nn.initializers.zeros_init()
  promote_dtype: Callable[..., list[Any]] = dtypes.promote_dtype

  def _apply(self, operation: Callable[..., jax.Array], inputs: jax.Array,
             features: int) -> jax.Array:
    return operation(
        self, inputs, *_parameters(self, inputs, features), _promote(self))


class ResizeConv(_Upsampler):
  """Interpolates, then convolves: `tconv.resize_conv` with a bias.

  Attributes:
    features: number of channels of the result, O.
    kernel_size: number of taps on each spatial axis; an int stands for one
      axis.
    scale: upsampling factor, one int or one for each axis.
    padding: padding of the convolution on the fine grid, as in `tconv.conv`.
    feature_group_count: number of groups of channels. The kernel is
      [*K, I / groups, O].
    use_bias: whether to add a bias.
    dtype: dtype of the computation; None for that of inputs and parameters.
    param_dtype: dtype of the parameters.
    precision: precision of products, as in `tconv.conv`.
    kernel_init: initializer of the kernel.
    bias_init: initializer of the bias.
    promote_dtype: function that converts inputs, kernel and bias to one dtype.
    method: interpolation, 'nearest', 'bilinear' or 'bicubic'.

  Example:
    >>> layer = tconv.linen.ResizeConv(3, (3, 3), 2)
    >>> y = jnp.ones((1, 8, 8, 4))
    >>> x, variables = layer.init_with_output(jax.random.key(0), y)
    >>> x.shape, variables['params']['kernel'].shape
    ((1, 16, 16, 3), (3, 3, 4, 3))
  """

  method: str = 'nearest'

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Upsamples images.

    Args:
      inputs: [*batch, *size, I] array, with any number of batch axes or none.

    Returns:
      [*batch, *(size * scale), O] array, for 'SAME' padding.

    Raises:
      ValueError: an argument is invalid; the message names it.
    """
    return self._apply(layers.resize_conv, inputs, self.features)


class SubPixelConv(_Upsampler):
  """Convolves, then shuffles: `tconv.sub_pixel_conv` with a bias.

  With `kernel_init=tconv.initializers.icnr(scale)` of the same `mode`, training
  starts without a checkerboard.

  Attributes:
    features: number of channels of the result, O.
    kernel_size: number of taps on each spatial axis; an int stands for one
      axis.
    scale: upsampling factor, one int or one for each axis.
    padding: padding of the convolution on the coarse grid, as in `tconv.conv`.
    feature_group_count: number of groups of channels before the shuffle. The
      kernel is [*K, I / groups, prod(scale) * O].
    use_bias: whether to add a bias, [prod(scale) * O], before the shuffle.
    dtype: dtype of the computation; None for that of inputs and parameters.
    param_dtype: dtype of the parameters.
    precision: precision of products, as in `tconv.conv`.
    kernel_init: initializer of the kernel.
    bias_init: initializer of the bias.
    promote_dtype: function that converts inputs, kernel and bias to one dtype.
    mode: order of the channels before the shuffle, 'DCR' or 'CRD' (that of
      PyTorch's `PixelShuffle`), as in `tconv.depth_to_space`.

  Example:
    >>> layer = tconv.linen.SubPixelConv(
    ...     3, (3, 3), 2, kernel_init=tconv.initializers.icnr(2))
    >>> y = jnp.ones((1, 8, 8, 4))
    >>> x, variables = layer.init_with_output(jax.random.key(0), y)
    >>> x.shape, variables['params']['kernel'].shape
    ((1, 16, 16, 3), (3, 3, 4, 12))
  """

  mode: str = 'DCR'

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Upsamples images.

    Args:
      inputs: [*batch, *size, I] array, with any number of batch axes or none.

    Returns:
      [*batch, *(size * scale), O] array, for 'SAME' padding.

    Raises:
      ValueError: an argument is invalid; the message names it.
    """
    return self._apply(layers.sub_pixel_conv, inputs, layers.shuffled_features(
        self.kernel_size, self.scale, self.features))


def _parameters(layer, inputs: jax.Array, features: int,
                transpose_kernel: bool = False):
  """Creates or reads a layer's kernel and bias."""
  if layer.has_variable('params', 'kernel'):
    kernel = meta.unbox(layer.get_variable('params', 'kernel'))
    layers.check_inputs(inputs, kernel.shape, layer.feature_group_count,
                        transpose_kernel)
  shape = layers.kernel_shape(
      layer.kernel_size, jnp.shape(inputs)[-1], features,
      layer.feature_group_count, transpose_kernel)
  kernel = layer.param('kernel', layer.kernel_init, shape, layer.param_dtype)
  bias = (layer.param('bias', layer.bias_init, (features,), layer.param_dtype)
          if layer.use_bias else None)
  return kernel, bias


def _promote(layer) -> layers.Promote:
  return functools.partial(layer.promote_dtype, dtype=layer.dtype)
