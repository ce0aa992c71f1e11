"""Reading and checking of the arguments that the operations share.

An invalid argument raises a ValueError that names it, the value that was passed
and what would be valid.
"""

from collections.abc import Collection
import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tconv import arrays
from tconv import dispatch
from tconv import geometry as geometry_lib
from tconv import sharding
from tconv.forms import vjp

DimensionNumbers = (
    tuple[str, str, str] | lax.ConvDimensionNumbers | None)

# Zero to three spatial axes.
RANKS = (2, 3, 4, 5)


def layouts(inputs, dimension_numbers: DimensionNumbers):
  """Axis orders that take inputs, kernel and result to channels last."""
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


def image_and_kernel(inputs, kernel, dimension_numbers: DimensionNumbers,
                     groups: int, *, transposed: bool = False):
  """Both arrays in channels-last layout, and the axis order of the result."""
  inputs = checked('inputs', inputs, '[N, *size, C]')
  kernel = checked('kernel', kernel, '[*K, C / feature_group_count, O]')
  check_ranks('inputs', inputs, 'kernel', kernel)
  check_dtype('kernel', kernel, 'inputs', inputs)
  to_inputs, to_kernel, to_result = layouts(inputs, dimension_numbers)
  inputs, kernel = inputs.transpose(to_inputs), kernel.transpose(to_kernel)
  check_kernel(groups, kernel)
  _check_channels(inputs, kernel, groups, transposed,
                  is_default=dimension_numbers is None)
  return inputs, kernel, to_result


def checked(name: str, array, layout: str = '',
            ranks: Collection[int] = RANKS) -> jax.Array:
  """Reads an argument as a JAX array of a valid dtype and rank."""
  array = arrays.read(name, array, ranks, layout)
  if not jnp.issubdtype(array.dtype, jnp.inexact):
    raise ValueError(
        f'{name} must be of a floating or complex dtype; got {array.dtype}. '
        f'Convert it, as in {name}.astype(jnp.float32).')
  return array


def check_ranks(name: str, inputs: jax.Array, kernel_name: str,
                kernel: jax.Array) -> None:
  """Checks that inputs and kernel have the same number of axes."""
  arrays.check_batch(name, inputs, kernel_name, kernel)
  if kernel.ndim != inputs.ndim:
    raise ValueError(
        f'{kernel_name} must have as many axes as {name}, {inputs.ndim}; got '
        f'{kernel_name} of shape {kernel.shape} and {name} of shape '
        f'{inputs.shape}.')


def check_dtype(name: str, array: jax.Array, other: str,
                like: jax.Array) -> None:
  """Checks that two arguments have the same dtype."""
  if array.dtype != like.dtype:
    raise ValueError(
        f'{name} must have the dtype of {other}, {like.dtype}; got '
        f'{array.dtype}. Convert either, as in {name}.astype({other}.dtype).')


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
    # As in lax, a surrounding `jax.default_matmul_precision` is read now: the
    # block may have ended when the primitive is lowered or transposed.
    # pyrefly: ignore[missing-attribute]
    default = jax.config.jax_default_matmul_precision
    try:
      return default and lax.Precision(default)
    except ValueError:  # The name of a matmul algorithm, which matmuls read.
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
  """The dtype of the result: that of inputs, or a wider one of its kind."""
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
      'preferred_element_type must be real or complex like the dtype of '
      'inputs, be enabled (float64 and complex128 need jax_enable_x64), and '
      f'hold every value of {dtype}; got {preferred}.')


def check_groups(groups: int, name: str, channels: int) -> None:
  """Checks that the groups divide the channels of an argument."""
  if not isinstance(groups, (int, np.integer)) or groups < 1:
    raise ValueError(
        f'feature_group_count must be an int >= 1; got {groups!r}.')
  if channels % groups:
    raise ValueError(
        f'{name} must have a number of channels divisible by '
        f'feature_group_count {groups}; got {channels}.')


def check_kernel(groups: int, kernel: jax.Array) -> None:
  """Checks the shape of a [*K, C / groups, O] kernel."""
  check_groups(groups, 'kernel', kernel.shape[-1])
  if 0 in kernel.shape[:-2]:
    raise ValueError(
        f'kernel must have at least one tap on each axis; got {kernel.shape}.')


def _check_channels(inputs: jax.Array, kernel: jax.Array, groups: int,
                    transposed: bool, is_default: bool) -> None:
  """Checks that inputs have the channels that the kernel reads.

  Args:
    inputs: [N, *size, C] array, or [N, *size, O] if `transposed`.
    kernel: [*K, C / groups, O] array.
    groups: number of groups of channels.
    transposed: whether the convolution goes from O to C channels.
    is_default: whether the caller uses the default layouts. Only then can a
      wrong layout be recognized.

  Raises:
    ValueError: the numbers of channels differ.
  """
  *taps, fine, coarse = kernel.shape
  fine *= groups
  expected, other = (coarse, fine) if transposed else (fine, coarse)
  channels = inputs.shape[-1]
  if channels == expected:
    return
  meaning = ('O of the kernel [*K, C / feature_group_count, O]' if transposed
             else 'C of the kernel [*K, C / feature_group_count, O]')
  hints = ''
  if is_default:
    if taps and inputs.shape[1] == expected:
      axes = 'DHW'[-len(taps):]
      hints += (
          ' The inputs look channels first: pass dimension_numbers='
          f"('NC{axes}', '{axes}IO', 'NC{axes}'), or inputs.transpose("
          f'{(0, *range(2, inputs.ndim), 1)}).')
    if channels == other:
      hints += (
          ' The kernel looks like one from in to out channels, as in Flax and '
          'lax; conv_transpose takes that of the forward convolution: pass '
          'tconv.dialects.kernel_from_flax(kernel).' if transposed else
          ' The last two axes of the kernel seem to be swapped: pass '
          'kernel.swapaxes(-1, -2).')
    # PyTorch's [I, O / groups, *K] or, not transposed, [O, I / groups, *K].
    theirs = kernel.shape[0] if transposed else kernel.shape[1] * groups
    if channels == theirs and max(kernel.shape[2:]) < min(kernel.shape[:2]):
      hints += (' The kernel looks like a weight of PyTorch: pass '
                'tconv.dialects.kernel_from_torch(kernel).')
  raise ValueError(
      f'inputs must have {expected} channels, {meaning}; got {channels}, with '
      f'inputs of shape {inputs.shape}, kernel of shape {kernel.shape} and '
      f'feature_group_count {groups}'
      f'{"" if is_default else ", shapes brought to channels last"}.{hints}')


def fine_side(inputs, kernel_size, strides, padding, kernel_dilation, groups):
  """The fine array, padded if the padding is periodic, and the geometry."""
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
  """Pads an image periodically."""
  for axis, (lo, hi) in enumerate(pads, start=1):
    size = x.shape[axis]
    arange = np.arange if isinstance(size, int) else jnp.arange
    x = jnp.take(x, arange(-lo, size + hi) % size, axis, mode='clip')
  return x


@sharding.keeping_batch
def unwrap(x, pads, size):
  """The transpose of `_wrap_around`: sums the copies of each position."""
  if not all(isinstance(n, int) for n in size):
    # The number of copies is unknown.
    return vjp.pull_back(functools.partial(_wrap_around, pads=pads),
                         (x.shape[0], *size, x.shape[-1]), x)
  for axis, ((lo, hi), n) in enumerate(zip(pads, size), start=1):
    # Copies of a position are n apart, and the image starts at `lo`.
    whole = [(0, 0)] * x.ndim
    whole[axis] = (-lo % n, -hi % n)
    x = jnp.pad(x, whole)
    x = x.reshape(*x.shape[:axis], x.shape[axis] // n, n, *x.shape[axis + 1:])
    x = x.sum(axis)
  return x
