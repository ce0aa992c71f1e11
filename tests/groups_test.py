"""Groups of few channels are bundled, without a change of results."""

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from tconv import geometry as geometry_lib
from tconv.forms import groups
from tests.references import integers


def _geometry(count):
  return geometry_lib.conv_geometry(
      (6, 6), (3, 3), (1, 1), 'SAME', (1, 1), count)


class GroupsTest(parameterized.TestCase):

  # Groups, channels of a group on either side, and the bundles of them.
  @parameterized.parameters(
      (1, 3, 5, 1), (4, 8, 8, 4), (4, 2, 64, 4), (6, 3, 4, 3), (6, 1, 1, 1),
      (64, 1, 1, 8), (7, 7, 7, 1))
  def test_bundles_are_not_small(self, count, fine, coarse, expected):
    bundled = groups.bundled(_geometry(count), fine, coarse)
    self.assertEqual(bundled.feature_group_count, expected)

  @parameterized.parameters((8, 4, 2), (6, 3, 5), (16, 1, 2))
  def test_a_bundle_is_block_diagonal(self, count, fine, coarse):
    kernel = integers(0, (3, 3, fine, count * coarse))
    dense, geometry = groups.bundle(jnp.asarray(kernel), _geometry(count))
    size = count // geometry.feature_group_count
    self.assertGreater(size, 1)
    expected = np.zeros((3, 3, size * fine, count * coarse), np.float32)
    for group in range(count):
      first = group % size * fine
      features = slice(group * coarse, (group + 1) * coarse)
      expected[:, :, first:first + fine, features] = kernel[..., features]
    np.testing.assert_array_equal(dense, expected)
    np.testing.assert_array_equal(
        groups.unbundle(dense, count, geometry.feature_group_count), kernel)

  def test_unbundling_drops_what_lies_between_groups(self):
    dense = jnp.asarray(integers(1, (1, 1, 4, 4)))
    kernel = groups.unbundle(dense, 2, 1)
    np.testing.assert_array_equal(kernel[0, 0], np.concatenate(
        [dense[0, 0, :2, :2], dense[0, 0, 2:, 2:]], axis=1))

  def test_matrices_of_groups(self):
    a = np.arange(24).reshape(4, 6)
    split = groups.split(jnp.asarray(a), 3)
    np.testing.assert_array_equal(split[1], a[:, 2:4])
    np.testing.assert_array_equal(groups.join(split), a)


if __name__ == '__main__':
  absltest.main()
