"""What every form makes of its options, seen in the traced program."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import export
from jax import lax
import jax.numpy as jnp

import tconv
from tconv import dispatch
from tconv import geometry as geometry_lib
from tconv.forms import matrix

GEOMETRY = geometry_lib.conv_geometry((6, 5), (3, 2), (2, 1), 'SAME', (1, 2), 2)
X = jax.ShapeDtypeStruct((2, 6, 5, 4), jnp.bfloat16)
W = jax.ShapeDtypeStruct((3, 2, 2, 6), jnp.bfloat16)
Y = jax.ShapeDtypeStruct((2, 3, 5, 6), jnp.bfloat16)
OPERANDS = {'conv': (X, W), 'conv_transpose': (Y, W),
            'conv_kernel_grad': (X, Y)}


def products(function, *arguments):
  """The matmuls and convolutions of a traced function."""
  eqns = jax.make_jaxpr(function)(*arguments).eqns
  while any('jaxpr' in e.params for e in eqns):
    eqns = [inner for e in eqns for inner in (
        e.params['jaxpr'].eqns if 'jaxpr' in e.params else [e])]
  return [e for e in eqns if e.primitive.name in (
      'dot_general', 'conv_general_dilated')]


class FormsTest(parameterized.TestCase):

  @parameterized.product(operation=list(OPERANDS),
                         method=list(dispatch.FORMS))
  def test_options_reach_every_product(self, operation, method):
    form = functools.partial(
        dispatch.implementation(operation, method), geometry=GEOMETRY,
        precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
    self.assertEqual(jax.eval_shape(form, *OPERANDS[operation]).dtype,
                     jnp.float32)
    eqns = products(form, *OPERANDS[operation])
    self.assertNotEmpty(eqns)
    for eqn in eqns:
      self.assertEqual(eqn.params['precision'],
                       (lax.Precision.HIGHEST,) * 2)

  def test_the_matrix_holds_the_taps_whatever_the_precision(self):
    for eqn in products(
        functools.partial(matrix.conv_matrix, geometry=GEOMETRY), W):
      self.assertEqual(eqn.params['precision'], (lax.Precision.HIGHEST,) * 2)


class AutoTest(parameterized.TestCase):

  def test_each_contraction_is_chosen_for_itself(self):
    # Batch, coarse size, channels in and out, kernel, stride, groups; and the
    # forms of output, input gradient and kernel gradient on a CPU.
    for layer, *forms in (
        ((16, (4, 4), 1024, 512, 4, 2, 1), *['overlap_add'] * 3),
        ((1, (16, 16), 21, 21, 64, 32, 1), 'polyphase', 'polyphase',
         'overlap_add'),
        ((4, (32, 32), 1, 64, 4, 2, 1), *['polyphase'] * 3),
        ((4, (32, 32), 64, 64, 4, 2, 4), 'polyphase', *['overlap_add'] * 2),
        ((4, (56, 56), 128, 128, 3, 1, 128), *['taps'] * 3),
        ((4, (56, 56), 128, 128, 4, 2, 128), 'overlap_add', 'taps', 'taps'),
        ((1, (8, 8, 8), 8, 8, 6, 2, 8), *['polyphase'] * 3)):
      batch, size, fan_in, fan_out, k, stride, groups = layer
      geometry = geometry_lib.conv_transpose_geometry(
          size, (k,) * len(size), (stride,) * len(size), 'SAME',
          (1,) * len(size), groups)
      x = batch, *geometry.fine_size, fan_out
      y = batch, *size, fan_in
      w = *geometry.kernel_size, fan_out // groups, fan_in
      chosen = [dispatch.choose(operation, geometry, shapes, 'cpu')
                for operation, shapes in (
                    ('conv_transpose', (y, w)), ('conv', (x, w)),
                    ('conv_kernel_grad', (x, y)))]
      self.assertEqual(chosen, forms, layer)

  def test_many_taps_of_a_dilated_kernel_are_not_stamped(self):
    for dilation, form in ((1, 'overlap_add'), (2, 'polyphase')):
      geometry = geometry_lib.conv_transpose_geometry(
          (9, 9), (5, 5), (2, 2), 'SAME', (dilation,) * 2)
      self.assertEqual(form, dispatch.choose(
          'conv_transpose', geometry, ((4, 9, 9, 16), (5, 5, 32, 16)), 'cpu'))

  # What is left of convolutions in a training step that is lowered.
  @parameterized.parameters(
      ('cpu', 2, 1, 0), ('cpu', 2, 2, 0), ('cuda', 2, 1, 3), ('tpu', 2, 2, 3))
  def test_platform_gets_its_own_forms(self, platform, stride, groups, count):
    up = functools.partial(tconv.conv_transpose, strides=stride,
                           feature_group_count=groups)
    step = jax.jit(jax.grad(lambda y, w: (up(y, w)**2).sum(), (0, 1)))
    y, w = jnp.ones((2, 6, 6, 8)), jnp.ones((4, 4, 6, 8))
    program = export.export(step, platforms=[platform])(y, w).mlir_module()
    self.assertEqual(program.count('stablehlo.convolution'), count)


if __name__ == '__main__':
  absltest.main()
