"""What calls of the frameworks mean, by tconv's dialects.

A call is read from its source code, as it stands on the page: a name such as
`nn.ConvTranspose2d` records its arguments here, and the dialect of its
framework then gives the geometry or the values.
"""

import ast
import functools
import types
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from tconv import dialects
from tconv import geometry
from tconv import layers
from tconv import operations
from tconv import trilinear

# Arguments by position.
NAMES = {
    'torch': ('in_channels', 'out_channels', 'kernel_size', 'stride',
              'padding', 'output_padding', 'groups', 'bias', 'dilation'),
    'onnx': ('op_type', 'inputs', 'outputs'),
    'keras': ('filters', 'kernel_size', 'strides', 'padding'),
    'flax': ('in_features', 'out_features', 'kernel_size', 'strides'),
    'lax': ('lhs', 'rhs', 'strides', 'padding'),
    'tconv': ('inputs', 'kernel', 'strides', 'padding'),
}
# Those that do not concern padding, or are the shape of an array here.
OTHERS = {'in_channels', 'out_channels', 'op_type', 'inputs', 'outputs',
          'filters', 'in_features', 'out_features', 'lhs', 'rhs', 'kernel',
          'rngs', 'kernel_size'}


class Call(NamedTuple):
  """A call of a framework, by the names of its arguments."""

  framework: str
  arguments: dict

  def __call__(self, x, output_size):
    """Calls a layer of PyTorch with the size of the result."""
    return self._replace(arguments=self.arguments | dict(
        output_size=output_size))


def from_source(text):
  """Reads a call from its source code."""
  recorder = lambda framework: lambda *args, **kwargs: Call(
      framework, dict(zip(NAMES[framework], args)) | kwargs)
  space = types.SimpleNamespace
  return eval(text, {
      'nn': space(**{f'ConvTranspose{n}d': recorder('torch') for n in (
          1, 2, 3)}),
      'onnx': space(helper=space(make_node=recorder('onnx'))),
      'keras': space(layers=space(**{
          f'Conv{n}DTranspose': recorder('keras') for n in (1, 2, 3)})),
      'nnx': space(ConvTranspose=recorder('flax')),
      'lax': space(conv_transpose=recorder('lax')),
      'tconv': space(conv_transpose=recorder('tconv')),
      **dict.fromkeys(('x', 'kernel', 'rngs', 'in_channels', 'out_channels',
                       'in_features', 'out_features', 'filters', 'i', 'o')),
  })


def from_state(state, names):
  """Reads a call from the texts of the form; Python reads the numbers.

  Args:
    state: texts by field.
    names: names of the call's arguments by field.

  Returns:
    The call, the size of the input and the kernel size.
  """
  values = {}
  for field, text in state.items():
    try:
      values[field] = ast.literal_eval(text)
    except (SyntaxError, ValueError):
      values[field] = text
  num_axes = int(state['axes'])
  size, kernel_size = (
      geometry.per_axis(names[field], values[field], num_axes, 1)
      for field in ('input', 'kernel'))
  if state['call'] == 'lax':  # Its arguments are sequences.
    for field in ('stride', 'dilation'):
      if isinstance(values[field], int):
        values[field] = (values[field],) * num_axes
  arguments = {name: values[field] for field, name in names.items()
               if state.get(field) and ' ' not in name}
  return Call(state['call'], arguments), size, kernel_size


def apply(call, x, kernel):
  """Applies a call by the dialect of its framework.

  Args:
    call: the call.
    x: [N, *size, I] array.
    kernel: [*K, O, I] kernel of the forward convolution.

  Returns:
    [N, *fine, O] array.

  Raises:
    ValueError: the call is illegal.
  """
  kernel_size, num_axes = kernel.shape[:-2], kernel.ndim - 2
  options = {name: value for name, value in call.arguments.items()
             if name not in OTHERS}
  if 'kernel_size' in call.arguments:
    assert geometry.per_axis('kernel_size', call.arguments['kernel_size'],
                             num_axes, 1) == kernel_size
  first = lambda array: jnp.moveaxis(array, -1, 1)
  last = lambda array: jnp.moveaxis(array, 1, -1)
  if call.framework == 'torch':
    size = options.pop('output_size', None)
    if size is not None:  # As `torch.nn._ConvTransposeNd._output_padding`.
      options['output_padding'] = _output_padding(
          x.shape[1:-1], kernel_size, size, options)
    return last(dialects.torch_conv_transpose(
        first(x), dialects.kernel_to_torch(kernel), **options))
  if call.framework == 'onnx':
    return last(dialects.onnx_conv_transpose(
        first(x), dialects.kernel_to_onnx(kernel), **options))
  if call.framework == 'keras':
    _check_keras_layer(num_axes, **options)
    return dialects.keras_conv_transpose(x, kernel, **options)
  if call.framework == 'flax':
    layer = types.SimpleNamespace(**dict(
        strides=1, padding='SAME', kernel_dilation=1, feature_group_count=1,
        output_padding=0, mask=None, equal_phases=False, precision=None,
        preferred_element_type=None, method='auto', transpose_kernel=False,
        use_consistent_padding=False) | options)
    return layers.conv_transpose(
        layer, x, dialects.kernel_to_flax(kernel), None,
        lambda *arrays: arrays, None)
  if call.framework == 'lax':
    if 'strides' not in options:
      options['strides'] = (1,) * num_axes
    return dialects.lax_conv_transpose(
        x, dialects.kernel_to_flax(kernel), **{'padding': ''} | options)
  return operations.conv_transpose(x, kernel, **options)


def meaning(call, size, kernel_size):
  """The geometry of a call of inputs of a size; raises as `apply` does."""
  key = call.framework, repr(call.arguments), size, kernel_size
  if key not in _MEANINGS:
    _MEANINGS[key] = _trace(call, size, kernel_size)
  if isinstance(_MEANINGS[key], ValueError):
    raise _MEANINGS[key]
  return _MEANINGS[key]


_MEANINGS = {}  # Geometries and errors.


class _Found(Exception):
  """The geometry, at the place where the result would be computed."""


def _trace(call, size, kernel_size):
  def stop(*unused_arrays, geometry, **unused_options):
    raise _Found(geometry)

  shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, np.float32)
  with mock.patch.object(trilinear, 'contract', stop):
    try:
      jax.eval_shape(functools.partial(apply, call), shape(1, *size, 1),
                     shape(*kernel_size, 1, 1))
    except _Found as found:
      return found.args[0]
    except ValueError as error:
      return error
  raise AssertionError(f'{call} computes nothing.')


def _output_padding(size, kernel_size, output_size, options):
  each = lambda name, default: geometry.per_axis(
      name, options.get(name, default), len(size), default)
  smallest = tuple(
      (n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in zip(
          size, each('stride', 1), each('padding', 0), each('dilation', 1),
          kernel_size))
  wanted = geometry.per_axis('output_size', output_size, len(size), 1)
  if not all(low <= w < low + s for low, w, s in zip(
      smallest, wanted, each('stride', 1))):
    raise ValueError(f'output_size must be {smallest} or a little more.')
  return tuple(w - low for low, w in zip(smallest, wanted))


def _check_keras_layer(num_axes, strides=1, dilation_rate=1,
                       output_padding=None, **unused_options):
  """What the layers refuse and the op does not."""
  strides = geometry.per_axis('strides', strides, num_axes, 1)
  dilation = geometry.per_axis('dilation_rate', dilation_rate, num_axes, 1)
  if max(strides) > 1 and max(dilation) > 1:
    raise ValueError('dilation_rate must be 1 with strides.')
  if output_padding is not None:
    extra = geometry.per_axis('output_padding', output_padding, num_axes, 0)
    if any(a >= s for a, s in zip(extra, strides)):
      raise ValueError('output_padding must be below the strides.')
