
from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tconv import spectrum
from tests.spectrum_test import jitted

grid_level = jitted(spectrum.grid_level)
grid_test = jitted(spectrum.grid_test)


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


def p_value_by_loops(image, period, exclude):
  """grid_test of one [*size] image, from its definition, in NumPy."""
  image = image[tuple(slice(s - s % p) for s, p in zip(image.shape, period))]
  size, axes = image.shape, range(image.ndim)
  window = np.ones(size)
  for axis, s in enumerate(size):
    hann = np.sin(np.pi * np.arange(s) / s)**2
    window *= np.expand_dims(hann, [a for a in axes if a != axis])
  mean = (image * window).sum() / window.sum()
  dft = np.fft.fftn((image - mean) * window)
  opposite = lambda b: tuple(-i % s for i, s in zip(b, size))
  distance = lambda b, g: max(
      min((i - j) % s, (j - i) % s) for i, j, s in zip(b, g, size))
  lattice, lines = [], []
  for k in np.ndindex(*period):
    g = tuple(m * s // p for m, s, p in zip(k, size, period))
    lattice.append(g)
    excluded = all(m % (p // e) == 0 for m, p, e in zip(k, period, exclude))
    if not excluded and opposite(g) not in lines:
      lines.append(g)
  free = [b for b in np.ndindex(*size)
          if all(distance(b, g) >= 2 for g in lattice)]
  for reach in range(5, max(5, max(size) // 2) + 1):
    near = [[b for b in free if distance(b, g) <= reach] for g in lines]
    if min(map(len, near)) >= 100 * len(lines) - 1:
      break
  ranks = []
  for g, bins in zip(lines, near):
    bins = {min(b, opposite(b)) for b in bins}
    if g == opposite(g):
      floor = [2 * v**2 for b in bins for v in (dft[b].real, dft[b].imag)]
    else:
      floor = [abs(dft[b])**2 for b in bins]
    ranks.append(
        (1 + sum(f >= abs(dft[g])**2 for f in floor)) / (1 + len(floor)))
  return min(1, len(lines) * min(ranks))


class GridLevelTest(parameterized.TestCase):

  @parameterized.parameters((3, (31, 24)), (4, (37, 32)), (2, (8, 9)))
  def test_equals_its_definition(self, period, size):
    with jax.enable_x64(True):
      x = noise(2, *size, 3) + 5
      actual = grid_level(x, period)
      expected = [[level_by_loops(x[n, ..., c], period) for c in range(3)]
                  for n in range(2)]
      # float64 and a few hundred additions.
      np.testing.assert_allclose(actual, expected, rtol=1e-9)

  def test_sees_a_checkerboard_whatever_the_contrast(self):
    x = noise(1, 64, 64, 1).astype('f')
    board = np.indices((64, 64)).sum(0)[None, ..., None] % 2 * .5
    plain = grid_level(x, 2)
    striped = grid_level((x + board).astype('f'), 2)
    self.assertGreater(float(striped[0, 0] - plain[0, 0]), 12)
    np.testing.assert_allclose(
        grid_level((100 * (x + board) + 7).astype('f'), 2), striped,
        atol=1e-3)

  def test_brightness_and_its_edges_leak_nothing(self):
    # A constant beside which the noise is small: the window must not let it
    # reach the grid bins, at periods for which a symmetric window would.
    with jax.enable_x64(True):
      x = 1e-6 * noise(1, 48, 48, 1)
      for period in (2, 3, 4):
        np.testing.assert_allclose(
            grid_level(1 + x, period), grid_level(x, period),
            atol=1e-6)

  def test_exclude_separates_period_4_from_period_2(self):
    x = noise(1, 64, 64, 1)
    place = np.indices((64, 64))[0][None, ..., None]
    two, four = x + place % 2, x + (place % 4 < 2)
    only_four = lambda x: float(
        grid_level(x.astype('f'), 4, exclude=2)[0, 0])
    np.testing.assert_allclose(only_four(two), only_four(x), atol=1e-3)
    self.assertGreater(only_four(four), only_four(x) + 12)
    np.testing.assert_allclose(grid_level(four.astype('f'), 2),
                               grid_level(x.astype('f'), 2), atol=1e-3)

  def test_signals_and_volumes(self):
    signal = noise(2, 200, 3) + np.arange(200)[:, None] % 4
    volume = noise(1, 16, 16, 16, 1)
    volume += np.indices((16, 16, 16)).sum(0)[..., None] % 2
    for x, period in ((signal, 4), (volume, 2), (volume, (1, 2, 2))):
      level = grid_level(x.astype('f'), period)
      self.assertEqual(level.shape, (x.shape[0], x.shape[-1]))
      if period != (1, 2, 2):  # Whose bins leave out the alternation in depth.
        self.assertGreater(float(level.min()), 10)
    self.assertLess(float(level.max()), 10)

  def test_constant_image_is_flat(self):
    for value in 0., .3:
      # Both logarithms are the same number, up to how XLA rounds them.
      level = grid_level(np.full((1, 16, 16, 1), value, 'f'), 2)
      self.assertAlmostEqual(float(level[0, 0]), 0, delta=1e-4)


class GridTestTest(parameterized.TestCase):

  @parameterized.parameters(
      (3, 1, (31, 24)), (4, 2, (32, 32)),
      ((1, 3), 1, (20, 24)), (2, 1, (8, 9)), (2, 1, (201,)), (5, 1, (90,)),
      ((2, 3, 2), 1, (8, 12, 10)))
  def test_equals_its_definition(self, period, exclude, size):
    with jax.enable_x64(True):
      x = noise(3, *size, 2) + 5
      period, exclude = (
          tuple(np.broadcast_to(p, len(size))) for p in (period, exclude))
      actual = grid_test(x, period, exclude=exclude)
      expected = [[p_value_by_loops(x[n, ..., c], period, exclude)
                   for c in range(2)] for n in range(3)]
      # A rank is exact; only the division rounds.
      np.testing.assert_allclose(actual, expected, rtol=1e-14)

  @parameterized.parameters(2, 3)
  def test_a_pattern_is_as_sure_as_can_be(self, period):
    pattern = np.tile(noise(period, period, seed=1), (60 // period,) * 2)
    plain = noise(1, 60, 60, 1, seed=2)
    striped = plain + pattern[None, ..., None]
    p_value = grid_test(striped.astype('f'), period)
    self.assertLess(float(p_value[0, 0]), .01)
    self.assertGreater(
        float(grid_test(plain.astype('f'), period)[0, 0]), .05)
    np.testing.assert_array_equal(
        grid_test((100 * striped + 7).astype('f'), period), p_value)

  @parameterized.parameters(60, 63)
  def test_a_constant_is_no_evidence(self, size):
    # A mean that rounds leaves a spectrum of rounding errors, lines included.
    values = np.random.default_rng(0).uniform(size=(20, 1, 1, 1))
    x = (values * np.ones((size, size, 1))).astype('f')
    for period in (2, 3, 4):
      np.testing.assert_array_equal(grid_test(x, period), np.ones((20, 1)))

  def test_an_image_with_few_bins_is_less_sure(self):
    board = np.indices((8, 8)).sum(0)[None, ..., None] % 2
    x = noise(1, 8, 8, 1) + 99 * board
    p_value = grid_test(x.astype('f'), 2)
    # 28 neighbours, all below; three lines.
    np.testing.assert_allclose(p_value, 3 / 29, rtol=1e-6)


if __name__ == '__main__':
  absltest.main()
