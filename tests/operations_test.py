"""The front door: layouts, dtypes, sizes, values, and its errors."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv import dispatch
from tconv import geometry as geometry_lib
from tests import references
from tests.references import integers

X, W = integers(0, (2, 6, 7, 4)), integers(1, (3, 2, 2, 6))
Y = integers(2, (2, 3, 4, 6))
GROUPED = dict(strides=2, padding='SAME', feature_group_count=2)


class LayoutTest(parameterized.TestCase):

  @parameterized.parameters(
      ('NCHW', 'OIHW', 'NCHW'), ('HWNC', 'HWOI', 'CNWH'))
  def test_all_operations_in_any_layout(self, *layouts):
    order = lambda layout, plain: tuple(plain.index(c) for c in layout)
    fine, kernel, coarse = (order(layouts[0], 'NHWC'),
                            order(layouts[1], 'HWIO'),
                            order(layouts[2], 'NHWC'))
    x, w, y = X.transpose(fine), W.transpose(kernel), Y.transpose(coarse)
    options = GROUPED | {'dimension_numbers': layouts}
    np.testing.assert_array_equal(
        tconv.conv(x, w, **options),
        tconv.conv(X, W, **GROUPED).transpose(coarse))
    np.testing.assert_array_equal(
        tconv.conv_kernel_grad(x, y, (3, 2), **options),
        tconv.conv_kernel_grad(X, Y, (3, 2), **GROUPED).transpose(kernel))
    # The transposed convolution reads the coarse side and writes the fine one.
    options['dimension_numbers'] = layouts[2], layouts[1], layouts[0]
    np.testing.assert_array_equal(
        tconv.conv_transpose(y, w, output_size=(6, 7), **options),
        tconv.conv_transpose(
            Y, W, output_size=(6, 7), **GROUPED).transpose(fine))

  def test_numbers_of_lax(self):
    x = X.transpose(0, 3, 1, 2)
    numbers = lax.conv_dimension_numbers(
        x.shape, W.shape, ('NCHW', 'HWIO', 'NHWC'))
    np.testing.assert_array_equal(
        tconv.conv(x, W, dimension_numbers=numbers, **GROUPED),
        tconv.conv(X, W, **GROUPED))


class ValuesTest(parameterized.TestCase):

  @parameterized.product(padding=['SAME', 'VALID'], stride=[1, 2, 3])
  def test_strings_equal_lax(self, padding, stride):
    y = integers(0, (2, 5, 4))
    cases = [(integers(1, (kernel, 3, 4)), dilation)
             for kernel in (1, 2, 3, 4, 5) for dilation in (1, 2)]
    ours, theirs = jax.jit(lambda y: (
        [tconv.conv_transpose(y, w, stride, padding, kernel_dilation=d)
         for w, d in cases],
        [lax.conv_transpose(
            y, w, (stride,), padding, rhs_dilation=(d,),
            dimension_numbers=('NWC', 'WIO', 'NWC'), transpose_kernel=True)
         for w, d in cases]))(y)
    chex.assert_trees_all_equal(ours, theirs)

  @parameterized.parameters(
      (1, 4, 2, 1), (1, 3, 3, 2), (5, 1, 3, 1), (5, 2, 2, 2), (5, 3, 1, 2),
      (5, 4, 3, 1), (8, 2, 3, 1), (8, 3, 2, 1), (8, 4, 1, 2), (8, 1, 1, 1))
  def test_circular_wraps_around(self, size, kernel, stride, dilation):
    x, w = integers(0, (2, size, 2)), integers(1, (kernel, 2, 3))
    options = dict(strides=stride, padding='CIRCULAR',
                   kernel_dilation=dilation)
    [wrap] = geometry_lib.circular_pads((kernel,), (dilation,))
    padded = np.pad(x, ((0, 0), wrap, (0, 0)), mode='wrap')
    geometry = geometry_lib.conv_geometry(
        padded.shape[1:-1], (kernel,), (stride,), 'VALID', (dilation,))
    y = references.conv(padded, w, geometry)

    @jax.jit
    def compute(x, w, y):
      return (tconv.conv(x, w, **options),
              tconv.conv_matrix(w, size, **options),
              tconv.conv_matrix(w, size, sparse=True, **options).todense(),
              tconv.conv_transpose(y, w, output_size=size, **options),
              tconv.conv_kernel_grad(x, y, kernel, **options))

    c = np.asarray(tconv.conv_matrix(w, size, **options))
    chex.assert_trees_all_equal(compute(x, w, y), (
        y, c, c, (y.reshape(2, -1) @ c).reshape(x.shape),
        references.conv_kernel_grad(padded, y, geometry)))
    np.testing.assert_array_equal(y.reshape(2, -1), x.reshape(2, -1) @ c.T)
    self.assertEqual(jax.eval_shape(functools.partial(
        tconv.conv_transpose, **options), y, w).shape[1], y.shape[1] * stride)

  @parameterized.parameters('SAME', 'VALID', 'CIRCULAR')
  def test_no_images(self, padding):
    up = functools.partial(tconv.conv_transpose, strides=2, padding=padding)
    y, w = np.zeros((0, 4, 5, 6), 'f'), integers(1, (3, 3, 2, 6))
    x = up(y, w)
    self.assertEqual(x.shape[0], 0)
    self.assertEqual(tconv.conv(x, w, 2, padding).shape, y.shape)
    np.testing.assert_array_equal(
        jax.grad(lambda w: up(y, w).sum())(w), np.zeros_like(w))

  def test_no_spatial_axes_is_a_matmul(self):
    y, w = integers(0, (2, 3)), integers(1, (4, 3))
    np.testing.assert_array_equal(tconv.conv_transpose(y, w), y @ w.T)


class MatrixTest(parameterized.TestCase):

  @parameterized.parameters(
      (1, 'VALID', False), (1, ((1, -1), (0, 3)), True), (2, 'SAME', True),
      (2, ((1, -1), (0, 3)), False))
  def test_matrix_is_the_convolution(self, groups, padding, sparse):
    x, w = integers(0, (1, 5, 4, 2 * groups)), integers(1, (3, 2, 2, 6))
    options = dict(strides=(1, 2), padding=padding, kernel_dilation=(2, 1),
                   feature_group_count=groups)
    c = tconv.conv_matrix(w, (5, 4), sparse=sparse, **options)
    y = tconv.conv(x, w, **options)
    np.testing.assert_array_equal(c @ x.reshape(-1), y.reshape(-1))
    np.testing.assert_array_equal(
        c.T @ y.reshape(-1),
        tconv.conv_transpose(y, w, output_size=(5, 4), **options).reshape(-1))

  @parameterized.parameters(('SAME', True), ('CIRCULAR', False))
  def test_matrix_under_jit(self, padding, sparse):
    make = functools.partial(tconv.conv_matrix, input_size=(4, 4), strides=2,
                             padding=padding)
    c = jax.jit(functools.partial(make, sparse=sparse))(W)
    np.testing.assert_array_equal(c.todense() if sparse else c, make(W))


class PrecisionTest(parameterized.TestCase):

  @parameterized.parameters(jnp.bfloat16, jnp.float16)
  def test_half_types_are_the_float32_result_rounded(self, dtype):
    draw = np.random.default_rng(0)
    wide = lambda *shape: jnp.asarray(
        draw.normal(size=shape), dtype).astype(jnp.float32)
    x, y, w = wide(2, 12, 10, 16), wide(2, 6, 5, 64), wide(4, 4, 16, 64)

    @jax.jit
    def compute(x, y, w):
      return {method: (
          tconv.conv_transpose(y, w, 2, method=method),
          tconv.conv(x, w, 2, method=method),
          tconv.conv_kernel_grad(x, y, 4, 2, method=method))
              for method in dispatch.METHODS}

    exact = compute(x, y, w)
    half = compute(*(a.astype(dtype) for a in (x, y, w)))
    for method, results in half.items():
      for result, expected in zip(results, exact[method]):
        self.assertEqual(result.dtype, dtype)
        expected = np.asarray(expected).astype(dtype).astype('f')
        # One unit in the last place, at the size of each value.
        step = float(jnp.finfo(dtype).eps) * np.abs(expected)
        np.testing.assert_array_less(
            np.abs(np.asarray(result, 'f') - expected), 1.001 * step + 1e-30,
            method)

  def test_preferred_element_type(self):
    x = tconv.conv_transpose(Y.astype(jnp.bfloat16), W.astype(jnp.bfloat16),
                             preferred_element_type='float32', **GROUPED)
    np.testing.assert_array_equal(
        x, tconv.conv_transpose(Y, W, **GROUPED), strict=True)

  def test_preferred_element_type_is_what_sums_are_kept_in(self):
    with jax.enable_x64(True):
      draw = np.random.default_rng(0)
      y, w = (draw.normal(size=s).astype('f') for s in ((2, 5, 64), (4, 3, 64)))
      # Products of two float32 are exact in float64.
      np.testing.assert_allclose(
          tconv.conv_transpose(y, w, 2, preferred_element_type='float64'),
          tconv.conv_transpose(y.astype('d'), w.astype('d'), 2), rtol=1e-12)

  def test_precision_is_that_of_the_surroundings(self):
    def up(y, w):
      with jax.default_matmul_precision('highest'):
        return tconv.conv_transpose(y, w, **GROUPED)

    step = jax.make_jaxpr(jax.grad(lambda *a: up(*a).sum(), (0, 1)))(Y, W)
    for eqn in step.eqns:
      if eqn.primitive.name.startswith('tconv'):
        self.assertEqual(eqn.params['precision'], lax.Precision.HIGHEST)

  def test_a_precision_for_each_operand(self):
    [eqn] = [e for e in jax.make_jaxpr(functools.partial(
        tconv.conv_transpose, precision=('highest', None), **GROUPED))(
            Y, W).eqns if e.primitive.name.startswith('tconv')]
    self.assertEqual(eqn.params['precision'], (lax.Precision.HIGHEST, None))

  def test_strict_promotion_without_jit(self):
    loss = lambda y, w: (tconv.conv_transpose(
        y, w, preferred_element_type='float32', **GROUPED)**2).sum()
    y, w = jnp.bfloat16(Y), jnp.bfloat16(W)
    expected = jax.grad(loss, 1)(y, w)
    with jax.disable_jit(), jax.numpy_dtype_promotion('strict'):
      np.testing.assert_array_equal(jax.grad(loss, 1)(y, w), expected)

# Arguments that differ from a legal call, and what the error must say.
KERNEL, IMAGE = np.ones((3, 3, 2, 4), 'f'), np.ones((1, 4, 4, 4), 'f')
ERRORS = (
    (dict(strides=0), 'strides must be one int >= 1.*2 of them; got 0'),
    (dict(strides=(1, 2, 3)), r'strides .*got \(1, 2, 3\)'),
    (dict(strides=1.5), 'strides .*got 1.5'),
    (dict(kernel=KERNEL[0]), 'kernel must have as many axes as inputs, 4'),
    (dict(inputs=IMAGE[0, 0, 0]), 'inputs must have 2 to 5 axes'),
    (dict(inputs=np.ones((1,) * 6, 'f')), 'inputs must have 2 to 5 axes'),
    (dict(kernel_dilation=(0, 1)), r'kernel_dilation .*>= 1.*got \(0, 1\)'),
    (dict(padding='HALF'), "padding must be one of SAME, VALID.*got 'HALF'"),
    (dict(padding=(1, 2, 3)), r'padding .*sequence of 2.*got \(1, 2, 3\)'),
    (dict(padding=9), r'padding 9 leaves an empty result: .*\(-12, -12\)'),
    (dict(output_padding=1, padding=0), 'output_padding .*smaller .*got 1'),
    (dict(output_padding=-1), 'output_padding .*>= 0.*got -1'),
    (dict(output_padding=1, output_size=9, strides=2, padding=0),
     'output_padding .*without output_size'),
    (dict(output_size=2, strides=2, padding=((5, 4), (5, 4))),
     r'output_size must lie within \(\(1, 1\), \(1, 1\)\)'),
    (dict(output_size=(8,)), r'output_size .*sequence of 2.*got \(8,\)'),
    (dict(output_size=3, strides=2, padding='CIRCULAR'),
     r'output_size must lie within \(\(7, 8\)'),
    (dict(feature_group_count=0), 'feature_group_count .*>= 1; got 0'),
    (dict(feature_group_count=3),
     'kernel .*divisible by feature_group_count 3; got 4'),
    (dict(method='fft'), "method must be one of matrix, .*auto; got 'fft'"),
    (dict(precision='best'), "precision must be .*got 'best'"),
    (dict(preferred_element_type='float16'),
     'preferred_element_type .*float32; got float16'),
    (dict(dimension_numbers=('NHWC', 'HWIO')), 'dimension_numbers .*three'),
    (dict(dimension_numbers=('NHWC', 'HWIX', 'NHWC')),
     "dimension_numbers .*'HWIX'"),
    (dict(dimension_numbers=lax.ConvDimensionNumbers(
        (0, 4, 1, 2, 3), (4, 3, 0, 1, 2), (0, 4, 1, 2, 3))),
     'dimension_numbers must'),
    (dict(kernel=KERNEL[:0]), r'kernel must have at least one tap .*\(0, 3'),
    (dict(inputs=None), 'inputs must be an array; got None'),
    (dict(precision={}), 'precision must be'),
    (dict(preferred_element_type='complex64'), 'preferred_element_type .*real'),
    (dict(preferred_element_type='foo'), 'preferred_element_type .*got foo'),
    (dict(dimension_numbers=('NCW', 'WIO', 'NCW')),
     'dimension_numbers .*2 spatial axes'),
)


class ErrorsTest(absltest.TestCase):

  def test_conv_transpose(self):
    for arguments, message in ERRORS:
      call = dict(inputs=IMAGE, kernel=KERNEL) | arguments
      with self.subTest(message), self.assertRaisesRegex(
          ValueError, f'(?s){message}'):
        tconv.conv_transpose(**call)

  def test_other_operations(self):
    for function, arguments, message in (
        (tconv.conv, (IMAGE, KERNEL), 'inputs must have 2 channels, C of the'),
        (tconv.conv, (IMAGE[:, :2, :2, :2], KERNEL, 1, 0),
         r'padding 0 leaves an empty result: .*\(2, 2\).*\(3, 3\)'),
        (tconv.conv_kernel_grad, (IMAGE, np.ones((2, 4, 4, 4), 'f'), 3),
         r'cotangents .*\(1, 4, 4\).*got \(2, 4, 4\)'),
        (functools.partial(tconv.conv_kernel_grad, feature_group_count=2),
         (IMAGE, IMAGE[..., :3], 3), 'cotangents .*_group_count 2; got 3'),
        (tconv.conv_kernel_grad, (IMAGE, IMAGE, 0), 'kernel_size .*got 0'),
        (functools.partial(tconv.conv_kernel_grad, feature_group_count=3),
         (IMAGE, IMAGE, 3), 'inputs .*divisible.*3; got 4'),
        (tconv.conv_matrix, (KERNEL, (4, 4, 4)), r'input_size .*\(4, 4, 4\)'),
        (tconv.conv_matrix, (KERNEL[0, 0, 0], 4), 'kernel must have 2 to 5')):
      with self.subTest(message), self.assertRaisesRegex(ValueError, message):
        function(*arguments)


class JitTest(absltest.TestCase):

  def test_all_operations(self):
    operations = lambda x, w, y: (
        tconv.conv(x, w, **GROUPED),
        tconv.conv_transpose(y, w, output_size=(6, 7), **GROUPED),
        tconv.conv_kernel_grad(x, y, (3, 2), **GROUPED))
    geometry = geometry_lib.conv_geometry(
        (6, 7), (3, 2), (2, 2), 'SAME', (1, 1), 2)
    chex.assert_trees_all_equal(
        jax.jit(operations)(X, W, Y),
        (references.conv(X, W, geometry),
         references.conv_transpose(Y, W, geometry),
         references.conv_kernel_grad(X, Y, geometry)))


if __name__ == '__main__':
  absltest.main()
