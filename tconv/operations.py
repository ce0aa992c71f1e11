"""The public operations: `conv`, `conv_transpose` and their two companions.

All of them work with one kernel, [*K, C / groups, O], and share their
arguments; `padding` is always that of the forward convolution. If C is the
matrix of `conv` for some arguments, `conv_transpose` multiplies with exactly
its transpose C^T. This holds for complex arrays too: nothing is conjugated.

This module checks the arguments and brings the arrays into channels-last
layout. `trilinear` then computes the result and defines the derivatives.
"""

from collections.abc import Sequence
import functools

import jax
from jax import lax
from jax.experimental import sparse as jsparse
import jax.numpy as jnp
import numpy as np

from tconv import arguments
from tconv import arrays
from tconv import geometry as geometry_lib
from tconv import trilinear
from tconv.forms import matrix as matrix_form
from tconv.geometry import Padding

Ints = int | Sequence[int]
DimensionNumbers = arguments.DimensionNumbers


def conv(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Ints = 1,
    padding: Padding = 'SAME',
    *,
    kernel_dilation: Ints = 1,
    feature_group_count: int = 1,
    dimension_numbers: DimensionNumbers = None,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    method: str = 'auto') -> jax.Array:
  """The ordinary strided convolution, C x.

  Args:
    inputs: [N, *size, C] array of floats or complex numbers, with zero to three
      spatial axes.
    kernel: [*K, C / feature_group_count, O] array of the same dtype.
    strides: one int, or one for each spatial axis.
    padding: 'SAME', 'VALID' or 'CIRCULAR' (periodic, as in `flax.linen.Conv`),
      one int, one int for each axis, or a (low, high) pair for each axis.
      Negative numbers crop.
    kernel_dilation: distance between taps, one int or one for each axis.
    feature_group_count: number of groups of channels.
    dimension_numbers: layouts of inputs, kernel and result, as in
      `jax.lax.conv_general_dilated`; by default channels last, such as
      ('NHWC', 'HWIO', 'NHWC'). Arguments with one value for each axis follow
      the order of the kernel's axes.
    precision: precision of the products, a `jax.lax.PrecisionLike`; None for
      the default of the platform.
    preferred_element_type: dtype of the accumulation and of the result; by
      default the result has the dtype of `inputs`. float16 and bfloat16 always
      accumulate in float32.
    method: form that computes the result: 'auto', which chooses one, or
      'matrix', 'vjp', 'lax', 'zero_insertion', 'polyphase', 'overlap_add',
      'taps', 'cudnn' or 'residues' (see `tconv.forms`). Derivatives are always
      computed by 'auto'.

  Returns:
    [N, *coarse, O] array.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> image = jnp.arange(16.).reshape(1, 4, 4, 1)
    >>> box = jnp.ones((2, 2, 1, 1))
    >>> tconv.conv(image, box, strides=2, padding='VALID')[0, ..., 0]
    Array([[10., 18.],
           [42., 50.]], dtype=float32)
  """
  inputs, kernel, to_result = arguments.image_and_kernel(
      inputs, kernel, dimension_numbers, feature_group_count)
  options = arguments.options(inputs, precision, preferred_element_type, method)
  inputs, geometry = arguments.fine_side(
      inputs, kernel.shape[:-2], strides, padding, kernel_dilation,
      feature_group_count)
  result = trilinear.contract('conv', inputs, kernel, geometry=geometry,
                              **options)
  return result.transpose(np.argsort(to_result))


def conv_transpose(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Ints = 1,
    padding: Padding = 'SAME',
    *,
    output_padding: Ints = 0,
    output_size: Ints | None = None,
    kernel_dilation: Ints = 1,
    feature_group_count: int = 1,
    dimension_numbers: DimensionNumbers = None,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    method: str = 'auto') -> jax.Array:
  """The transposed convolution, C^T y, from a coarse grid to a fine one.

  A convolution with a 3x3 kernel takes a 4x4 image to 2x2. Its transpose takes
  2x2 to 4x4.

  The spatial size of the result is `output_size` if that is given. Otherwise it
  is, for each axis::

    'SAME', 'CIRCULAR': size * stride
    'VALID': size * stride + max(k_eff - stride, 0)
    numbers: (size - 1) * stride + k_eff - low - high + output_padding

  where k_eff = (k - 1) * dilation + 1.

  For finite inputs, all forms give the same values up to rounding. A NaN or an
  infinity always reaches the outputs that its taps write. Some forms also
  multiply it with zeros, which spreads it further: 'polyphase' to outputs
  within k_eff + stride of its position, 'matrix' to all of them.

  Args:
    inputs: [N, *size, O] array of floats or complex numbers, with zero to three
      spatial axes.
    kernel: [*K, C / feature_group_count, O] array of the same dtype: the kernel
      of the forward convolution, from C to O channels.
    strides: one int, or one for each spatial axis.
    padding: padding of the forward convolution, in the forms that `conv` takes.
    output_padding: number of positions to add at the high end of the result,
      one int or one for each axis; below max(stride, dilation), and only for
      padding in numbers. To recover the size that a convolution had as its
      input, pass (size + low + high - k_eff) mod stride, or use `output_size`.
    output_size: spatial size of the result, one int or one for each axis. Any
      size is valid that the forward convolution takes to the size of `inputs`.
    kernel_dilation: distance between taps, one int or one for each axis.
    feature_group_count: number of groups of channels.
    dimension_numbers: layouts of inputs, kernel and result, as in
      `jax.lax.conv_general_dilated`; by default channels last, such as
      ('NHWC', 'HWIO', 'NHWC'). The kernel's I axis holds the channels of the
      result. Arguments with one value for each axis follow the order of the
      kernel's axes.
    precision: precision of the products, a `jax.lax.PrecisionLike`; None for
      the default of the platform.
    preferred_element_type: dtype of the accumulation and of the result; by
      default the result has the dtype of `inputs`. float16 and bfloat16 always
      accumulate in float32.
    method: form that computes the result: 'auto', which chooses one, or
      'matrix', 'vjp', 'lax', 'zero_insertion', 'polyphase', 'overlap_add',
      'taps', 'cudnn' or 'residues' (see `tconv.forms`). Derivatives are always
      computed by 'auto'.

  Returns:
    [N, *fine, C] array.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> y = jnp.array([[1., 2.], [3., 4.]]).reshape(1, 2, 2, 1)
    >>> kernel = jnp.ones((3, 3, 1, 1))
    >>> tconv.conv_transpose(y, kernel, strides=1, padding='VALID')[0, ..., 0]
    Array([[ 1.,  3.,  3.,  2.],
           [ 4., 10., 10.,  6.],
           [ 4., 10., 10.,  6.],
           [ 3.,  7.,  7.,  4.]], dtype=float32)
    >>> y = tconv.conv(jnp.ones((1, 39, 39, 1)), kernel, strides=2)
    >>> y.shape, tconv.conv_transpose(y, kernel, strides=2).shape
    ((1, 20, 20, 1), (1, 40, 40, 1))
    >>> tconv.conv_transpose(y, kernel, strides=2, output_size=39).shape
    (1, 39, 39, 1)

  References:
    Zeiler et al., `Deconvolutional networks
    <https://doi.org/10.1109/CVPR.2010.5539957>`_, 2010.

    Dumoulin and Visin, `A guide to convolution arithmetic for deep learning
    <https://arxiv.org/abs/1603.07285>`_, 2016, section 4.
  """
  inputs, kernel, to_result = arguments.image_and_kernel(
      inputs, kernel, dimension_numbers, feature_group_count, transposed=True)
  options = arguments.options(inputs, precision, preferred_element_type, method)
  kernel_size = kernel.shape[:-2]
  num_axes = len(kernel_size)
  strides = geometry_lib.per_axis('strides', strides, num_axes, 1)
  dilation = geometry_lib.per_axis(
      'kernel_dilation', kernel_dilation, num_axes, 1)
  resolve = functools.partial(
      geometry_lib.conv_transpose_geometry, inputs.shape[1:-1], kernel_size,
      strides, dilation=dilation, feature_group_count=feature_group_count,
      output_padding=output_padding)
  if geometry_lib.explicit_padding(padding, num_axes) != 'CIRCULAR':
    geometry = resolve(padding, output_size=output_size)
    result = trilinear.contract(
        'conv_transpose', inputs, kernel, geometry=geometry, **options)
  else:
    # The transpose of a 'VALID' convolution, then that of the periodic padding.
    fine_size = resolve(padding, output_size=output_size).fine_size
    wrap = geometry_lib.circular_pads(kernel_size, dilation)
    geometry = resolve('VALID', output_size=tuple(
        f + lo + hi for f, (lo, hi) in zip(fine_size, wrap)))
    result = trilinear.contract(
        'conv_transpose', inputs, kernel, geometry=geometry, **options)
    result = arguments.unwrap(result, wrap, fine_size)
  return result.transpose(np.argsort(to_result))


def conv_kernel_grad(
    inputs: jax.Array,
    cotangents: jax.Array,
    kernel_size: Ints,
    strides: Ints = 1,
    padding: Padding = 'SAME',
    *,
    kernel_dilation: Ints = 1,
    feature_group_count: int = 1,
    dimension_numbers: DimensionNumbers = None,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    method: str = 'auto') -> jax.Array:
  """The gradient of a convolution with respect to its kernel.

  This is the gradient of sum(conv(inputs, kernel) * cotangents), which equals
  sum(conv_transpose(cotangents, kernel) * inputs). So it serves both
  directions.

  Args:
    inputs: [N, *size, C] array on the fine grid, with zero to three spatial
      axes.
    cotangents: [N, *coarse, O] array of the same dtype, on the grid of the
      result of `conv`.
    kernel_size: number of taps, one int or one for each spatial axis.
    strides: one int, or one for each spatial axis.
    padding: padding of the forward convolution, in the forms that `conv` takes.
    kernel_dilation: distance between taps, one int or one for each axis.
    feature_group_count: number of groups of channels.
    dimension_numbers: layouts of inputs, kernel and cotangents, as in
      `jax.lax.conv_general_dilated` for the forward convolution.
    precision: precision of the products, a `jax.lax.PrecisionLike`; None for
      the default of the platform.
    preferred_element_type: dtype of the accumulation and of the result; by
      default the result has the dtype of `inputs`. float16 and bfloat16 always
      accumulate in float32.
    method: form that computes the result: 'auto', which chooses one, or
      'matrix', 'vjp', 'lax', 'zero_insertion', 'polyphase', 'overlap_add',
      'taps', 'cudnn' or 'residues' (see `tconv.forms`). Derivatives are always
      computed by 'auto'.

  Returns:
    [*K, C / feature_group_count, O] array.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> x, y = jnp.ones((1, 8, 8, 3)), jnp.ones((1, 4, 4, 5))
    >>> gradient = tconv.conv_kernel_grad(x, y, kernel_size=3, strides=2)
    >>> gradient.shape
    (3, 3, 3, 5)
    >>> loss = lambda kernel: (tconv.conv(x, kernel, strides=2) * y).sum()
    >>> bool((gradient == jax.grad(loss)(jnp.zeros((3, 3, 3, 5)))).all())
    True
  """
  inputs = arguments.checked('inputs', inputs, '[N, *size, C]')
  arrays.check_batch('inputs', inputs, 'kernel_size', kernel_size)
  cotangents = arguments.checked('cotangents', cotangents, '[N, *coarse, O]')
  arguments.check_ranks('inputs', inputs, 'cotangents', cotangents)
  arguments.check_dtype('cotangents', cotangents, 'inputs', inputs)
  to_inputs, to_kernel, to_cotangents = arguments.layouts(
      inputs, dimension_numbers)
  inputs = inputs.transpose(to_inputs)
  cotangents = cotangents.transpose(to_cotangents)
  options = arguments.options(inputs, precision, preferred_element_type, method)
  kernel_size = geometry_lib.per_axis(
      'kernel_size', kernel_size, inputs.ndim - 2, 1)
  arguments.check_groups(feature_group_count, 'inputs', inputs.shape[-1])
  arguments.check_groups(
      feature_group_count, 'cotangents', cotangents.shape[-1])
  inputs, geometry = arguments.fine_side(
      inputs, kernel_size, strides, padding, kernel_dilation,
      feature_group_count)
  expected = (inputs.shape[0], *geometry.coarse_size)
  if cotangents.shape[:-1] != expected:
    raise ValueError(
        f'cotangents must have batch and spatial size {expected}, those of the '
        f'result of conv for inputs; got {cotangents.shape[:-1]}.')
  result = trilinear.contract(
      'conv_kernel_grad', inputs, cotangents, geometry=geometry, **options)
  return result.transpose(np.argsort(to_kernel))


def conv_matrix(
    kernel: jax.Array,
    input_size: Ints,
    strides: Ints = 1,
    padding: Padding = 'SAME',
    *,
    kernel_dilation: Ints = 1,
    feature_group_count: int = 1,
    sparse: bool = False) -> jax.Array | jsparse.BCOO:
  """The matrix C of a convolution; C^T is the transposed convolution's.

  Args:
    kernel: [*K, C / feature_group_count, O] array of floats or complex numbers.
    input_size: spatial size of the convolution's input, one int or one for each
      axis.
    strides: one int, or one for each spatial axis.
    padding: padding of the convolution, in the forms that `conv` takes.
    kernel_dilation: distance between taps, one int or one for each axis.
    feature_group_count: number of groups of channels.
    sparse: whether to return a `jax.experimental.sparse.BCOO` matrix instead of
      a dense array. It has one element for each product of the convolution.

  Returns:
    [coarse * O, fine * C] matrix of the kernel's dtype. `conv` of one image x
    is C @ x, where x and the result are flattened in row-major order, channels
    last.

  Raises:
    ValueError: an argument is invalid; the message names it.

  Example:
    >>> kernel = jnp.array([1., 2., 3.]).reshape(3, 1, 1)
    >>> C = tconv.conv_matrix(kernel, 5, strides=2, padding='VALID')
    >>> C
    Array([[1., 2., 3., 0., 0.],
           [0., 0., 1., 2., 3.]], dtype=float32)
    >>> y = jnp.array([1., 10.])
    >>> C.T @ y
    Array([ 1.,  2., 13., 20., 30.], dtype=float32)
    >>> tconv.conv_transpose(y.reshape(1, 2, 1), kernel, 2, 'VALID')[0, :, 0]
    Array([ 1.,  2., 13., 20., 30.], dtype=float32)
  """
  kernel = arguments.checked(
      'kernel', kernel, '[*K, C / feature_group_count, O]')
  num_axes = kernel.ndim - 2
  fine_size = geometry_lib.per_axis('input_size', input_size, num_axes, 1)
  arguments.check_kernel(feature_group_count, kernel)
  channels = kernel.shape[-2] * feature_group_count
  # Periodic padding is a matrix too: it takes each position to its source.
  position = np.arange(np.prod(fine_size, dtype=int) * channels).reshape(
      1, *fine_size, channels)
  wrapped, geometry = arguments.fine_side(
      jnp.asarray(position), kernel.shape[:-2], strides, padding,
      kernel_dilation, feature_group_count)
  source = wrapped.reshape(-1)
  if sparse:
    matrix = matrix_form.sparse_conv_matrix(kernel, geometry)
    rows, columns = matrix.indices.T
    return jsparse.BCOO(
        (matrix.data, jnp.stack([rows, source[columns]], -1)),
        shape=(matrix.shape[0], position.size))
  matrix = matrix_form.conv_matrix(kernel, geometry)
  return jnp.zeros((matrix.shape[0], position.size), matrix.dtype).at[
      :, source].add(matrix)
