"""What all measures of `tconv.spectrum` have in common."""

import functools
import inspect

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from tconv import spectrum

# Functions of one batch of images, and of a pair of them.
GRID = {
    name: functools.partial(getattr(spectrum, name), period=2)
    for name in ('phase_means', 'grid_energy', 'grid_amplitude', 'grid_level',
                 'grid_test')} | {
    'parts': functools.partial(spectrum.grid_energy, period=2, parts=True),
    'local_grid_energy': functools.partial(
        spectrum.local_grid_energy, period=2, patch=6)}
GRID_PAIR = {
    name: functools.partial(getattr(spectrum, name), period=2)
    for name in ('grid_share', 'excess_grid_energy')}
RADIAL_PAIR = {name: getattr(spectrum, name)
               for name in ('log_spectral_distance', 'high_frequency_bias')}
PAIR = GRID_PAIR | RADIAL_PAIR
OF_ALL_IMAGES = {'radial_spectrum', *RADIAL_PAIR}
EVERY = GRID | PAIR | {
    name: getattr(spectrum, name)
    for name in ('radial_spectrum', 'legacy_radial_profile')}


def jitted(function):
  """Compiled as a whole, which is quicker than operation by operation."""
  options = set(inspect.signature(function).parameters) - {'x', 'y'}
  return jax.jit(function, static_argnames=tuple(options))


def noise(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape) + .5


def batches(*shape):
  """Images, and others to compare them with."""
  return [noise(*shape, seed=seed) for seed in range(2)]


def measure(name, x, y):
  return EVERY[name](x, y) if name in PAIR else EVERY[name](x)


def every(x, y):
  """All measures by name."""
  return {name: measure(name, x, y) for name in EVERY}


def gradients(x, y):
  """Of the sum of each measure, with respect to the first images."""
  def total(x, name):
    return sum(leaf.sum() for leaf in jax.tree.leaves(measure(name, x, y)))

  return {name: jax.grad(total)(x, name) for name in EVERY}


plain = jax.jit(every)


class EveryMeasureTest(parameterized.TestCase):

  def test_jit_vmap_and_float32_agree(self):
    images = batches(3, 2, 16, 17, 2)
    one_by_one = lambda dtype: jax.tree.map(
        lambda *rows: np.stack(rows),
        *(plain(*(x[n].astype(dtype) for x in images)) for n in range(3)))
    single = one_by_one('float32')
    with jax.enable_x64(True):
      expected = one_by_one('float64')
      actual = jax.jit(jax.vmap(every))(*map(jnp.asarray, images))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9,
                                   atol=1e-12), actual, expected)
    # Energies of order 1e-3 from values of order 1, in 24 bits; levels in dB.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3,
                                   atol=1e-5), single, expected)
    for leaf in jax.tree.leaves(single):
      self.assertEqual(leaf.dtype, jnp.float32)

  def test_images_may_be_sharded_explicitly(self):
    images = [x.astype('f') for x in batches(2, 16, 18, 2)]
    both = jax.jit(lambda *images: (every(*images), gradients(*images)))
    expected = both(*images)
    mesh = jax.make_mesh((2, 2), ('a', 'b'), (AxisType.Explicit,) * 2)
    for spec in P('a', None, None, 'b'), P('a', 'b'):
      with jax.set_mesh(mesh), jax.numpy_dtype_promotion('strict'):
        actual = both(*(jax.device_put(x, NamedSharding(mesh, spec))
                        for x in images))
      # Sums in another order, of float32 numbers up to some hundreds.
      jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4,
                                     atol=1e-4), actual, expected)
      for name, value in actual[0].items():
        for leaf in jax.tree.leaves(value):
          self.assertEqual(leaf.sharding.spec[0],
                           None if name in OF_ALL_IMAGES else 'a', name)

  def test_nan_keeps_to_its_image_and_channel(self):
    x, y = batches(2, 16, 17, 2)
    spoilt = x.copy()
    spoilt[1, 3, 4, 1] = np.nan
    with jax.enable_x64(True):
      clean, actual = plain(x, y), plain(spoilt, y)
    for name in EVERY:
      for before, after in zip(*(
          jax.tree.leaves(result[name]) for result in (clean, actual))):
        expected = np.array(before)
        if name == 'phase_means':
          expected[1, 1, 0, 1] = np.nan
        elif name in OF_ALL_IMAGES:
          expected[..., 1] = np.nan
        else:
          expected[1, ..., 1] = np.nan
        np.testing.assert_allclose(after, expected, rtol=1e-12, err_msg=name)

  def test_of_constant_images_value_and_gradient_are_finite(self):
    compute = jax.jit(lambda x: (every(x, x), gradients(x, x)))
    for value in (0., .3, 1e-30):
      found = compute(np.full((1, 16, 16, 1), value, 'f'))
      self.assertTrue(jax.tree.all(jax.tree.map(
          lambda a: np.isfinite(a).all(), found)), (value, found))

  def test_ratios_do_not_depend_on_the_unit(self):
    x, y = (x.astype('f') for x in batches(2, 16, 17, 2))
    before = plain(x, y)
    constant = np.full(x.shape, 1e30, 'f')
    flat = plain(constant, constant)
    # The same roundings: a power of two changes exponents only.
    scaled = [plain(s * x, s * y) for s in np.float32([2.**100, 2.**-3])]
    for name in ('grid_level', 'grid_test', 'grid_share', *RADIAL_PAIR):
      for after in scaled:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6)
      self.assertTrue(np.isfinite(flat[name]).all(), name)

  def test_no_images(self):
    empty = np.ones((0, 16, 16, 2), 'f')
    for name in EVERY.keys() - OF_ALL_IMAGES:
      arrays = [empty] * (1 + (name in PAIR))
      for leaf in jax.tree.leaves(jax.eval_shape(EVERY[name], *arrays)):
        self.assertEqual((leaf.shape[0], leaf.shape[-1]), (0, 2))

  @parameterized.named_parameters((name, name) for name in EVERY)
  def test_errors(self, name):
    ones = lambda *shape, dtype='f': np.ones(shape, dtype)
    x, count = ones(1, 16, 16, 1), 1 + (name in PAIR)
    cases = [([image] * count, {}, message) for image, message in (
        (x.astype('int32'), 'x must be float.*int32'),
        (ones(1, 16, 3, 1), r'at least 4 .*\(16, 3\)'),
        (ones(16, 16), 'x must have .* axes'))]
    if name in PAIR:
      cases += [
          ((x, ones(1, 16, 16, 2)), {}, r'x and y .*1\).*\(1, 16, 16, 2\)'),
          ((x, x.astype('d')), {}, 'x and y .*float32.*float64')]
    if name in GRID | GRID_PAIR:
      cases += [([x] * count, dict(period=period), message)
                for period, message in (
                    (1, 'period must be at least 2; got 1'),
                    (0, 'period must be one int .*got 0'),
                    (2.5, 'period must be one int .*got 2.5'),
                    ((2,), r'period must .*got \(2,\)'),
                    ((2, 2, 2), r'x must have a batch .*\(2, 2, 2\)'),
                    (5, r'x must measure at least 4 periods .*\(16, 16\)'))]
      if name != 'phase_means':
        cases += [
            ([x] * count, dict(period=4, exclude=3),
             'exclude must divide .*exclude 3 .* 4'),
            ([x] * count, dict(exclude=2), 'exclude must .*smaller')]
    for images, options, message in cases:
      with jax.enable_x64(True), self.assertRaisesRegex(ValueError, message):
        EVERY[name](*images, **options)


if __name__ == '__main__':
  absltest.main()
