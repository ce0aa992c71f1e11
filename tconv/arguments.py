"""Reading and checking the arguments that the operations share.

Two kinds of check: chex for ranks, ValueError for all else. Every message names
the argument, says what came, and what would be valid.
"""

import functools

import chex
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tconv import dispatch
from tconv import geometry as geometry_lib
from tconv import sharding
from tconv.forms import vjp

DimensionNumbers = (
    tuple[str, str, str] | lax.ConvDimensionNumbers | None)

RANKS = ('{} must have 2 to 5 axes: a batch or one channel axis, up to three '
         'spatial axes, channels.')


def layouts(inputs, dimension_numbers: DimensionNumbers):
  """Axis orders that bring inputs, kernel and result to channels last."""
  chex.assert_rank(inputs, {2, 3, 4, 5}, custom_message=RANKS.format('inputs'))
  num_axes = inputs.ndim - 2
  if dimension_numbers is None:
    identity = tuple(range(num_axes + 2))
    return identity, identity, identity
  try:
    shape = (1,) * (num_axes + 2)
    numbers = lax.conv_dimension_numbers(shape, shape, dimension_numbers)
    if any(sorted(spec) != list(range(len(shape))) for spec in numbers):
      raise ValueError('not a permutation of the axes')
  except (TypeError, ValueError, IndexError) as error:
    raise ValueError(
        'dimension_numbers must be three layouts such as ("NHWC", "HWIO", '
        f'"NHWC") with {num_axes} spatial axes, or lax.ConvDimensionNumbers; '
        f'got {dimension_numbers!r}.') from error
  features = lambda spec: (spec[0], *spec[2:], spec[1])
  out, in_, *spatial = numbers.rhs_spec
  return (features(numbers.lhs_spec), (*spatial, in_, out),
          features(numbers.out_spec))


def image_and_kernel(inputs, kernel, dimension_numbers: DimensionNumbers):
  """Both arrays channels last, and the axis order that the result must have."""
  inputs = checked('inputs', inputs)
  to_inputs, to_kernel, to_result = layouts(inputs, dimension_numbers)
  kernel = checked('kernel', kernel, like=inputs)
  return inputs.transpose(to_inputs), kernel.transpose(to_kernel), to_result


def checked(name: str, array, like: jax.Array | None = None) -> jax.Array:
  """The argument as a JAX array, of a legal dtype and of the rank of `like`."""
  try:
    array = jnp.asarray(array)
  except (TypeError, ValueError) as error:
    raise ValueError(f'{name} must be an array; got {array!r}.') from error
  if not jnp.issubdtype(array.dtype, jnp.inexact):
    raise ValueError(
        f'{name} must be of a floating or complex dtype; got {array.dtype}. '
        'Convert it, as in x.astype(jnp.float32).')
  if like is not None:
    chex.assert_rank(array, like.ndim, custom_message=(
        f'{name} must have as many axes as inputs, {like.ndim}.'))
    if array.dtype != like.dtype:
      raise ValueError(
          f'{name} must have the dtype of inputs, {like.dtype}; got '
          f'{array.dtype}.')
  return array


def options(inputs, precision, preferred_element_type, method) -> dict:
  """Checks the options that all operations share."""
  if method not in dispatch.METHODS:
    raise ValueError(
        f'method must be one of {", ".join(dispatch.METHODS)}; got {method!r}.')
  return dict(precision=_precision(precision), method=method,
              dtype=_result_dtype(inputs.dtype, preferred_element_type))


def _precision(precision: lax.PrecisionLike):
  """Reads `precision` as None, a `lax.Precision` or a pair of them."""
  if precision is None:
    # As lax does: a surrounding `jax.default_matmul_precision` is read now, as
    # it may be over when the primitive is lowered or transposed.
    # pyrefly: ignore[missing-attribute]
    default = jax.config.jax_default_matmul_precision
    try:
      return default and lax.Precision(default)
    except ValueError:  # The name of an algorithm for matmuls: left to them.
      return None
  try:
    if not isinstance(precision, (tuple, list)):
      return lax.Precision(precision)
    lhs, rhs = (None if p is None else lax.Precision(p) for p in precision)
    return lhs, rhs
  except (TypeError, ValueError) as error:
    raise ValueError(
        'precision must be None, a jax.lax.Precision or its name, or a pair of '
        f'them; got {precision!r}.') from error


def _result_dtype(dtype: np.dtype, preferred) -> np.dtype:
  """The dtype to return: that of inputs, or a wider one of the same kind."""
  if preferred is None:
    return dtype
  try:
    wanted = jnp.dtype(preferred)
  except TypeError:
    wanted = None
  with jax.numpy_dtype_promotion('standard'):
    if (wanted is not None
        and jax.dtypes.canonicalize_dtype(wanted) == wanted
        and (wanted.kind == 'c') == (dtype.kind == 'c')
        and jnp.promote_types(wanted, dtype) == wanted):
      return wanted
  raise ValueError(
      'preferred_element_type must be real or complex as the dtype of inputs '
      'is, be enabled (float64 and complex128 need jax_enable_x64), and hold '
      f'every value of {dtype}; got {preferred}.')


def check_groups(groups: int, name: str, channels: int) -> None:
  """Checks that the groups divide the channels of an argument."""
  if not isinstance(groups, (int, np.integer)) or groups < 1:
    raise ValueError(
        f'feature_group_count must be an int >= 1; got {groups!r}.')
  if channels % groups:
    raise ValueError(
        f'{name} must have a number of channels divisible by '
        f'feature_group_count {groups}; got {channels}.')


def check_channels(groups: int, kernel: jax.Array, *,
                   fine: int | None = None, coarse: int | None = None) -> None:
  """Checks the channels of inputs, on either side, against the kernel's."""
  check_groups(groups, 'kernel', kernel.shape[-1])
  if 0 in kernel.shape[:-2]:
    raise ValueError(
        f'kernel must have at least one tap on each axis; got {kernel.shape}.')
  if fine is not None and fine != kernel.shape[-2] * groups:
    raise ValueError(
        'inputs must have as many channels as the kernel\'s I * '
        f'feature_group_count = {kernel.shape[-2]} * {groups}; got {fine}.')
  if coarse is not None and coarse != kernel.shape[-1]:
    raise ValueError(
        'inputs of a transposed convolution must have as many channels as the '
        f'kernel\'s O = {kernel.shape[-1]}; got {coarse}.')


def fine_side(inputs, kernel_size, strides, padding, kernel_dilation, groups):
  """The fine array, wrapped around if need be, and the geometry it fixes."""
  num_axes = len(kernel_size)
  strides = geometry_lib.per_axis('strides', strides, num_axes, 1)
  dilation = geometry_lib.per_axis(
      'kernel_dilation', kernel_dilation, num_axes, 1)
  if geometry_lib.explicit_padding(padding, num_axes) == 'CIRCULAR':
    inputs = _wrap_around(
        inputs, geometry_lib.circular_pads(kernel_size, dilation))
    padding = 'VALID'
  return inputs, geometry_lib.conv_geometry(
      inputs.shape[1:-1], kernel_size, strides, padding, dilation, groups)


@sharding.keeping_batch
def _wrap_around(x, pads):
  """Repeats the image around itself."""
  for axis, (lo, hi) in enumerate(pads, start=1):
    size = x.shape[axis]
    arange = np.arange if isinstance(size, int) else jnp.arange
    x = jnp.take(x, arange(-lo, size + hi) % size, axis, mode='clip')
  return x


@sharding.keeping_batch
def unwrap(x, pads, size):
  """The transpose of `_wrap_around`: adds up what stems from one position."""
  if not all(isinstance(n, int) for n in size):
    # How many copies there are is not known.
    return vjp.pull_back(functools.partial(_wrap_around, pads=pads),
                         (x.shape[0], *size, x.shape[-1]), x)
  for axis, ((lo, hi), n) in enumerate(zip(pads, size), start=1):
    # Copies of one position are n apart, and the image starts after `lo`.
    whole = [(0, 0)] * x.ndim
    whole[axis] = (-lo % n, -hi % n)
    x = jnp.pad(x, whole)
    x = x.reshape(*x.shape[:axis], x.shape[axis] // n, n, *x.shape[axis + 1:])
    x = x.sum(axis)
  return x
