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


class LayoutTest(absltest.TestCase):

  def test_all_operations_in_any_layout(self):
    geometry = geometry_lib.conv_geometry(
        (6, 7), (3, 2), (2, 2), 'SAME', (1, 1), 2)
    expected = [getattr(references, name)(*arrays, geometry)
                for name, *arrays in (('conv', X, W), ('conv_transpose', Y, W),
                                      ('conv_kernel_grad', X, Y))]
    layouts = 'HWNC', 'OIHW', 'CNWH'
    order = lambda layout, plain: tuple(plain.index(c) for c in layout)
    orders = fine, kernel, coarse = [
        order(*pair) for pair in zip(layouts, ('NHWC', 'HWIO', 'NHWC'))]
    x, w, y = (a.transpose(o) for a, o in zip((X, W, Y), orders))
    plain, strings, numbers = jax.jit(lambda x, w, y: [[
        tconv.conv(a, b, dimension_numbers=forward, **GROUPED),
        # The transposed convolution reads the coarse side, writes the fine one.
        tconv.conv_transpose(c, b, output_size=(6, 7),
                             dimension_numbers=backward, **GROUPED),
        tconv.conv_kernel_grad(a, c, (3, 2), dimension_numbers=forward,
                               **GROUPED)]
        for a, b, c, forward, backward in (
            (X, W, Y, None, None), (x, w, y, layouts, layouts[::-1]),
            (x, w, y,
             lax.conv_dimension_numbers(x.shape, w.shape, layouts),
             lax.conv_dimension_numbers(y.shape, w.shape, layouts[::-1])))])(
                 x, w, y)
    chex.assert_trees_all_equal(plain, expected)
    expected = [
        a.transpose(o) for a, o in zip(expected, (coarse, fine, kernel))]
    chex.assert_trees_all_equal(strings, expected)
    chex.assert_trees_all_equal(numbers, expected)


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
      (1, 4, 2, 1), (5, 1, 3, 1), (5, 2, 2, 2), (8, 3, 2, 1), (8, 4, 1, 2))
  def test_circular_wraps_around(self, size, kernel, stride, dilation):
    x, w = integers(0, (2, size, 2)), integers(1, (kernel, 2, 3))
    options = dict(strides=stride, padding='CIRCULAR',
                   kernel_dilation=dilation)
    [wrap] = geometry_lib.circular_pads((kernel,), (dilation,))
    padded = np.pad(x, ((0, 0), wrap, (0, 0)), mode='wrap')
    geometry = geometry_lib.conv_geometry(
        padded.shape[1:-1], (kernel,), (stride,), 'VALID', (dilation,))
    y = references.conv(padded, w, geometry)
    c, *results = jax.jit(lambda x, w, y: (
        tconv.conv_matrix(w, size, **options),
        tconv.conv(x, w, **options),
        tconv.conv_transpose(y, w, output_size=size, **options),
        tconv.conv_kernel_grad(x, y, kernel, **options)))(x, w, y)
    np.testing.assert_array_equal(y.reshape(2, -1), x.reshape(2, -1) @ c.T)
    chex.assert_trees_all_equal(results, [
        y, np.asarray(y.reshape(2, -1) @ c).reshape(x.shape),
        references.conv_kernel_grad(padded, y, geometry)])
    self.assertEqual(jax.eval_shape(functools.partial(
        tconv.conv_transpose, **options), y, w).shape[1], y.shape[1] * stride)

  @parameterized.parameters((1, ((1, -1), (0, 3)), 'f'), (2, 'SAME', 'e'))
  def test_matrix_is_the_convolution(self, groups, padding, dtype):
    x, w = integers(0, (1, 5, 4, 2 * groups)), integers(1, (3, 2, 2, 6))
    x, w = x.astype(dtype), w.astype(dtype)
    options = dict(strides=(1, 2), padding=padding, kernel_dilation=(2, 1),
                   feature_group_count=groups)

    @jax.jit
    def compute(x, w):
      y = tconv.conv(x, w, **options)
      return (tconv.conv_matrix(w, (5, 4), **options),
              tconv.conv_matrix(w, (5, 4), sparse=True, **options),
              y, tconv.conv_transpose(y, w, output_size=(5, 4), **options))

    dense, sparse, y, back = compute(x, w)
    self.assertEqual(dense.dtype, dtype)
    np.testing.assert_array_equal(sparse.todense(), dense, strict=True)
    c, y = np.asarray(dense, 'f'), np.asarray(y, 'f')
    np.testing.assert_array_equal(c @ x.reshape(-1), y.reshape(-1))
    if dtype == 'f':  # More than float16 can hold.
      np.testing.assert_array_equal(c.T @ y.reshape(-1), back.reshape(-1))


class PrecisionTest(parameterized.TestCase):

  @parameterized.parameters(
      ('bfloat16', tuple(dispatch.FORMS)), ('float16', ('auto',)))
  def test_half_types_are_the_float32_result_rounded(self, dtype, methods):
    draw = np.random.default_rng(0)
    dtype = jnp.dtype(dtype)
    x, y, w = (jnp.asarray(draw.normal(size=size), dtype) for size in (
        (2, 12, 10, 16), (2, 6, 5, 64), (3, 3, 16, 64)))
    compute = lambda x, y, w, method='lax': (
        tconv.conv_transpose(y, w, 2, method=method),
        tconv.conv(x, w, 2, method=method),
        tconv.conv_kernel_grad(x, y, 3, 2, method=method))
    exact, halves = jax.jit(lambda *arrays: (
        compute(*(a.astype('float32') for a in arrays)),
        {method: compute(*arrays, method) for method in methods}))(x, y, w)
    for method, results in halves.items():
      for result, expected in zip(results, exact):
        self.assertEqual(result.dtype, dtype)
        expected = np.asarray(expected).astype(dtype).astype('f')
        # One unit in the last place, at the size of each value; float32 sums
        # of other order differ by less than 1e-5.
        step = float(jnp.finfo(dtype).eps) * np.abs(expected)
        np.testing.assert_array_less(
            np.abs(np.asarray(result, 'f') - expected), 1.001 * step + 1e-5,
            method)

  def test_preferred_element_type(self):
    x = tconv.conv_transpose(Y.astype(jnp.bfloat16), W.astype(jnp.bfloat16),
                             preferred_element_type='float32', **GROUPED)
    np.testing.assert_array_equal(
        x, tconv.conv_transpose(Y, W, **GROUPED), strict=True)
    with jax.enable_x64(True):  # Sums, too, are kept in it.
      draw = np.random.default_rng(0)
      y, w = (draw.normal(size=s).astype('f') for s in ((2, 5, 64), (4, 3, 64)))
      # Products of two float32 are exact in float64.
      np.testing.assert_allclose(
          tconv.conv_transpose(y, w, 2, preferred_element_type='float64'),
          tconv.conv_transpose(y.astype('d'), w.astype('d'), 2), rtol=1e-12)

  def test_options_reach_derivatives_and_vmap(self):
    def up(y, w, **options):
      with jax.default_matmul_precision('highest'):
        return tconv.conv_transpose(y, w, **options, **GROUPED)

    def parameters(function, *arguments):
      return [e.params for e in jax.make_jaxpr(function)(*arguments).eqns
              if e.primitive.name.startswith('tconv')]

    highest = lax.Precision.HIGHEST
    step = parameters(jax.grad(lambda *a: (up(*a)**2).sum(), (0, 1)), Y, W)
    self.assertEqual([p['precision'] for p in step], [highest] * 3)
    [params] = parameters(jax.vmap(functools.partial(
        up, precision=('highest', None), preferred_element_type='float32',
        method='matrix'), (0, None)), Y[None].astype('e'), W.astype('e'))
    self.assertEqual(params['precision'], (highest, None))
    self.assertEqual(params['method'], 'matrix')
    self.assertEqual(params['dtype'], 'float32')

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
    (dict(strides=(1, 2.5)), r'strides .*got \(1, 2.5\)'),
    (dict(kernel=KERNEL[0]), 'kernel must have as many axes as inputs, 4'),
    (dict(kernel_dilation=(0, 1)), r'kernel_dilation .*>= 1.*got \(0, 1\)'),
    (dict(padding='HALF'), "padding must be one of SAME, VALID.*got 'HALF'"),
    (dict(padding=9), r'padding 9 leaves an empty result: .*\(-12, -12\)'),
    (dict(output_padding=-1), 'output_padding .*>= 0.*got -1'),
    (dict(output_padding=1, output_size=9, strides=2, padding=0),
     'output_padding .*without output_size'),
    (dict(output_size=3, strides=2, padding='CIRCULAR'),
     r'output_size must lie within \(\(7, 8\)'),
    (dict(feature_group_count=0), 'feature_group_count .*>= 1; got 0'),
    (dict(feature_group_count=3),
     'kernel .*divisible by feature_group_count 3; got 4'),
    (dict(method='fft'), "method must be one of matrix, .*auto; got 'fft'"),
    (dict(precision='best'), "precision must be .*got 'best'"),
    (dict(dimension_numbers=('NHWC', 'HWIX', 'NHWC')),
     "dimension_numbers .*'HWIX'"),
    (dict(kernel=KERNEL[:0]), r'kernel must have at least one tap .*\(0, 3'),
    (dict(inputs=None), 'inputs must be an array; got None'),
    (dict(preferred_element_type='complex64'), 'preferred_element_type .*real'),
    (dict(dimension_numbers=('NCW', 'WIO', 'NCW')),
     'dimension_numbers .*2 spatial axes'),
)


class ErrorsTest(absltest.TestCase):

  def test_errors(self):
    calls = [(functools.partial(tconv.conv_transpose, **(
        dict(inputs=IMAGE, kernel=KERNEL) | arguments)), message)
             for arguments, message in ERRORS]
    taps = functools.partial(tconv.conv_kernel_grad, IMAGE)
    calls += [
        (lambda: tconv.conv(IMAGE[:, :2, :2, :2], KERNEL, 1, 0),
         r'padding 0 leaves an empty result: .*\(2, 2\).*\(3, 3\)'),
        (lambda: taps(IMAGE[..., :3], 3, feature_group_count=2),
         'cotangents .*_group_count 2; got 3'),
        (lambda: taps(IMAGE, 0), 'kernel_size .*got 0'),
        (lambda: tconv.conv_matrix(KERNEL, (4, 4, 4)),
         r'input_size .*\(4, 4, 4\)')]
    for call, message in calls:
      with self.subTest(message), self.assertRaisesRegex(
          ValueError, f'(?s){message}'):
        call()


if __name__ == '__main__':
  absltest.main()
