"""`lax_conv_transpose` against lax itself, on whole numbers: all exact."""

import itertools

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv.dialects import lax as dialect
from tests.references import integers

SIZE = (5, 4, 3)


def arrays(kernel_size, inputs=2, outputs=3, *, transpose=False, groups=1,
           seed=0):
  """Inputs and a kernel for these features, channels last."""
  channels = ((outputs // groups, inputs) if transpose
              else (inputs // groups, outputs))
  size = SIZE[:len(kernel_size)]
  return (integers(seed, (2, *size, inputs)),
          integers(seed + 1, (*kernel_size, *channels)))


def grouped(lhs, rhs, strides, padding, dilation, transpose, groups):
  """What lax computes, for each group by itself."""
  # A group of a transposed kernel has some of its last axis, which are inputs;
  # any other kernel has some of its outputs there.
  parts = [
      lax.conv_transpose(y, w, strides, padding, dilation,
                         transpose_kernel=transpose)
      for y, w in zip(np.split(lhs, groups, -1), np.split(rhs, groups, -1))]
  return jnp.concatenate(parts, -1)


class ValuesTest(parameterized.TestCase):

  @parameterized.product(kernel=[1, 2, 3, 4], transpose=[False, True])
  def test_one_axis(self, kernel, transpose):
    y, w = arrays((kernel,), transpose=transpose)
    calls = []
    for (strides, dilation), (padding, consistent) in itertools.product(
        ((3, 1), (2, 2)), (
            ('SAME', False), ('VALID', False), ('VALID', True),
            ([(2, 3)], False), ([(5, -1)], False), ([(1, 0)], True),
            ([(2, -1)], True))):
      call = ((strides,), padding, (dilation,), None, transpose, None, None,
              consistent)
      if jax.eval_shape(lambda *a, c=call: lax.conv_transpose(*a, *c),
                        y, w).size:
        calls.append(call)
      else:
        with self.assertRaisesRegex(ValueError, 'padding .*empty'):
          dialect.lax_conv_transpose(y, w, *call)
    ours, theirs = jax.jit(lambda *a: [
        [function(*a, *call) for call in calls]
        for function in (dialect.lax_conv_transpose, lax.conv_transpose)])(y, w)
    chex.assert_trees_all_equal(ours, theirs, strict=True)

  @parameterized.parameters(
      ((4, 5), True, [(1, 0), (0, 1)], False),
      ((2, 1, 3), False, [(1, 0), (0, 1), (2, 3)], True))
  def test_more_axes(self, kernel, transpose, padding, consistent):
    y, w = arrays(kernel, transpose=transpose)
    call = ((2, 3, 2)[:len(kernel)], padding, (1, 2, 1)[:len(kernel)], None,
            transpose, None, None, consistent)
    np.testing.assert_array_equal(
        dialect.lax_conv_transpose(y, w, *call),
        lax.conv_transpose(y, w, *call), strict=True)

  @parameterized.parameters(('float16', 'float32'), ('complex64', None))
  def test_dtypes(self, dtype, preferred):
    y, w = (jnp.asarray(a, dtype) for a in arrays((3,)))
    options = dict(preferred_element_type=preferred)
    np.testing.assert_array_equal(
        dialect.lax_conv_transpose(y, w, (2,), 'SAME', **options),
        lax.conv_transpose(y, w, (2,), 'SAME', **options), strict=True)

  def test_precision_is_handed_on(self):
    y, w = arrays((3,))
    [eqn] = [e for e in jax.make_jaxpr(
        lambda *a: dialect.lax_conv_transpose(
            *a, (2,), 'SAME', precision='highest'))(y, w).eqns
             if e.primitive.name.startswith('tconv')]
    self.assertEqual(eqn.params['precision'], lax.Precision.HIGHEST)


class LayoutTest(absltest.TestCase):

  def test_many(self):
    draw = np.random.default_rng(0)
    calls = []
    # Each permutation of each of the three, in company drawn at random.
    for letters in (('NHC', 'HIO', 'NHC'), ('NHWC', 'HWIO', 'NHWC')):
      orders = ([''.join(p) for p in itertools.permutations(spec)]
                for spec in letters)
      for layouts in zip(*(draw.permutation(o).tolist() for o in orders)):
        n, transpose = len(letters[0]) - 2, bool(len(calls) // 2 % 2)
        y, w = arrays((3, 2)[:n], transpose=transpose)
        y, w = (a.transpose([plain.index(c) for c in layout]) for a, plain,
                layout in zip((y, w), letters, layouts))
        numbers = lax.conv_dimension_numbers(y.shape, w.shape, layouts)
        steps = (2, 1)[:n], ((1, 0), (2, 1))[:n], (1, 2)[:n]
        calls.append(
            (y, w, *steps, (layouts, numbers)[len(calls) % 2], transpose))
    ours, theirs = jax.jit(lambda pairs: [
        [function(*pair, *call[2:]) for pair, call in zip(pairs, calls)]
        for function in (dialect.lax_conv_transpose, lax.conv_transpose)])(
            [call[:2] for call in calls])
    for result, expected, call in zip(ours, theirs, calls):
      np.testing.assert_array_equal(result, expected, str(call[5]))


class GroupsTest(parameterized.TestCase):

  @parameterized.parameters(
      (2, 4, 6, True, 'SAME'), (3, 3, 3, False, ((2, 1), (0, 1))))
  def test_groups_stand_side_by_side(
      self, groups, inputs, outputs, transpose, padding):
    y, w = arrays((3, 2), inputs, outputs, transpose=transpose, groups=groups)
    steps = (2, 3), padding, (2, 1)
    result = dialect.lax_conv_transpose(
        y, w, *steps, ('NHWC', 'HWIO', 'CNHW'), transpose,
        feature_group_count=groups)
    np.testing.assert_array_equal(
        jnp.moveaxis(result, 0, -1), grouped(y, w, *steps, transpose, groups))


class KernelTest(parameterized.TestCase):

  @parameterized.product(transpose=[False, True], groups=[1, 2])
  def test_kernel_from_flax(self, transpose, groups):
    y, w = arrays((3, 2), 4, 6, transpose=transpose, groups=groups)
    kernel = dialect.kernel_from_flax(
        w, transpose, feature_group_count=groups)
    self.assertEqual(kernel.shape, (3, 2, 6 // groups, 4))
    np.testing.assert_array_equal(
        tconv.conv_transpose(y, kernel, 2, 'VALID', feature_group_count=groups),
        grouped(y, w, (2, 2), 'VALID', (1, 1), transpose, groups))
    np.testing.assert_array_equal(dialect.kernel_to_flax(
        kernel, transpose, feature_group_count=groups), w)

  @parameterized.parameters(
      (np.ones((3, 2, 3), 'f'), 2, 'kernel .*divisible by .*2; got 3'),
      (np.ones((3, 2, 3), 'f'), 0, 'feature_group_count .*got 0'))
  def test_errors(self, kernel, groups, message):
    with self.assertRaisesRegex(ValueError, message):
      dialect.kernel_from_flax(kernel, feature_group_count=groups)


Y, W = arrays((3, 2))
# Arguments that differ from a legal call, and what the error must say.
ERRORS = (
    (dict(lhs=Y[0, 0, 0]), 'lhs must have 2 to 5 axes'),
    (dict(lhs=Y.astype(int)), 'lhs must be of a floating'),
    (dict(rhs=W.astype('float16')), 'rhs must be of dtype float32'),
    (dict(rhs=W[:, :, :1]), 'lhs must have as many .*reads, 1; got 2'),
    (dict(transpose_kernel=True), 'lhs must have as many .*reads, 3; got 2'),
    (dict(strides=2), 'strides must be a sequence of 2 ints; got 2'),
    (dict(strides=(2,)), r'strides .*sequence of 2 .*got \(2,\)'),
    (dict(strides=(0, 1)), r'strides .*>= 1.*got \(0, 1\)'),
    (dict(rhs_dilation=2), 'rhs_dilation must be a sequence of 2 .*got 2'),
    (dict(padding='CAUSAL'), "padding must be 'SAME', 'VALID' .*'CAUSAL'"),
    (dict(padding='same'), "padding must be 'SAME', 'VALID' .*'same'"),
    (dict(padding=1), 'padding must .*got 1'),
    (dict(padding=((1, 1),)), r'padding must .*2 \(low, high\) pairs'),
    (dict(padding=((-9, 0), (0, 0))), 'padding .*empty'),
    (dict(precision='best'), "precision must be .*got 'best'"),
    (dict(preferred_element_type='float16'), 'preferred_element_type .*16'),
    (dict(dimension_numbers=('NHWC', 'HWIO')), 'dimension_numbers .*three'),
    (dict(dimension_numbers=('NHWC', 'HWIO', 'NHWX')), 'dimension_numbers'),
    (dict(feature_group_count=0), 'feature_group_count .*got 0'),
    (dict(feature_group_count=2), 'rhs .*divisible by .*2; got 3'),
    (dict(feature_group_count=3), 'lhs must have as many .*6; got 2'),
)


class ErrorsTest(absltest.TestCase):

  def test_messages(self):
    for arguments, message in ERRORS:
      call = dict(lhs=Y, rhs=W, strides=(2, 2), padding='SAME') | arguments
      with self.subTest(message):
        with self.assertRaisesRegex(ValueError, f'(?s){message}'):
          dialect.lax_conv_transpose(**call)
        # lax takes whole numbers, and gives empty arrays, but refuses others.
        if not ('feature_group_count' in call or call['lhs'].dtype == int
                or 'empty' in message):
          with self.assertRaises((ValueError, TypeError, AssertionError)):
            lax.conv_transpose(**call)


if __name__ == '__main__':
  absltest.main()
