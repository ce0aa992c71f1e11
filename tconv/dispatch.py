"""Which form computes an operation, and when.

Every operation can be computed by every form: a form's transposed convolution
is linear in the coarse array and in the kernel, so transposing it in the one
gives its convolution, and in the other its kernel gradient.
"""

from collections.abc import Callable
import math

import jax

from tconv.forms import lax as lax_form
from tconv.forms import matrix
from tconv.forms import overlap_add
from tconv.forms import polyphase
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
}
METHODS = (*FORMS, 'auto')
# One product for each tap is a long program; this many compile in a second.
_MANY_TAPS = 64
# All slices together, in elements; above, the allocator asks for new pages.
_MANY_COPIES = 8e6


def choose(operation: str, geometry: Geometry, shapes: tuple, platform: str
           ) -> str:
  """The form that `auto` stands for.

  Accelerators have fast convolutions of their own, as long as the kernel's
  gradient is that of an ordinary convolution (reasoned, not measured). On a
  CPU, XLA multiplies matrices as fast as anybody and is slow at most else. The
  measurements behind this are in docs/benchmarks/cpu.md.

  Args:
    operation: 'conv', 'conv_transpose' or 'conv_kernel_grad'.
    geometry: sizes that relate the arrays.
    shapes: those of the two operands, as in `trilinear.contract`.
    platform: 'cpu' or 'accelerator'.

  Returns:
    A key of `FORMS`.
  """
  if platform != 'cpu':
    return 'lax' if operation == 'conv_transpose' else 'vjp'
  (batch, *_, last), others = shapes
  groups = geometry.feature_group_count
  coarse = others[-1] // groups  # Channels of a group, on either side.
  fine = others[-2] if operation == 'conv_transpose' else last // groups
  stride = math.prod(geometry.strides)
  taps = math.prod(geometry.kernel_size)
  overlap = taps / stride  # Patches that meet at a fine position.

  if groups > 1:  # XLA is slow at these, hundreds of times at kernel gradients.
    if operation == 'conv_transpose' and stride > 1:
      return 'overlap_add' if coarse == 1 else 'polyphase'
    dense = operation == 'conv' and fine * coarse > 1
    return 'polyphase' if dense or taps > _MANY_TAPS else 'taps'
  if stride * fine >= 16 * coarse:  # Patches of the coarse grid are far less.
    return 'polyphase'
  if operation == 'conv_transpose':
    if stride == 1:
      return 'lax'
    return 'overlap_add' if overlap <= _MANY_TAPS else 'polyphase'
  if operation == 'conv':
    even = all(k % s == 0 for k, s in zip(
        geometry.kernel_size, geometry.strides))
    return 'overlap_add' if even and overlap <= 4 else 'vjp'
  if geometry.num_axes < 3 and (overlap > 4 or fine <= 4):
    return 'vjp'
  sizes = (batch, *geometry.coarse_size)
  if not all(isinstance(size, int) for size in sizes):
    return 'overlap_add'  # Good for any size, as these may come to be.
  positions = math.prod(sizes)
  copies = positions * taps * fine > _MANY_COPIES
  return ('overlap_add' if copies or positions < 512 or taps > _MANY_TAPS
          else 'taps')


def implementation(operation: str, method: str) -> Callable[..., jax.Array]:
  """The function by which a form computes an operation.

  Args:
    operation: 'conv', 'conv_transpose' or 'conv_kernel_grad'.
    method: a key of `FORMS`.

  Returns:
    A function of (array, array, geometry, *, precision,
    preferred_element_type) in channels-last layout: (x, kernel) for `conv`,
    (y, kernel) for `conv_transpose` and (x, y) for `conv_kernel_grad`.
  """
  form = FORMS[method]
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
