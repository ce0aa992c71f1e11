"""The choice of the form that computes an operation.

`choose` is the rule behind `method='auto'`; `compute` applies a form. Every
form can compute every operation: its `conv_transpose` is linear in the coarse
array and in the kernel. Transposing it with respect to the first gives `conv`,
and with respect to the second `conv_kernel_grad`.
"""

from collections.abc import Callable
import functools
import math
import operator

import jax
import numpy as np

from tconv.forms import cudnn
from tconv.forms import lax as lax_form
from tconv.forms import matrix
from tconv.forms import overlap_add
from tconv.forms import polyphase
from tconv.forms import residues
from tconv.forms import taps
from tconv.forms import vjp
from tconv.forms import zero_insertion
from tconv.geometry import Geometry

FORMS = {
    'matrix': matrix,
    'vjp': vjp,
    'lax': lax_form,
    'zero_insertion': zero_insertion,
    'polyphase': polyphase,
    'overlap_add': overlap_add,
    'taps': taps,
    'cudnn': cudnn,
    'residues': residues,
}
METHODS = (*FORMS, 'auto')
# Forms that call the platform's own convolutions.
_CONVOLUTIONS = ('cudnn', 'lax', 'vjp')
PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
# Largest number of taps of depthwise kernels to write out as one product each.
# A program of this length compiles in up to two seconds.
_MANY_TAPS = 100
# Largest number of shifted arrays to add at once, for depthwise kernels.
_MANY_TERMS = 16
# Multiply-adds on a CPU that take as long as copying one element: of patches of
# the fine grid, of y and of the kernel in 'overlap_add'; of patches of the
# coarse grid, of x and of the kernel in 'polyphase'. They were fitted to the
# times of 110 layers on two cores, of which 80 were random.
_COPIES = {
    'conv_transpose': {'overlap_add': (60, 0, 0), 'polyphase': (70, 100, 400)},
    'conv': {'overlap_add': (20, 135, 0), 'polyphase': (95, 65, 55)},
    'conv_kernel_grad': {'overlap_add': (22, 80, 10),
                         'polyphase': (55, 135, 40)},
}
# Largest accepted ratio of all multiply-adds to those that are not with zeros.
_WASTE = 1.2


def choose(operation: str, geometry: Geometry, shapes: tuple, platform: str
           ) -> str:
  """Chooses the form for `method='auto'`.

  Args:
    operation: 'conv', 'conv_transpose' or 'conv_kernel_grad'.
    geometry: sizes that relate the arrays, after `Geometry.trimmed`.
    shapes: shapes of the two operands, as in `trilinear.contract`.
    platform: one of `PLATFORMS`, or the name of another platform.

  Returns:
    A key of `FORMS`.
  """
  if platform == 'cpu':
    return _choose_cpu(operation, geometry, shapes)
  if platform in ('cuda', 'rocm'):
    return _choose_gpu(operation, geometry, shapes)
  # On a TPU, inserted zeros cost nothing (docs/accelerators.md).
  return 'lax' if operation == 'conv_transpose' else 'vjp'


def _choose_gpu(operation: str, geometry: Geometry, shapes: tuple) -> str:
  """The rule for GPUs. It rests on compiled programs, not on measured times.

  cuDNN has all three operations, but XLA cannot use all of them: groups and
  dilated kernels work in the forward convolution only, and backward-input is
  not recognized where the kernel is larger than the image.
  docs/accelerators.md gives the evidence.
  """
  groups = geometry.feature_group_count
  if max(geometry.dilation, default=1) > 1:
    ordinary = operation == 'conv' or max(geometry.strides) == 1
    equal_pads = all(lo == hi for lo, hi in geometry.padding)
    return 'cudnn' if ordinary and equal_pads else 'residues'
  if operation == 'conv':
    return 'cudnn'
  if groups > 1:
    if (operation == 'conv_kernel_grad'
        or max(geometry.strides, default=1) == 1):
      return 'cudnn'
    return 'overlap_add' if shapes[1][-1] == groups else 'polyphase'
  if _has_small_image(operation, geometry):
    if _border_waste(geometry) > _WASTE:
      return 'overlap_add'
    return 'polyphase'
  return 'cudnn'


def _has_small_image(operation: str, geometry: Geometry) -> bool:
  """Whether XLA would swap image and kernel, because the image is smaller."""
  axes = list(zip(geometry.kernel_size, geometry.coarse_size, geometry.strides,
                  geometry.padding))
  if not all(isinstance(c, int) for _, c, _, _ in axes):
    return False
  if operation == 'conv_kernel_grad':
    return all(c <= k for k, c, _, _ in axes)
  # XLA does not count axes that it mistakes for groups.
  counted = [(k, c) for k, c, s, pads in axes
             if (k, s, pads) != (c, 1, (c - 1, c - 1))]
  return math.prod(k for k, _ in counted) > math.prod(c for _, c in counted)


def _border_waste(geometry: Geometry) -> float:
  """Ratio of all multiply-adds of `polyphase` to the useful ones."""
  return math.prod(
      (-(-(lo + f) // s) - lo // s) * -(-k // s) * s / (c * k)
      for k, c, s, f, (lo, _) in zip(
          geometry.kernel_size, geometry.coarse_size, geometry.strides,
          geometry.fine_size, geometry.padding))


def _choose_cpu(operation: str, geometry: Geometry, shapes: tuple) -> str:
  """The rule for CPUs: the form with the least estimated cost.

  docs/benchmarks/random.md shows how far the choice is from the best form.
  """
  (batch, *_, last), others = shapes
  groups = geometry.feature_group_count
  coarse = others[-1] // groups  # Channels of a group, on either side.
  fine = others[-2] if operation == 'conv_transpose' else last // groups
  if groups > 1 and fine == coarse == 1:
    return _choose_cpu_depthwise(operation, geometry)
  sizes = (batch, *geometry.coarse_size)
  if not all(isinstance(size, int) for size in sizes):
    return 'overlap_add'  # Symbolic sizes: this form suits every size.
  costs = _costs(operation, geometry, math.prod(sizes), fine, coarse)
  return min(costs, key=lambda form: costs[form])


def _choose_cpu_depthwise(operation: str, geometry: Geometry) -> str:
  """The rule for depthwise kernels, whose products are elementwise."""
  taps = math.prod(geometry.kernel_size)
  if operation == 'conv_transpose' and math.prod(geometry.strides) > 1:
    # The number of arrays that are added.
    terms = taps if max(geometry.dilation) > 1 else _shifts(geometry)
    return 'polyphase' if terms > _MANY_TERMS else 'overlap_add'
  return 'polyphase' if taps > _MANY_TAPS else 'taps'


def _costs(operation: str, geometry: Geometry, positions: int, fine: int,
           coarse: int) -> dict[str, float]:
  """Estimates the cost of forms on a CPU, in multiply-adds of a matmul.

  A matmul is fast. Copying an element to or from its operands takes as long as
  tens of multiply-adds, so that a form is good if it copies little.

  Args:
    operation: 'conv', 'conv_transpose' or 'conv_kernel_grad'.
    geometry: sizes that relate the arrays.
    positions: number of coarse positions of all images.
    fine: number of channels of a group on the fine grid.
    coarse: number of channels of a group on the coarse grid.

  Returns:
    The cost of 'overlap_add' and of 'polyphase', for each group.
  """
  taps, phases = math.prod(geometry.kernel_size), math.prod(geometry.strides)
  shifts = _shifts(geometry)
  patches, windows = positions * taps * fine, positions * shifts * coarse
  x, y = positions * phases * fine, positions * coarse
  if operation == 'conv_transpose' and max(geometry.dilation, default=1) > 1:
    patches *= phases  # Taps are added one by one, each to the whole grid.
  copied = {'overlap_add': (patches, y, taps * fine * coarse),
            'polyphase': (windows, x, shifts * phases * fine * coarse)}
  if operation == 'conv_transpose':
    products = {'overlap_add': y * _columns(taps * fine),
                'polyphase': windows * _columns(phases * fine)}
  else:
    products = {'overlap_add': patches * _columns(coarse),
                'polyphase': x * _columns(shifts * coarse)}
  return {
      form: products[form] + sum(map(operator.mul, factors, copied[form]))
      for form, factors in _COPIES[operation].items()}


def _shifts(geometry: Geometry) -> int:
  """Number of coarse positions that reach the same fine position."""
  return math.prod(-(-extent // stride) for extent, stride in zip(
      geometry.effective_kernel_size, geometry.strides))


def _columns(count: int) -> int:
  """Columns that a matmul computes: vector registers hold 16 float32."""
  return -(-count // 16) * 16


def compute(operation: str, method: str, platform: str, lhs: jax.Array,
            rhs: jax.Array, geometry: Geometry, *, precision, dtype
            ) -> jax.Array:
  """Computes an operation with a form, with the options that suit a platform.

  float16 and bfloat16 accumulate in float32. The convolutions of accelerators
  do so by themselves and are called for a result in the operands' dtype. If a
  float32 result were requested, XLA would convert the operands to float32 too,
  and the speed and memory advantage of the half types would be lost.

  Args:
    operation: 'conv', 'conv_transpose' or 'conv_kernel_grad'.
    method: a key of `FORMS`.
    platform: one of `PLATFORMS`, or the name of another platform.
    lhs: first operand, as in `trilinear.contract`.
    rhs: second operand.
    geometry: sizes that relate the arrays, after `Geometry.trimmed`.
    precision: hashable `jax.lax.PrecisionLike`.
    dtype: dtype of the result; at least as wide as that of the operands.

  Returns:
    The result of the operation.
  """
  wide, options = dtype, {}
  if dtype.itemsize < 4:
    wide = np.dtype('float32')
  if method == 'residues':  # The form of the undilated operation decides.
    wide = dtype
  elif platform != 'cpu':
    if (method, operation) == ('polyphase', 'conv_transpose'):
      wide, options = dtype, {'dense': vjp, 'split': True}
    elif method in ('overlap_add', 'polyphase'):
      options = {'for_cpu': False}
    elif method in _CONVOLUTIONS:
      wide = dtype
  return implementation(operation, method, platform)(
      lhs, rhs, geometry, precision=precision, preferred_element_type=wide,
      **options).astype(dtype)


def _by_rule(platform: str, operation: str) -> Callable[..., jax.Array]:
  """A function that chooses a form by the rule and computes an operation."""

  def by_rule(lhs, rhs, geometry: Geometry, *, precision,
              preferred_element_type):
    method = choose(operation, geometry, (lhs.shape, rhs.shape), platform)
    return compute(operation, method, platform, lhs, rhs, geometry,
                   precision=precision, dtype=np.dtype(preferred_element_type))

  return by_rule


def implementation(operation: str, method: str, platform: str = 'cpu'
                   ) -> Callable[..., jax.Array]:
  """The function with which a form computes an operation.

  Args:
    operation: 'conv', 'conv_transpose' or 'conv_kernel_grad'.
    method: a key of `FORMS`.
    platform: one of `PLATFORMS`, or the name of another platform. 'residues'
      computes the undilated operation by the rule for it.

  Returns:
    A function with the signature that `tconv.forms` defines for the operation.
  """
  form = FORMS[method]
  if method == 'residues':
    return functools.partial(getattr(form, operation),
                             inner=functools.partial(_by_rule, platform))
  if hasattr(form, operation):
    return getattr(form, operation)
  transpose = {'conv': _conv_by_transposing,
               'conv_kernel_grad': _kernel_grad_by_transposing}[operation]
  return transpose(form.conv_transpose)


def _conv_by_transposing(conv_transpose):
  """x, kernel -> y, the transpose of y -> conv_transpose(y, kernel)."""

  def conv(x, kernel, geometry: Geometry, *, precision=None,
           preferred_element_type=None):
    dtype = preferred_element_type or x.dtype
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    return vjp.pull_back(
        lambda y: conv_transpose(y, kernel, geometry, precision=precision),
        (x.shape[0], *geometry.coarse_size, kernel.shape[-1]), x)

  return conv


def _kernel_grad_by_transposing(conv_transpose):
  """x, y -> kernel, the transpose of kernel -> conv_transpose(y, kernel)."""

  def conv_kernel_grad(x, y, geometry: Geometry, *, precision=None,
                       preferred_element_type=None):
    dtype = preferred_element_type or x.dtype
    x, y = x.astype(dtype), y.astype(dtype)
    channels = x.shape[-1] // geometry.feature_group_count
    return vjp.pull_back(
        lambda kernel: conv_transpose(y, kernel, geometry, precision=precision),
        (*geometry.kernel_size, channels, y.shape[-1]), x)

  return conv_kernel_grad
