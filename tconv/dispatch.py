"""Which form computes an operation, and when.

Every operation can be computed by every form: a form's transposed convolution
is linear in the coarse array and in the kernel, so transposing it in the one
gives its convolution, and in the other its kernel gradient.
"""

from collections.abc import Callable

import jax

from tconv.forms import lax as lax_form
from tconv.forms import matrix
from tconv.forms import overlap_add
from tconv.forms import polyphase
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
}
METHODS = (*FORMS, 'auto')


def choose(operation: str, geometry: Geometry, platform: str) -> str:
  """The form that `auto` stands for.

  Accelerators have fast convolutions of their own, as long as the kernel's
  gradient is that of an ordinary convolution. On a CPU, XLA is quick only at
  ordinary convolutions: with zeros between the inputs, or for the kernel's
  gradient with groups, one matmul with all patches is faster by far. At stride
  1 there are no zeros. The evidence is in `make bench` and in CHANGELOG.md.

  Args:
    operation: 'conv', 'conv_transpose' or 'conv_kernel_grad'.
    geometry: sizes that relate the arrays.
    platform: 'cpu' or 'accelerator'.

  Returns:
    A key of `FORMS`.
  """
  strided = any(s > 1 for s in geometry.strides)
  if operation == 'conv_transpose':
    return 'overlap_add' if platform == 'cpu' and strided else 'lax'
  if operation == 'conv_kernel_grad' and platform == 'cpu':
    grouped = geometry.feature_group_count > 1
    return 'overlap_add' if strided or grouped else 'vjp'
  return 'vjp'


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
