"""Programs exported with symbolic sizes give what direct calls give."""

from absl.testing import absltest
import chex
from flax import nnx
import jax
from jax import export
import jax.numpy as jnp
import numpy as np

import tconv
from tests.references import integers

W = integers(1, (3, 3, 2, 2))
GROUPED = integers(2, (4, 4, 1, 2))
SYMBOLS, SHAPE = 'n, h, w, 2', (3, 7, 12, 2)
OPERATIONS = {
    'VALID': lambda x: tconv.conv(x, W, (2, 3), 'VALID'),
    'numbers': lambda x: tconv.conv(x, W, 2, ((2, -1), (0, 3))),
    'grouped': lambda x: tconv.conv(x, GROUPED, 2, feature_group_count=2),
    'up': lambda y: tconv.conv_transpose(y, W, 2),
    'up CIRCULAR': lambda y: tconv.conv_transpose(y, W, 2, 'CIRCULAR'),
    'up numbers': lambda y: tconv.conv_transpose(
        y, W, 2, ((2, -1), (0, 3)), output_padding=1),
    'up size': lambda y: tconv.conv_transpose(
        y, W, 2, output_size=[2 * n - 1 for n in y.shape[1:-1]]),
    'up grouped': lambda y: tconv.conv_transpose(
        y, GROUPED, 2, feature_group_count=2),
    'up dilated': lambda y: tconv.conv_transpose(y, W, 2, kernel_dilation=2),
    'kernel_grad': lambda x: tconv.conv_kernel_grad(
        x, tconv.conv(x, W, 2), 3, 2),
    'bicubic': lambda x: tconv.upsample(x, 2, method='bicubic'),
    'zero_order_hold': lambda x: tconv.zero_order_hold(x, 3),
    'resize_conv': lambda x: tconv.resize_conv(x, W, 2),
    'sub_pixel_conv': lambda x: tconv.sub_pixel_conv(
        x, integers(3, (3, 3, 2, 8)), 2),
    'layer': nnx.Sequential(
        tconv.nnx.ConvTranspose(2, 4, (4, 4), 2, rngs=nnx.Rngs(0)),
        nnx.leaky_relu,
        tconv.nnx.SubPixelConv(4, 1, (3, 3), 2, rngs=nnx.Rngs(1))),
} | {
    method: lambda y, method=method: tconv.conv_transpose(
        y, W, 2, method=method)
    for method in ('overlap_add', 'polyphase', 'taps', 'vjp', 'lax')}


def output_and_gradient(function):
  """Both in one program, whose compilation takes most of a test's time."""

  def both(x):
    result, pull_back = jax.vjp(function, x)
    return result, pull_back(jax.tree.map(jnp.cos, result))

  return jax.jit(both)


class SymbolicSizesTest(absltest.TestCase):

  def check(self, function, symbols, shape):
    program = output_and_gradient(function)
    exported = export.export(program)(jax.ShapeDtypeStruct(
        export.symbolic_shape(symbols), np.float32))
    x = integers(0, shape)
    # Cosines of whole numbers are not exact.
    chex.assert_trees_all_close(exported.call(x), program(x), atol=1e-4)

  def test_operations(self):
    self.check(lambda x: {name: f(x) for name, f in OPERATIONS.items()},
               SYMBOLS, SHAPE)

  def test_matrix_asks_for_known_sizes(self):
    with self.assertRaisesRegex(ValueError, 'matrix.* known'):
      self.check(lambda y: tconv.conv_transpose(y, W, 2, method='matrix'),
                 SYMBOLS, SHAPE)

  def test_accelerators_have_lowerings(self):
    shape = jax.ShapeDtypeStruct(
        export.symbolic_shape(SYMBOLS), np.float32)
    for name in ('grouped', 'up', 'up grouped'):
      exported = export.export(output_and_gradient(OPERATIONS[name]),
                               platforms=('cuda', 'rocm', 'tpu'))(shape)
      self.assertEqual(exported.platforms, ('cuda', 'rocm', 'tpu'))


if __name__ == '__main__':
  absltest.main()
