from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

import tconv


def noise(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def level_by_loops(image, period):
  """grid_level of one [H, W] image, from its definition, in NumPy."""
  h, w = (n - n % period for n in image.shape)
  image = image[:h, :w]
  hann = lambda n: np.sin(np.pi * np.arange(n) / n)**2
  window = np.outer(hann(h), hann(w))
  mean = (image * window).sum() / window.sum()
  power = abs(np.fft.fft2((image - mean) * window))**2
  around = lambda a, b, n: min((a - b) % n, (b - a) % n)
  distance = lambda p, q: max(around(p[0], q[0], h), around(p[1], q[1], w))
  lattice = [(i * h // period, j * w // period)
             for i in range(period) for j in range(period)]
  lines = floor = 0
  for g in lattice[1:]:
    near = [power[p] for p in np.ndindex(h, w) if 2 <= distance(p, g) <= 5
            and all(distance(p, q) > 1 for q in lattice)]
    lines += power[g]
    floor += np.mean(near)
  return 10 * np.log10(lines / floor)


class GridLevelTest(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((2, (24, 30)), (3, (31, 24)), (4, (37, 32)),
                            (2, (8, 9)))
  def test_equals_its_definition(self, period, size):
    with jax.enable_x64(True):
      x = noise(2, *size, 3) + 5
      actual = self.variant(lambda x: tconv.grid_level(x, period))(x)
      expected = [[level_by_loops(x[n, ..., c], period) for c in range(3)]
                  for n in range(2)]
      # float64 and a few hundred additions.
      np.testing.assert_allclose(actual, expected, rtol=1e-9)

  def test_sees_a_checkerboard_whatever_the_contrast(self):
    x = noise(1, 64, 64, 1).astype('f')
    board = np.indices((64, 64)).sum(0)[None, ..., None] % 2 * .5
    plain = tconv.grid_level(x, 2)
    striped = tconv.grid_level((x + board).astype('f'), 2)
    self.assertGreater(float(striped[0, 0] - plain[0, 0]), 12)
    np.testing.assert_allclose(
        tconv.grid_level((100 * (x + board) + 7).astype('f'), 2), striped,
        atol=1e-3)

  def test_brightness_and_its_edges_leak_nothing(self):
    # A constant beside which the noise is small: the window must not let it
    # reach the grid bins, at periods for which a symmetric window would.
    with jax.enable_x64(True):
      x = 1e-6 * noise(1, 48, 48, 1)
      for period in (2, 3, 4):
        np.testing.assert_allclose(
            tconv.grid_level(1 + x, period), tconv.grid_level(x, period),
            atol=1e-6)

  def test_exclude_separates_period_4_from_period_2(self):
    x = noise(1, 64, 64, 1)
    place = np.indices((64, 64))[0][None, ..., None]
    two, four = x + place % 2, x + (place % 4 < 2)
    only_four = lambda x: float(
        tconv.grid_level(x.astype('f'), 4, exclude=2)[0, 0])
    np.testing.assert_allclose(only_four(two), only_four(x), atol=1e-3)
    self.assertGreater(only_four(four), only_four(x) + 12)
    np.testing.assert_allclose(tconv.grid_level(four.astype('f'), 2),
                               tconv.grid_level(x.astype('f'), 2), atol=1e-3)

  def test_floor_leaves_out_excluded_lines_too(self):
    # Lines of period 2, far above the noise, a few bins from the floor.
    x = noise(1, 16, 16, 1)
    level = lambda x: tconv.grid_level(x.astype('f'), 4, exclude=2)
    lines = 100 * (np.indices((16, 16)).sum(0)[..., None] % 2)
    np.testing.assert_allclose(level(x + lines), level(x), atol=1e-2)

  def test_no_images(self):
    self.assertEqual(tconv.grid_level(np.zeros((0, 16, 16, 2), 'f'), 2).shape,
                     (0, 2))

  def test_signals_and_volumes(self):
    signal = noise(2, 200, 3) + np.arange(200)[:, None] % 4
    volume = noise(1, 16, 16, 16, 1)
    volume += np.indices((16, 16, 16)).sum(0)[..., None] % 2
    for x, period in ((signal, 4), (volume, 2), (volume, (1, 2, 2))):
      level = tconv.grid_level(x.astype('f'), period)
      self.assertEqual(level.shape, (x.shape[0], x.shape[-1]))
      if period != (1, 2, 2):  # Whose bins leave out the alternation in depth.
        self.assertGreater(float(level.min()), 10)
    self.assertLess(float(level.max()), 10)

  @parameterized.parameters(0., .3)
  def test_constant_image_is_flat(self, value):
    x = jnp.full((1, 16, 16, 1), value)
    level, gradient = jax.value_and_grad(
        lambda x: tconv.grid_level(x, 2).sum())(x)
    self.assertEqual(level, 0)
    self.assertTrue(np.isfinite(gradient).all())

  def test_vmap(self):
    x = noise(3, 2, 16, 16, 1).astype('f')
    np.testing.assert_allclose(
        jax.vmap(lambda x: tconv.grid_level(x, 2))(x),
        np.stack([tconv.grid_level(row, 2) for row in x]), atol=1e-4)

  @parameterized.parameters(
      (dict(period=1), 'period must be at least 2; got 1'),
      (dict(period=2.5), 'period must be one int .*got 2.5'),
      (dict(period=4, exclude=3), 'exclude must divide .*got exclude 3 .* 4'),
      (dict(period=2, exclude=2), 'exclude must .*smaller'),
      (dict(period=5), r'x must measure at least 4 periods .*\(16, 16\)'),
      (dict(x=np.ones((1, 16, 16, 1), 'uint8')), 'x must be float.*uint8'))
  def test_errors(self, arguments, message):
    call = dict(x=np.ones((1, 16, 16, 1), 'f'), period=2) | arguments
    with self.assertRaisesRegex(ValueError, message):
      tconv.grid_level(**call)


if __name__ == '__main__':
  absltest.main()
