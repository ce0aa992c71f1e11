"""Layers for `flax.nnx`. `tconv.layers` has the computations."""

from collections.abc import Mapping
from collections.abc import Sequence
import types
from typing import Any

from flax import nnx
from flax import typing
from flax.nnx.nn import dtypes
from flax.nnx.nn import linear
import jax
import jax.numpy as jnp

from tconv import geometry
from tconv import layers

_NO_METADATA = types.MappingProxyType({})


class ConvTranspose(nnx.ConvTranspose):
  """Flax's transposed convolution, with groups, any size and equal phases.

  It can replace `flax.nnx.ConvTranspose`: it has the same arguments, the same
  parameters for the same seed, and the same results. States are
  interchangeable.

  Args:
    in_features: number of channels of the inputs, I.
    out_features: number of channels of the result, O.
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
    promote_dtype: function that converts a tuple of inputs, kernel and bias to
      one dtype.
    preferred_element_type: dtype of the accumulation and of the result, as in
      `tconv.conv_transpose`.
    rngs: random number generators for the initializers.
    kernel_metadata: metadata of the kernel's `nnx.Param`.
    bias_metadata: metadata of the bias's `nnx.Param`.
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

  Raises:
    ValueError: `feature_group_count` does not divide the channels.

  Example:
    >>> layer = tconv.nnx.ConvTranspose(
    ...     4, 3, (3, 3), 2, equal_phases=True, rngs=nnx.Rngs(0))
    >>> y = jnp.ones((1, 8, 8, 4))
    >>> layer(y).shape, layer(y, output_size=(15, 16)).shape
    ((1, 16, 16, 3), (1, 15, 16, 3))
    >>> layer.fold()  # After training.
    >>> round(float(tconv.phase_nonuniformity(layer.kernel[...], 2)), 6)
    0.0
  """

  def __init__(
      self,
      in_features: int,
      out_features: int,
      kernel_size: int | Sequence[int],
      strides: int | Sequence[int] | None = None,
      *,
      padding: typing.PaddingLike = 'SAME',
      kernel_dilation: int | Sequence[int] | None = None,
      use_bias: bool = True,
      mask: jax.Array | None = None,
      dtype: typing.Dtype | None = None,
      param_dtype: typing.Dtype = jnp.float32,
      precision: typing.PrecisionLike | None = None,
      kernel_init: typing.Initializer = linear.default_kernel_init,
      bias_init: typing.Initializer = linear.default_bias_init,
      transpose_kernel: bool = False,
      promote_dtype: typing.PromoteDtypeFn = dtypes.promote_dtype,
      preferred_element_type: typing.Dtype | None = None,
      rngs: nnx.Rngs,
      kernel_metadata: Mapping[str, Any] = _NO_METADATA,
      bias_metadata: Mapping[str, Any] = _NO_METADATA,
      feature_group_count: int = 1,
      output_padding: int | Sequence[int] = 0,
      method: str = 'auto',
      equal_phases: bool = False,
      use_consistent_padding: bool = False):
    shape = layers.kernel_shape(
        kernel_size, in_features, out_features, feature_group_count,
        transpose_kernel)
    super().__init__(
        in_features, out_features, kernel_size, strides, padding=padding,
        kernel_dilation=kernel_dilation, use_bias=use_bias, mask=mask,
        dtype=dtype, param_dtype=param_dtype, precision=precision,
        # Flax has no groups here, and would ask for a kernel without groups.
        kernel_init=lambda key, _, dtype: kernel_init(key, shape, dtype),
        bias_init=bias_init, transpose_kernel=transpose_kernel,
        promote_dtype=promote_dtype,
        preferred_element_type=preferred_element_type, rngs=rngs,
        kernel_metadata=kernel_metadata, bias_metadata=bias_metadata)
    self.kernel_shape = shape  # pyrefly: ignore[bad-assignment]
    self.feature_group_count = feature_group_count
    self.output_padding = output_padding
    self.method = method
    self.equal_phases = equal_phases
    self.use_consistent_padding = use_consistent_padding

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
        self, inputs, *_parameters(self), _promote(self), output_size)

  def fold(self, inputs: jax.Array | None = None) -> None:
    """Makes the equalized kernel the parameter, and turns `equal_phases` off.

    The layer computes the same values as before, without equalizing the phases
    in each call. Further training may bring a grid back.

    If inputs have a wider dtype than the parameter, the layer equalized the
    kernel in that dtype. Results then differ by the rounding of the kernel to
    the parameter's dtype.

    Without `equal_phases` but with `inputs`, this repairs a trained layer: the
    parameter becomes the kernel with equal phases whose outputs for `inputs`
    differ least from those of the layer, as in `tconv.equalize_phases`.

    Args:
      inputs: [*batch, *size, in_features] inputs of the layer; not used with
        `equal_phases`.

    Raises:
      ValueError: `inputs` are invalid.
    """
    kernel, _ = _parameters(self)
    self.kernel[...] = layers.fold(self, kernel, _promote(self), inputs)
    self.equal_phases = False


class _Upsampler(nnx.Module):
  """Base of `ResizeConv` and `SubPixelConv`, which enlarge without weights."""

  def __init__(
      self,
      in_features: int,
      out_features: int,
      kernel_size: int | Sequence[int],
      scale: int | Sequence[int],
      *,
      padding: geometry.Padding = 'SAME',
      feature_group_count: int = 1,
      use_bias: bool = True,
      dtype: typing.Dtype | None = None,
      param_dtype: typing.Dtype = jnp.float32,
      precision: typing.PrecisionLike = None,
      kernel_init: typing.Initializer = linear.default_kernel_init,
      bias_init: typing.Initializer = linear.default_bias_init,
      promote_dtype: typing.PromoteDtypeFn = dtypes.promote_dtype,
      rngs: nnx.Rngs,
      kernel_metadata: Mapping[str, Any] = _NO_METADATA,
      bias_metadata: Mapping[str, Any] = _NO_METADATA):
    self.in_features = in_features
    self.out_features = out_features
    self.kernel_size = layers.kernel_axes(kernel_size)
    self.scale = scale
    self.padding = padding
    self.feature_group_count = feature_group_count
    self.use_bias = use_bias
    self.dtype = dtype
    self.param_dtype = param_dtype
    self.precision = precision
    self.promote_dtype = promote_dtype
    features = self._conv_features()
    self.kernel_shape = layers.kernel_shape(
        kernel_size, in_features, features, feature_group_count)
    self.kernel = nnx.Param(
        kernel_init(rngs.params(), self.kernel_shape, param_dtype),
        **kernel_metadata)
    self.bias: nnx.Param | None = nnx.data(None)
    if use_bias:
      self.bias = nnx.Param(
          bias_init(rngs.params(), (features,), param_dtype), **bias_metadata)

  def _conv_features(self) -> int:
    """Number of channels that the convolution writes."""
    return self.out_features


class ResizeConv(_Upsampler):
  """Interpolates, then convolves: `tconv.resize_conv` with a bias.

  Args:
    in_features: number of channels of the inputs, I.
    out_features: number of channels of the result, O.
    kernel_size: number of taps on each spatial axis; an int stands for one
      axis.
    scale: upsampling factor, one int or one for each axis.
    method: interpolation, 'nearest', 'bilinear' or 'bicubic'.
    **options: options of `SubPixelConv` except `mode`. Here, `padding` is that
      of the convolution on the fine grid, and the kernel is
      [*K, I / groups, O].

  Raises:
    ValueError: `feature_group_count` does not divide the channels.

  Example:
    >>> layer = tconv.nnx.ResizeConv(4, 3, (3, 3), 2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((1, 8, 8, 4))).shape, layer.kernel.shape
    ((1, 16, 16, 3), (3, 3, 4, 3))
  """

  def __init__(self, in_features: int, out_features: int,
               kernel_size: int | Sequence[int], scale: int | Sequence[int],
               *, method: str = 'nearest', **options: Any):
    super().__init__(in_features, out_features, kernel_size, scale, **options)
    self.method = method

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Upsamples images.

    Args:
      inputs: [*batch, *size, I] array, with any number of batch axes or none.

    Returns:
      [*batch, *(size * scale), O] array, for 'SAME' padding.

    Raises:
      ValueError: an argument is invalid; the message names it.
    """
    return layers.resize_conv(self, inputs, *_parameters(self), _promote(self))


class SubPixelConv(_Upsampler):
  """Convolves, then shuffles: `tconv.sub_pixel_conv` with a bias.

  With `kernel_init=tconv.initializers.icnr(scale)` of the same `mode`, training
  starts without a checkerboard.

  Args:
    in_features: number of channels of the inputs, I.
    out_features: number of channels of the result, O.
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
    promote_dtype: function that converts a tuple of inputs, kernel and bias to
      one dtype.
    rngs: random number generators for the initializers.
    kernel_metadata: metadata of the kernel's `nnx.Param`.
    bias_metadata: metadata of the bias's `nnx.Param`.
    mode: order of the channels before the shuffle, 'DCR' or 'CRD' (that of
      PyTorch's `PixelShuffle`), as in `tconv.depth_to_space`.

  Raises:
    ValueError: `feature_group_count` does not divide the channels.

  Example:
    >>> layer = tconv.nnx.SubPixelConv(
    ...     4, 3, (3, 3), 2, kernel_init=tconv.initializers.icnr(2),
    ...     rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((1, 8, 8, 4))).shape, layer.kernel.shape
    ((1, 16, 16, 3), (3, 3, 4, 12))
  """

  def __init__(self, in_features: int, out_features: int,
               kernel_size: int | Sequence[int], scale: int | Sequence[int],
               *, mode: str = 'DCR', **options: Any):
    super().__init__(in_features, out_features, kernel_size, scale, **options)
    self.mode = mode

  def _conv_features(self) -> int:
    return layers.shuffled_features(
        self.kernel_size, self.scale, self.out_features)

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Upsamples images.

    Args:
      inputs: [*batch, *size, I] array, with any number of batch axes or none.

    Returns:
      [*batch, *(size * scale), O] array, for 'SAME' padding.

    Raises:
      ValueError: an argument is invalid; the message names it.
    """
    return layers.sub_pixel_conv(
        self, inputs, *_parameters(self), _promote(self))


def _parameters(layer) -> tuple[jax.Array, jax.Array | None]:
  """Reads a layer's kernel and bias."""
  return layer.kernel[...], None if layer.bias is None else layer.bias[...]


def _promote(layer) -> layers.Promote:
  return lambda *arrays: layer.promote_dtype(arrays, dtype=layer.dtype)
