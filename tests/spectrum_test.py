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
RADIAL = {'radial_spectrum': spectrum.radial_spectrum}
RADIAL_PAIR = {name: getattr(spectrum, name)
               for name in ('log_spectral_distance', 'high_frequency_bias')}
LEGACY = {'legacy_radial_profile': spectrum.legacy_radial_profile}
PAIR = GRID_PAIR | RADIAL_PAIR
SINGLE = GRID | RADIAL | LEGACY
EVERY = SINGLE | PAIR
NAMES = [(name, name) for name in EVERY]


def jitted(function):
  """Compiled as a whole, which is quicker than operation by operation."""
  options = set(inspect.signature(function).parameters) - {'x', 'y'}
  return jax.jit(function, static_argnames=tuple(options))


def noise(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape) + .5


def batch(name, *shape):
  """Images, and others to compare them with where the measure takes two."""
  return [noise(*shape, seed=seed) for seed in range(1 + (name in PAIR))]


class EveryMeasureTest(parameterized.TestCase):

  @parameterized.named_parameters(NAMES)
  def test_jit_vmap_and_float32_agree(self, name):
    f, images = EVERY[name], batch(name, 3, 2, 16, 17, 2)
    with jax.enable_x64(True):
      plain = jax.jit(f)
      expected = jax.tree.map(lambda *rows: np.stack(rows), *(
          plain(*(x[n] for x in images)) for n in range(3)))
      actual = jax.jit(jax.vmap(f))(*map(jnp.asarray, images))
      jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9,
                                     atol=1e-12), actual, expected)
    # Energies of order 1e-3 from values of order 1, in 24 bits; levels in dB.
    single = jax.jit(jax.vmap(f))(*(jnp.asarray(x, 'f') for x in images))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3,
                                   atol=1e-5), single, expected)
    for leaf in jax.tree.leaves(single):
      self.assertEqual(leaf.dtype, jnp.float32)

  @parameterized.named_parameters(NAMES)
  def test_images_may_be_sharded_explicitly(self, name):
    f = EVERY[name]
    images = [x.astype('f') for x in batch(name, 2, 16, 18, 2)]
    total = lambda *images: sum(
        leaf.sum() for leaf in jax.tree.leaves(f(*images)))
    both = jax.jit(lambda *images: (f(*images), jax.grad(total)(*images)))
    expected = both(*images)
    mesh = jax.make_mesh((2, 2), ('a', 'b'), (AxisType.Explicit,) * 2)
    spec = P('a', None, None, 'b') if len(name) % 2 else P('a', 'b')
    with jax.set_mesh(mesh), jax.numpy_dtype_promotion('strict'):
      actual = both(*(jax.device_put(x, NamedSharding(mesh, spec))
                      for x in images))
    # Sums in another order, of float32 numbers up to some hundreds.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4,
                                   atol=1e-4), actual, expected)
    for leaf in jax.tree.leaves(actual[0]):
      of_batch = None if name in RADIAL | RADIAL_PAIR else 'a'
      self.assertEqual(leaf.sharding.spec[0], of_batch)

  @parameterized.named_parameters(
      (name, name) for name in GRID | GRID_PAIR if name != 'parts')
  def test_signals_and_volumes_too(self, name):
    f = jax.vmap(EVERY[name])
    for size in ((8, 9, 9),) if name in GRID_PAIR else ((9,), (8, 9, 9)):
      images = [x.astype('f') for x in batch(name, 2, 3, *size, 2)]
      mapped = jax.jit(f)(*images)
      plain = jax.jit(EVERY[name])(*(x.reshape(6, *size, 2) for x in images))
      self.assertEqual(mapped.shape[:2], (2, 3))
      np.testing.assert_allclose(
          mapped.reshape(plain.shape), plain, rtol=1e-3, atol=1e-5)

  @parameterized.named_parameters(NAMES)
  def test_nan_keeps_to_its_image_and_channel(self, name):
    f, images = EVERY[name], batch(name, 2, 16, 16, 2)
    spoilt = images[0].copy()
    spoilt[1, 3, 4, 1] = np.nan
    with jax.enable_x64(True):
      clean, actual = (jax.tree.leaves(jax.jit(f)(x, *images[1:]))
                       for x in (images[0], spoilt))
    for before, after in zip(clean, actual):
      expected = np.array(before)
      if name == 'phase_means':
        expected[1, 1, 0, 1] = np.nan
      elif name in RADIAL | RADIAL_PAIR:  # Which speak of all images at once.
        expected[..., 1] = np.nan
      else:
        expected[1, ..., 1] = np.nan
      np.testing.assert_allclose(after, expected, rtol=1e-12)

  @parameterized.named_parameters(NAMES)
  def test_of_constant_images_value_and_gradient_are_finite(self, name):
    def total(x):
      others = [x] * (len(batch(name, 1)) - 1)
      return sum(leaf.sum() for leaf in jax.tree.leaves(
          EVERY[name](x, *jax.lax.stop_gradient(others))))

    compute = jax.jit(jax.value_and_grad(total))
    for value in (0., .3, 1e-30):
      for result in compute(np.full((1, 16, 16, 1), value, 'f')):
        self.assertTrue(np.isfinite(result).all(), (value, result))

  @parameterized.parameters('grid_level', 'grid_test', 'grid_share',
                            *RADIAL_PAIR)
  def test_ratios_do_not_depend_on_the_unit(self, name):
    f, images = EVERY[name], [x.astype('f') for x in batch(name, 2, 16, 16, 2)]
    plain = jax.jit(f)
    # The same roundings: a power of two changes exponents only.
    for scale in np.float32([2.**100, 2.**-3]):
      np.testing.assert_allclose(
          plain(*(scale * x for x in images)), plain(*images), rtol=1e-6)
    constant = np.full((2, 16, 16, 2), 1e30, 'f')
    self.assertTrue(np.isfinite(plain(*[constant] * len(images))).all())

  @parameterized.named_parameters(
      (name, name) for name in EVERY if name not in RADIAL | RADIAL_PAIR)
  def test_no_images(self, name):
    empty = [x.astype('f') for x in batch(name, 0, 16, 16, 2)]
    for leaf in jax.tree.leaves(jax.eval_shape(EVERY[name], *empty)):
      self.assertEqual((leaf.shape[0], leaf.shape[-1]), (0, 2))

  @parameterized.named_parameters(NAMES)
  def test_bad_images(self, name):
    ones, f = lambda *shape: np.ones(shape, 'f'), EVERY[name]
    cases = [([x] * len(batch(name, 1)), message) for x, message in (
        (ones(1, 16, 16, 1).astype('int32'), 'x must be float.*int32'),
        (ones(1, 16, 3, 1), r'at least 4 .*\(16, 3\)'),
        (ones(16, 16), 'x must have .* axes'))]
    if name in PAIR:
      x = ones(1, 16, 16, 1)
      cases += [((x, ones(1, 16, 16, 2)), r'x and y .*1\).*\(1, 16, 16, 2\)'),
                ((x, x.astype('d')), 'x and y .*float32.*float64')]
    for images, message in cases:
      with jax.enable_x64(True), self.assertRaisesRegex(ValueError, message):
        f(*images)

  @parameterized.named_parameters(
      (name, name) for name in GRID | GRID_PAIR)
  def test_bad_periods(self, name):
    images = [x.astype('f') for x in batch(name, 1, 16, 16, 1)]
    for options, message in (
        (dict(period=1), 'period must be at least 2; got 1'),
        (dict(period=0), 'period must be one int .*got 0'),
        (dict(period=2.5), 'period must be one int .*got 2.5'),
        (dict(period=(2,)), r'period must .*got \(2,\)'),
        (dict(period=(2, 2, 2)), r'x must have a batch .*\(2, 2, 2\)'),
        (dict(period=5), r'x must measure at least 4 periods .*\(16, 16\)'),
        (dict(period=4, exclude=3), 'exclude must divide .*exclude 3 .* 4'),
        (dict(period=2, exclude=2), 'exclude must .*smaller')):
      if name != 'phase_means' or 'exclude' not in options:
        with self.assertRaisesRegex(ValueError, message):
          EVERY[name](*images, **options)


if __name__ == '__main__':
  absltest.main()
