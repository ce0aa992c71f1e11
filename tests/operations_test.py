"""The front door: layouts, dtypes, sizes, values, and its errors."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import linen as nn
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
      ('NCHW', 'OIHW', 'NCHW'), ('HWNC', 'HWOI', 'CNWH'),
      ('NHWC', 'IOHW', 'NCHW'), ('NHWC', 'HWIO', 'NHWC'))
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

  @parameterized.product(
      padding=['SAME', 'VALID'], kernel=[1, 2, 3, 4, 5], stride=[1, 2, 3],
      dilation=[1, 2])
  def test_strings_equal_lax(self, padding, kernel, stride, dilation):
    y, w = integers(0, (2, 5, 4)), integers(1, (kernel, 3, 4))
    expected = lax.conv_transpose(
        y, w, (stride,), padding, rhs_dilation=(dilation,),
        dimension_numbers=('NWC', 'WIO', 'NWC'), transpose_kernel=True)
    np.testing.assert_array_equal(
        tconv.conv_transpose(y, w, stride, padding, kernel_dilation=dilation),
        expected, strict=True)

  @parameterized.product(size=[1, 5, 8], kernel=[1, 2, 3, 4], stride=[1, 2, 3],
                         dilation=[1, 2])
  def test_circular_wraps_around(self, size, kernel, stride, dilation):
    x, w = integers(0, (2, size, 2)), integers(1, (kernel, 2, 3))
    options = dict(strides=stride, padding='CIRCULAR',
                   kernel_dilation=dilation)
    [wrap] = geometry_lib.circular_pads((kernel,), (dilation,))
    padded = np.pad(x, ((0, 0), wrap, (0, 0)), mode='wrap')
    geometry = geometry_lib.conv_geometry(
        padded.shape[1:-1], (kernel,), (stride,), 'VALID', (dilation,))
    y = tconv.conv(x, w, **options)
    np.testing.assert_array_equal(y, references.conv(padded, w, geometry))
    c = tconv.conv_matrix(w, size, **options)
    np.testing.assert_array_equal(y.reshape(2, -1), x.reshape(2, -1) @ c.T)
    np.testing.assert_array_equal(
        tconv.conv_matrix(w, size, sparse=True, **options).todense(), c)
    back = tconv.conv_transpose(y, w, output_size=size, **options)
    np.testing.assert_array_equal(
        back.reshape(2, -1), y.reshape(2, -1) @ c)
    np.testing.assert_array_equal(
        tconv.conv_kernel_grad(x, y, kernel, **options),
        references.conv_kernel_grad(padded, np.asarray(y), geometry))
    self.assertEqual(tconv.conv_transpose(y, w, **options).shape[1],
                     y.shape[1] * stride)

  @parameterized.product(kernel=[1, 2, 3, 4], stride=[1, 2], dilation=[1, 2])
  def test_circular_is_that_of_flax(self, kernel, stride, dilation):
    x, w = integers(0, (2, 7, 2)), integers(1, (kernel, 2, 3))
    layer = nn.Conv(3, kernel, stride, 'CIRCULAR', kernel_dilation=dilation,
                    use_bias=False)
    np.testing.assert_array_equal(
        tconv.conv(x, w, stride, 'CIRCULAR', kernel_dilation=dilation),
        layer.apply({'params': {'kernel': w}}, x))

  @parameterized.parameters('SAME', 'VALID', 'CIRCULAR')
  def test_no_images(self, padding):
    up = functools.partial(tconv.conv_transpose, strides=2, padding=padding)
    y, w = np.zeros((0, 4, 5, 6), 'f'), integers(1, (3, 3, 2, 6))
    x = up(y, w)
    self.assertEqual(x.shape[0], 0)
    self.assertEqual(tconv.conv(x, w, 2, padding).shape, y.shape)
    np.testing.assert_array_equal(
        jax.grad(lambda w: up(y, w).sum())(w), np.zeros_like(w))

  @parameterized.parameters(
      dict(padding='SAME'), dict(padding=1, output_padding=1),
      dict(padding=((0, 2),)), dict(padding='VALID', output_size=12))
  def test_sizes(self, **options):
    y, w = integers(0, (1, 5, 2)), integers(1, (3, 2, 2))
    size = {'SAME': 10, 1: 10, 'VALID': 12, ((0, 2),): 9}[options['padding']]
    self.assertEqual(
        tconv.conv_transpose(y, w, 2, **options).shape, (1, size, 2))

  def test_no_spatial_axes_is_a_matmul(self):
    y, w = integers(0, (2, 3)), integers(1, (4, 3))
    np.testing.assert_array_equal(tconv.conv_transpose(y, w), y @ w.T)


class MatrixTest(parameterized.TestCase):

  def test_the_seed_example(self):
    kernel = integers(0, (3, 3))
    c = tconv.conv_matrix(kernel[:, :, None, None], (4, 4), 1, 'VALID')
    self.assertEqual(c.shape, (4, 16))
    expected = np.zeros((4, 16))
    for row, (i, j) in enumerate(np.ndindex(2, 2)):
      image = np.zeros((4, 4))
      image[i:i + 3, j:j + 3] = kernel
      expected[row] = image.reshape(-1)
    np.testing.assert_array_equal(c, expected)

  @parameterized.product(
      groups=[1, 2], padding=['SAME', 'VALID', ((1, -1), (0, 3))],
      sparse=[False, True])
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


  @parameterized.product(padding=['SAME', 'CIRCULAR'], sparse=[False, True])
  def test_matrix_under_jit(self, padding, sparse):
    make = functools.partial(tconv.conv_matrix, input_size=(4, 4), strides=2,
                             padding=padding)
    c = jax.jit(functools.partial(make, sparse=sparse))(W)
    np.testing.assert_array_equal(c.todense() if sparse else c, make(W))


class PrecisionTest(parameterized.TestCase):

  @parameterized.product(dtype=[jnp.bfloat16, jnp.float16],
                         method=dispatch.METHODS)
  def test_half_types_are_the_float32_result_rounded(self, dtype, method):
    draw = np.random.default_rng(0)
    wide = lambda *shape: jnp.asarray(
        draw.normal(size=shape), dtype).astype(jnp.float32)
    y, w = wide(2, 6, 5, 64), wide(4, 4, 16, 64)
    up = functools.partial(tconv.conv_transpose, strides=2, method=method)
    down = functools.partial(tconv.conv, strides=2, method=method)
    taps = functools.partial(
        tconv.conv_kernel_grad, kernel_size=4, strides=2, method=method)
    x = up(y, w).astype(dtype).astype(jnp.float32)
    for operation, arrays in ((up, (y, w)), (down, (x, w)), (taps, (x, y))):
      exact = operation(*arrays).astype(dtype)
      half = operation(*(a.astype(dtype) for a in arrays))
      self.assertEqual(half.dtype, dtype)
      # One unit in the last place, at the size of each value.
      step = float(jnp.finfo(dtype).eps) * np.abs(exact.astype(np.float32))
      difference = np.abs(half.astype(np.float32) - exact.astype(np.float32))
      np.testing.assert_array_less(difference, 1.001 * step + 1e-30)

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

  def test_result_is_not_weakly_typed(self):
    y = jnp.broadcast_to(1., (1, 4, 4))
    self.assertTrue(y.weak_type)
    self.assertFalse(tconv.conv_transpose(y, jnp.ones((3, 2, 4))).weak_type)


# Arguments that differ from a legal call, and what the error must say.
KERNEL, IMAGE = np.ones((3, 3, 2, 4), 'f'), np.ones((1, 4, 4, 4), 'f')
ERRORS = (
    (dict(strides=0), 'strides must be one int >= 1.*2 of them; got 0'),
    (dict(strides=(1, 2, 3)), r'strides .*got \(1, 2, 3\)'),
    (dict(strides=1.5), 'strides .*got 1.5'),
    (dict(kernel_dilation=(0, 1)), r'kernel_dilation .*>= 1.*got \(0, 1\)'),
    (dict(padding='HALF'), "padding must be one of SAME, VALID.*got 'HALF'"),
    (dict(padding=(1, 2, 3)), r'padding .*sequence of 2.*got \(1, 2, 3\)'),
    (dict(padding=((1, 2, 3), (1, 2))), r'padding .*got \(\(1, 2, 3\)'),
    (dict(padding=1.5), 'padding .*got 1.5'),
    (dict(padding=9), r'padding 9 leaves an empty result: .*\(-12, -12\)'),
    (dict(output_padding=1, padding=0), 'output_padding .*smaller .*got 1'),
    (dict(output_padding=-1), 'output_padding .*>= 0.*got -1'),
    (dict(output_padding=1, padding='SAME', strides=2),
     "output_padding needs padding in numbers.*'SAME'.* pass output_size"),
    (dict(output_padding=1, output_size=9, strides=2, padding=0),
     'output_padding .*without output_size'),
    (dict(output_size=5), r'output_size must lie within \(\(4, 4\), .*got 5'),
    (dict(output_size=2, strides=2, padding=((5, 4), (5, 4))),
     r'output_size must lie within \(\(1, 1\), \(1, 1\)\)'),
    (dict(output_size=3, padding=9), 'padding 9 leaves an empty result'),
    (dict(output_padding=1, padding='CIRCULAR', strides=2),
     "output_padding needs .* with padding 'CIRCULAR'"),
    (dict(output_size=(8,)), r'output_size .*sequence of 2.*got \(8,\)'),
    (dict(output_size=3, strides=2, padding='CIRCULAR'),
     r'output_size must lie within \(\(7, 8\)'),
    (dict(feature_group_count=0), 'feature_group_count .*>= 1; got 0'),
    (dict(feature_group_count=3),
     'kernel .*divisible by feature_group_count 3; got 4'),
    (dict(inputs=IMAGE[..., :3]), 'inputs must have 4 channels, O of .*got 3'),
    (dict(inputs=IMAGE.astype(int)), 'inputs .*floating or complex.*int'),
    (dict(kernel=KERNEL.astype('float16')),
     'kernel .*dtype of inputs, float32; got float16'),
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
    (dict(precision=('highest',) * 3), 'precision must be'),
    (dict(precision=()), 'precision must be'),
    (dict(precision={}), 'precision must be'),
    (dict(preferred_element_type='float64'), 'preferred_element_type .*x64'),
    (dict(preferred_element_type='complex64'), 'preferred_element_type .*real'),
    (dict(preferred_element_type='foo'), 'preferred_element_type .*got foo'),
    (dict(dimension_numbers=('NCW', 'WIO', 'NCW')),
     'dimension_numbers .*2 spatial axes'),
)


class ErrorsTest(parameterized.TestCase):

  @parameterized.parameters(*ERRORS)
  def test_conv_transpose(self, arguments, message):
    call = dict(inputs=IMAGE, kernel=KERNEL) | arguments
    with self.assertRaisesRegex(ValueError, f'(?s){message}'):
      tconv.conv_transpose(**call)

  @parameterized.parameters(
      (dict(kernel=KERNEL[0]), 'kernel must have as many axes as inputs, 4'),
      (dict(inputs=IMAGE[0]), r'inputs must have a batch .*inputs\[None\]'),
      (dict(inputs=IMAGE[0, 0, 0]), 'inputs must have 2 to 5 axes'),
      (dict(inputs=np.ones((1,) * 6, 'f')), 'inputs must have 2 to 5 axes'))
  def test_ranks(self, arguments, message):
    call = dict(inputs=IMAGE, kernel=KERNEL) | arguments
    with self.assertRaisesRegex(ValueError, message):
      tconv.conv_transpose(**call)

  def test_conv(self):
    with self.assertRaisesRegex(
        ValueError, r"inputs must have 2 channels, C of the kernel .*; got 4"):
      tconv.conv(IMAGE, KERNEL)
    with self.assertRaisesRegex(
        ValueError, r'padding 0 leaves an empty result: .*\(2, 2\).*\(3, 3\)'):
      tconv.conv(IMAGE[:, :2, :2, :2], KERNEL, 1, 0)

  def test_conv_kernel_grad(self):
    with self.assertRaisesRegex(
        ValueError, r'cotangents .*\(1, 2, 2\).*got \(1, 4, 4\)'):
      tconv.conv_kernel_grad(IMAGE, IMAGE, 3, 2)
    with self.assertRaisesRegex(
        ValueError, r'cotangents .*\(1, 4, 4\).*got \(2, 4, 4\)'):
      tconv.conv_kernel_grad(IMAGE, np.ones((2, 4, 4, 4), 'f'), 3)
    with self.assertRaisesRegex(
        ValueError, 'cotangents .*feature_group_count 2; got 3'):
      tconv.conv_kernel_grad(IMAGE, IMAGE[..., :3], 3, feature_group_count=2)
    with self.assertRaisesRegex(ValueError, 'kernel_size .*got 0'):
      tconv.conv_kernel_grad(IMAGE, IMAGE, 0)
    with self.assertRaisesRegex(ValueError, 'inputs .*divisible.*3; got 4'):
      tconv.conv_kernel_grad(IMAGE, IMAGE, 3, feature_group_count=3)

  def test_conv_matrix(self):
    with self.assertRaisesRegex(ValueError, r'input_size .*got \(4, 4, 4\)'):
      tconv.conv_matrix(KERNEL, (4, 4, 4))
    with self.assertRaisesRegex(ValueError, 'kernel must have 2 to 5'):
      tconv.conv_matrix(KERNEL[0, 0, 0], 4)


class JitTest(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True)
  def test_all_operations(self):
    operations = lambda x, w, y: (
        tconv.conv(x, w, **GROUPED),
        tconv.conv_transpose(y, w, output_size=(6, 7), **GROUPED),
        tconv.conv_kernel_grad(x, y, (3, 2), **GROUPED))
    geometry = geometry_lib.conv_geometry(
        (6, 7), (3, 2), (2, 2), 'SAME', (1, 1), 2)
    chex.assert_trees_all_equal(
        self.variant(operations)(X, W, Y),
        (references.conv(X, W, geometry),
         references.conv_transpose(Y, W, geometry),
         references.conv_kernel_grad(X, Y, geometry)))


if __name__ == '__main__':
  absltest.main()
