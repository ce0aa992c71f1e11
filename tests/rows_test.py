"""Blocks of rows: the same results, and a buffer that stays bounded."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

import tconv
from tconv import geometry as geometry_lib
from tconv import trilinear
from tconv.forms import overlap_add
from tconv.forms import rows
from tests import agreement_test
from tests.references import integers


class BlocksTest(parameterized.TestCase):

  # Kernel, stride, dilation, padding, groups.
  @parameterized.parameters(
      (4, 2, 1, 'SAME', 2), (3, 2, 1, ((1, 2), (0, 1)), 1),
      (5, 1, 1, 'VALID', 1), (2, 3, 1, ((1, 2), (0, 1)), 2),
      (3, 2, 2, 'SAME', 1))
  def test_overlap_add_equals_the_loop(
      self, kernel, stride, dilation, padding, groups):
    geometry = geometry_lib.conv_geometry(
        (19, 6), (kernel,) * 2, (stride,) * 2, padding, (dilation,) * 2, groups)
    with mock.patch.object(overlap_add, 'BLOCK', 1000):  # A row or a few.
      agreement_test.check_forms(geometry, methods=['overlap_add'])

  @parameterized.parameters(1, 2)
  def test_blocks_that_do_not_divide_the_rows(self, groups):
    geometry = geometry_lib.conv_geometry(
        (14, 6), (3, 3), (2, 2), 'SAME', (1, 1), groups)
    with mock.patch.object(rows, 'count', return_value=3):  # Of 7 rows.
      agreement_test.check_forms(geometry, methods=['overlap_add'])

  @hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
  @hypothesis.given(agreement_test.geometries(), st.integers(1, 3))
  def test_each_row_is_in_one_block(self, geometry, count):
    geometry, _ = geometry.trimmed()
    stride, (low, _) = geometry.strides[0], geometry.padding[0]

    def body(seen, block, first, start):
      size = block.coarse_size[0]
      # The block's own numbers say where it lies, as those of the whole do.
      self.assertEqual(block.fine_size[1:], geometry.fine_size[1:])
      here = jnp.arange(len(seen))
      inside = (here >= first) & (here < first + size)
      reach = first * stride - low + block.padding[0][0]
      return seen + inside + jnp.where(reach == start, 0, 100)

    seen = rows.fold(body, jnp.zeros(geometry.coarse_size[0], int), geometry,
                     count)
    np.testing.assert_array_equal(seen, 1)

  @hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
  @hypothesis.given(st.integers(1, 20), st.data())
  def test_equal_blocks_cover_each_row_and_tell_which_they_repeat(
      self, size, data):
    count = data.draw(st.integers(1, size))

    def body(seen, first, again):
      here = jnp.arange(size)
      return seen + jnp.where(
          (here >= first) & (here < first + count),
          jnp.where(here < first + again, 100, 1), 0)

    seen = rows.loop(body, jnp.zeros(size, int), size, count)
    np.testing.assert_array_equal(seen % 100, 1)
    here, start = np.arange(size), size - count  # Of the last block.
    np.testing.assert_array_equal(
        seen // 100, (here >= start) & (here < start + -size % count))

  # Operation, dilation, groups.
  @parameterized.parameters(
      ('conv_transpose', 1, 1), ('conv', 1, 1), ('conv_kernel_grad', 1, 1),
      ('conv', 3, 1), ('conv', 1, 2), ('conv_kernel_grad', 3, 2))
  def test_the_buffer_is_bounded_and_a_batch_stays_on_its_devices(
      self, operation, dilation, groups):
    # 2048 x 2048 fine positions of 8 channels, 4 taps each way: patches of the
    # whole would be 512 MiB for each image.
    geometry = geometry_lib.conv_transpose_geometry(
        (1024, 1024), (4, 4), (2, 2), dilation * 3 // 2, (dilation,) * 2,
        groups)
    mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))

    x, y, w = (
        jax.ShapeDtypeStruct(size, jnp.float32,
                             sharding=NamedSharding(mesh, spec))
        for size, spec in (((4, 2048, 2048, 8), P('data')),
                           ((4, 1024, 1024, 8), P('data')),
                           ((4, 4, 8 // groups, 8), P())))
    operands = {'conv': (x, w), 'conv_transpose': (y, w),
                'conv_kernel_grad': (x, y)}[operation]
    compiled = jax.jit(lambda a, b: trilinear.contract(
        operation, a, b, geometry=geometry, method='overlap_add')).lower(
            *operands).compile()
    buffers = compiled.memory_analysis().temp_size_in_bytes
    # A block of patches, what is made of it, and the slices it is made from.
    self.assertBetween(buffers, 1, 4 * overlap_add.BLOCK)
    text = compiled.as_text()
    self.assertIn('while', text)  # Blocks that are alike share a loop.
    for word in 'all-gather', 'all-to-all', 'collective-permute':
      self.assertNotIn(word, text)

  def test_blocks_within_shard_map(self):
    mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
    y, w = integers(0, (4, 16, 8, 2)), integers(0, (4, 4, 3, 2))
    step = jax.grad(lambda y, w: (tconv.conv_transpose(
        y, w, 2, method='overlap_add')**2).sum(), (0, 1))
    expected = jax.jit(step)(y, w)
    with mock.patch.object(overlap_add, 'BLOCK', 2_000):
      actual = jax.jit(jax.shard_map(
          lambda *a: step(*a), mesh=mesh, in_specs=(P('data'), P()),
          out_specs=(P('data'), P())))(y, w)
    chex.assert_trees_all_equal(actual, expected)


if __name__ == '__main__':
  absltest.main()
