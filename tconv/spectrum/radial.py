"""The spectrum by radius: the power at each scale, averaged over directions."""

import jax
import jax.numpy as jnp
import numpy as np

from tconv import arrays
from tconv import sharding
from tconv.spectrum import images


def radial_spectrum(x: jax.Array) -> jax.Array:
  """The mean power at each radius of the spectrum, over all images.

  The power is `|DFT|^2 / prod(size)`, so white noise of variance v has the
  power v at every radius. There is no window. The corner of the spectrum, where
  a checkerboard of period 2 is, counts.

  Args:
    x: [N, *size, C] images, with one to three spatial axes of at least 4
      pixels.

  Returns:
    [R, C] means. Ring r has the bins whose radius, in cycles per shortest side,
    rounds to r; halves round up. The Nyquist frequency is at r = min(size) / 2,
    and the last ring contains the corner.

  Raises:
    ValueError: dtype other than float32 or float64, or axis below 4 pixels.

  Example:
    >>> x = jnp.zeros((1, 8, 8, 1)).at[0, 4, 4].set(8.)  # Power 1 at all radii.
    >>> tconv.radial_spectrum(x)[:, 0]
    Array([1., 1., 1., 1., 1., 1., 1.], dtype=float32)
    >>> flat = jnp.ones((1, 8, 8, 1))
    >>> tconv.radial_spectrum(flat)[:, 0]
    Array([64.,  0.,  0.,  0.,  0.,  0.,  0.], dtype=float32)
  """
  return sharding.automatic(_radial_spectrum, (), _read(x))


def log_spectral_distance(x: jax.Array, y: jax.Array) -> jax.Array:
  """The distance between two radial spectra, in dB.

  It is the root mean square over the rings of 10 log10(A_x / A_y), where A are
  the radial spectra.

  Args:
    x: [N, *size, C] images, as in `radial_spectrum`.
    y: [N, *size, C] images to compare with, in any order.

  Returns:
    [C] distances in dB; 0 for equal spectra. Power below the rounding of the
    dtype is raised to it, so the distance of a zero image is finite.

  Raises:
    ValueError: as in `radial_spectrum`, or x and y differ in shape or dtype.

  Example:
    >>> x = jax.random.normal(jax.random.key(5), (1, 256, 1))
    >>> float(tconv.log_spectral_distance(x, x)[0])
    0.0
    >>> round(float(tconv.log_spectral_distance(2 * x, x)[0]), 2)
    6.02
  """
  return images.root((_log_ratio(x, y)**2).mean(0))


def high_frequency_bias(x: jax.Array, y: jax.Array) -> jax.Array:
  """The excess of power near the Nyquist frequency over a reference, in dB.

  It is the mean of 10 log10(A_x / A_y), where A are the radial spectra, over
  the rings from 3/4 of the Nyquist frequency to the Nyquist frequency.

  Args:
    x: [N, *size, C] images, as in `radial_spectrum`.
    y: [N, *size, C] images to compare with, in any order.

  Returns:
    [C] biases in dB, positive where x has more power; finite as in
    `log_spectral_distance`.

  Raises:
    ValueError: as in `radial_spectrum`, or x and y differ in shape or dtype.

  Example:
    >>> x = jax.random.normal(jax.random.key(5), (1, 256, 1))
    >>> blurred = tconv.zero_order_hold(x, 2)
    >>> round(float(tconv.high_frequency_bias(blurred, x)[0]), 1)
    -15.2
    >>> round(float(tconv.high_frequency_bias(2 * x, x)[0]), 1)
    6.0
  """
  ratio = _log_ratio(x, y)
  nyquist = min(jnp.shape(x)[1:-1]) / 2
  ring = np.arange(len(ratio))
  return ratio[(.75 * nyquist <= ring) & (ring <= nyquist)].mean(0)


@sharding.keeping_batch
def legacy_radial_profile(x: jax.Array) -> jax.Array:
  """The profile that Durall et al. plot, for comparison with published curves.

  This function follows their code, which differs from their text. It computes
  the mean of `20 ln|DFT + 1e-8|` over each ring. The rings are centered on the
  middle of the array, half a bin away from the zero frequency. The first and
  the last ring are dropped. The last one contains the corner of the spectrum,
  so the profile does not show a checkerboard of period 2.

  Args:
    x: [N, H, W, C] images of at least 4 pixels a side.

  Returns:
    [N, R, C] profiles.

  Raises:
    ValueError: dtype other than float32 or float64, or axis below 4 pixels.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (4, 32, 32, 1))
    >>> profile = tconv.spectrum.legacy_radial_profile(x)
    >>> profile.shape
    (4, 20, 1)
    >>> louder = tconv.spectrum.legacy_radial_profile(2 * x)
    >>> round(float((louder - profile).mean()), 2)  # 20 ln 2.
    13.86

  References:
    Durall, Keuper and Keuper, `Watch your Up-Convolution: CNN Based Generative
    Deep Neural Networks are Failing to Reproduce Spectral Distributions
    <https://arxiv.org/abs/2003.01826>`_, 2020, and `its code
    <https://github.com/cc-hpc-itwm/UpConv>`_.
  """
  x = _read(x)
  arrays.read('x', x, (4,), '[N, H, W, C]')
  n, h, w, c = x.shape
  spectrum = jnp.fft.fftshift(jnp.fft.fft2(x, axes=(1, 2)), (1, 2)) + 1e-8
  magnitude = (20 * jnp.log(jnp.abs(spectrum))).reshape(n, h * w, c)
  from_middle = np.hypot(*np.ogrid[(1 - h) / 2:h / 2, (1 - w) / 2:w / 2])
  _, ring, counts = np.unique(
      from_middle.astype(int), return_inverse=True, return_counts=True)
  sums = jax.vmap(lambda m: jax.ops.segment_sum(m, ring.ravel(), len(counts)))(
      magnitude)
  return (sums / jnp.asarray(counts, x.dtype)[None, :, None])[:, 1:-1]


def _read(x):
  x = images.read('x', x)
  if min(x.shape[1:-1]) < 4:
    raise ValueError(
        'x must measure at least 4 pixels on each axis; got size '
        f'{x.shape[1:-1]}.')
  return x


def _radial_spectrum(x):
  size = x.shape[1:-1]
  shortest = min(size)
  square = np.zeros(size)
  for axis, s in enumerate(size):
    frequency = np.fft.fftfreq(s, 1 / s) * shortest / s
    square += np.expand_dims(frequency, [a for a in range(len(size))
                                         if a != axis])**2
  ring = np.floor(np.sqrt(square) + .5).astype(int).ravel()
  spectrum = jnp.fft.fftn(x, axes=tuple(range(1, x.ndim - 1)))
  power = (spectrum.real**2 + spectrum.imag**2).mean(0).reshape(
      ring.size, -1)
  counts = np.bincount(ring)
  sums = jax.ops.segment_sum(power, ring, counts.size)
  return sums / jnp.asarray(counts * ring.size, x.dtype)[:, None]


def _log_ratio(x, y):
  """[R, C] ratios of two radial spectra in dB."""

  def decibels(x):
    limits, axes = jnp.finfo(x.dtype), range(x.ndim - 1)
    x, scale = images.squarable(x, *axes)
    rounding = limits.eps**2 * (x**2).mean(tuple(axes))
    rounding += limits.tiny / limits.eps
    return 10 * jnp.log10(_radial_spectrum(x) + rounding[None]), scale.ravel()

  x, y = (_read(image) for image in images.read_pair(x, y))
  (of_x, x_scale), (of_y, y_scale) = (
      sharding.automatic(decibels, (), image) for image in (x, y))
  return of_x - of_y + 20 * jnp.log10(x_scale / y_scale)[None]
