from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tconv import spectrum
from tests.spectrum_test import jitted
from tests.spectrum_test import noise

grid_level = jitted(spectrum.grid_level)
grid_test = jitted(spectrum.grid_test)


def by_loops(image, period, exclude):
  """grid_level and grid_test of one [*size] image, from their definitions."""
  image = image[tuple(slice(s - s % p) for s, p in zip(image.shape, period))]
  size, axes = image.shape, range(image.ndim)
  window = np.ones(size)
  for axis, s in enumerate(size):
    hann = np.sin(np.pi * np.arange(s) / s)**2
    window *= np.expand_dims(hann, [a for a in axes if a != axis])
  mean = (image * window).sum() / window.sum()
  dft = np.fft.fftn((image - mean) * window)
  power = abs(dft)**2
  opposite = lambda b: tuple(-i % s for i, s in zip(b, size))
  distance = lambda b, g: max(
      min((i - j) % s, (j - i) % s) for i, j, s in zip(b, g, size))
  lattice, lines = [], []
  for k in np.ndindex(*period):
    g = tuple(m * s // p for m, s, p in zip(k, size, period))
    lattice.append(g)
    if any(m % (p // e) for m, p, e in zip(k, period, exclude)):
      lines.append(g)
  free = [b for b in np.ndindex(*size)
          if all(distance(b, g) >= 2 for g in lattice)]
  around = lambda g, reach: [b for b in free if distance(b, g) <= reach]
  level = 10 * np.log10(sum(power[g] for g in lines) / sum(
      np.mean([power[b] for b in around(g, 5)]) for g in lines))

  lines = [g for g in lines if g <= opposite(g)]  # The others are equal.
  for reach in range(5, max(5, max(size) // 2) + 1):
    near = [around(g, reach) for g in lines]
    if min(map(len, near)) >= 100 * len(lines) - 1:
      break
  ranks = []
  for g, bins in zip(lines, near):
    bins = {min(b, opposite(b)) for b in bins}
    if g == opposite(g):
      floor = [2 * v**2 for b in bins for v in (dft[b].real, dft[b].imag)]
    else:
      floor = [power[b] for b in bins]
    ranks.append((1 + sum(f >= power[g] for f in floor)) / (1 + len(floor)))
  return level, min(1, len(lines) * min(ranks))


class LinesTest(parameterized.TestCase):

  @parameterized.parameters(
      (3, 1, (31, 24)), (4, 2, (32, 32)), ((1, 3), 1, (20, 24)),
      (2, 1, (8, 9)), (2, 1, (201,)), (5, 1, (90,)),
      ((2, 3, 2), 1, (8, 12, 10)))
  def test_equal_their_definitions(self, period, exclude, size):
    with jax.enable_x64(True):
      x = noise(3, *size, 2) + 5
      levels = grid_level(x, period, exclude=exclude)
      p_values = grid_test(x, period, exclude=exclude)
      period, exclude = (
          tuple(np.broadcast_to(p, len(size))) for p in (period, exclude))
      for n, c in np.ndindex(3, 2):
        level, p_value = by_loops(x[n, ..., c], period, exclude)
        # float64 and a few hundred additions.
        np.testing.assert_allclose(levels[n, c], level, rtol=1e-9)
        # A rank is exact; only the division rounds.
        np.testing.assert_allclose(p_values[n, c], p_value, rtol=1e-14)

  def test_brightness_leaks_nothing(self):
    # A constant beside which the noise is small: the window must not let it
    # reach the grid bins, at periods for which a symmetric window would.
    with jax.enable_x64(True):
      x = 1e-6 * noise(1, 48, 48, 1)
      for period in (2, 3):
        np.testing.assert_allclose(
            grid_level(1 + x, period), grid_level(x, period), atol=1e-6)

  @parameterized.parameters((60, 4), (63, 2), (63, 3))
  def test_a_constant_is_no_evidence(self, size, period):
    # A mean that rounds leaves a spectrum of rounding errors, lines included.
    values = np.random.default_rng(0).uniform(size=(20, 1, 1, 1))
    x = (values * np.ones((size, size, 1))).astype('f')
    np.testing.assert_array_equal(grid_test(x, period), np.ones((20, 1)))
    # Both logarithms are the same number, up to how XLA rounds them.
    np.testing.assert_allclose(grid_level(x, period), 0 * x[:, 0, 0], atol=1e-4)


if __name__ == '__main__':
  absltest.main()
