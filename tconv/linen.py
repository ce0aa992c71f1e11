"""Layers for `flax.linen`; what they compute stands in `tconv.layers`."""

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

  It can stand wherever `flax.linen.ConvTranspose` does: same arguments, same
  parameters from the same seed, same results. Variables of one fit the other.

    layer = tconv.linen.ConvTranspose(4, (4, 4), strides=(2, 2))
    y = jnp.ones((1, 8, 8, 3))
    variables = layer.init(jax.random.key(0), y)
    x = layer.apply(variables, y)  # [1, 16, 16, 4]
    x = layer.apply(variables, y, output_size=(15, 16))  # [1, 15, 16, 4]

  Attributes:
    features: O, channels of the result.
    kernel_size: taps, one number for each spatial axis; an int is one axis.
    strides: one int, or one for each axis; None for 1.
    padding: 'SAME', 'VALID' or 'CIRCULAR' as for the forward convolution, but
      that 'CIRCULAR' is centred as in Flax; or numbers as in
      `jax.lax.conv_transpose`, which pad the dilated inputs: one int, one int
      for each axis, or a (low, high) pair for each. k_eff - 1 minus these is
      the forward convolution's padding, and PyTorch's, which
      `use_consistent_padding` takes as it is. Names must be in capitals: lower
      case is another padding to Flax.
    kernel_dilation: steps between taps, as `strides`.
    use_bias: whether to add a bias.
    mask: array of the kernel's shape to multiply it with, or None.
    dtype: of the computation; None for that of inputs and parameters.
    param_dtype: of the parameters.
    precision: as in `tconv.conv_transpose`.
    kernel_init: initializer of the kernel.
    bias_init: initializer of the bias.
    transpose_kernel: whether the kernel is that of the forward convolution.
    promote_dtype: brings inputs, kernel and bias to one dtype.
    preferred_element_type: as in `tconv.conv_transpose`.
    feature_group_count: groups that the channels on both sides fall into. The
      kernel is [*K, I / groups, O], or with `transpose_kernel`
      [*K, O / groups, I].
    output_padding: as in `tconv.conv_transpose`, for padding in numbers.
    method: as in `tconv.conv_transpose`.
    equal_phases: whether to use `tconv.equalize_phases` of the kernel, so that
      no checkerboard can be learned. Gradients flow through it. `fold` makes
      the result the parameter, once the layer is trained.
    use_consistent_padding: whether padding in numbers is that of the forward
      convolution, as PyTorch's and that of `tconv.conv_transpose`; named after
      the argument of `jax.lax.conv_transpose`.
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
      ValueError: an argument is illegal; the message names it.
    """
    return layers.conv_transpose(
        self, inputs,
        *_parameters(self, inputs, self.features, self.transpose_kernel),
        _promote(self), output_size=output_size)

  @nn.nowrap
  def fold(self, variables: Mapping[str, Any]
           ) -> tuple['ConvTranspose', dict[str, Any]]:
    """Makes the equalized kernel the parameter, and ends `equal_phases`.

      layer, variables = layer.fold(variables)

    The new layer computes the same values, without the work of making its
    phases equal in each call. Training may bring a grid back from there on.

    Where inputs are of a wider dtype than the parameter, and so was the kernel
    that was made equal, results differ by the rounding to the parameter's.

    Args:
      variables: of this layer; of a model, those below the layer's name.

    Returns:
      The layer without `equal_phases`, and variables with the new kernel.
    """
    params = dict(variables['params'])
    params['kernel'] = jax.tree.map(
        lambda kernel: layers.fold(self, kernel, _promote(self)),
        params['kernel'])
    return self.clone(equal_phases=False), {**variables, 'params': params}


class _Upsampler(nn.Module):
  """A convolution, and a way to enlarge the image without a kernel."""

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

    layer = tconv.linen.ResizeConv(4, (3, 3), 2)
    y = jnp.ones((1, 8, 8, 3))
    x, variables = layer.init_with_output(jax.random.key(0), y)
    # x is [1, 16, 16, 4], the kernel [3, 3, 3, 4]

  Attributes:
    features: O, channels of the result.
    kernel_size: taps, one number for each spatial axis; an int is one axis.
    scale: factor, one int or one for each axis.
    padding: of the convolution on the fine grid, as in `tconv.conv`.
    feature_group_count: groups; the kernel is [*K, I / groups, O].
    use_bias: whether to add a bias.
    dtype: of the computation; None for that of inputs and parameters.
    param_dtype: of the parameters.
    precision: as in `tconv.conv`.
    kernel_init: initializer of the kernel.
    bias_init: initializer of the bias.
    promote_dtype: brings inputs, kernel and bias to one dtype.
    method: of the interpolation, 'nearest', 'bilinear' or 'bicubic'.
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
      ValueError: an argument is illegal; the message names it.
    """
    return self._apply(layers.resize_conv, inputs, self.features)


class SubPixelConv(_Upsampler):
  """Convolves, then shuffles: `tconv.sub_pixel_conv` with a bias.

  With `tconv.initializers.icnr(scale)` as `kernel_init`, given the same `mode`,
  it starts without a checkerboard.

    layer = tconv.linen.SubPixelConv(4, (3, 3), 2)
    y = jnp.ones((1, 8, 8, 3))
    x, variables = layer.init_with_output(jax.random.key(0), y)
    # x is [1, 16, 16, 4], the kernel [3, 3, 3, 16]

  Attributes:
    features: O, channels of the result.
    kernel_size: taps, one number for each spatial axis; an int is one axis.
    scale: factor, one int or one for each axis.
    padding: of the convolution on the coarse grid, as in `tconv.conv`.
    feature_group_count: groups, of the channels before the shuffle; the kernel
      is [*K, I / groups, prod(scale) * O].
    use_bias: whether to add a bias, [prod(scale) * O], before the shuffle.
    dtype: of the computation; None for that of inputs and parameters.
    param_dtype: of the parameters.
    precision: as in `tconv.conv`.
    kernel_init: initializer of the kernel.
    bias_init: initializer of the bias.
    promote_dtype: brings inputs, kernel and bias to one dtype.
    mode: order of the channels before the shuffle, 'DCR' or 'CRD' (that of
      PyTorch's `PixelShuffle`), as in `tconv.depth_to_space`.
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
      ValueError: an argument is illegal; the message names it.
    """
    return self._apply(layers.sub_pixel_conv, inputs, layers.shuffled_features(
        self.kernel_size, self.scale, self.features))


def _parameters(layer, inputs: jax.Array, features: int,
                transpose_kernel: bool = False):
  """Makes or reads a layer's kernel and bias."""
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
