"""The cause of checkerboards in the kernel, and its cure.

In a transposed convolution of stride s, the output at a position depends on the
taps whose position is equal to it modulo s. That residue is the *phase*. If the
taps of one phase have a larger sum than those of another, a constant input
gives an output with a pattern of period s.

Theorem: let mu_o be the mean of input channel o, and w the kernel. Output
channel c has the *phase gains*::

    g_a = sum_j h[a + s j],  h = sum_o mu_o w[:, c, o],  a in Z_s^n

For any input, and away from borders, the mean of the output over phase a is
g_a, plus the bias. So the spectral lines of the output at the frequencies
k / s, k != 0, depend only on the channel means of the input. Their energy is::

    Var_a(g_a) = s^(-2n) sum_(k != 0) |H(k / s)|^2,

where H is the frequency response of h. There are no lines if and only if all
phase gains are equal. That holds for every input if and only if it holds for
each pair (c, o) of channels.

Kernels are [*K, C / groups, O] arrays of a floating dtype. The functions also
accept a kernel of Flax, [*K, O, C], which is flipped: the phases of its gains
are flipped as well, and their channels swapped. The phase of a tap is its
position times the dilation, modulo the stride. Padding only rotates the phases.

References:
  Odena, Dumoulin and Olah, `Deconvolution and checkerboard artifacts
  <https://doi.org/10.23915/distill.00003>`_, 2016.

  Harada, Muramatsu and Kiya, *Multidimensional multirate filter without
  checkerboard effects*, EUSIPCO 1998.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tconv import arrays
from tconv import calibrated
from tconv import geometry
from tconv import rounding
from tconv import sharding


def overlap_count(kernel_size: int | Sequence[int],
                  strides: int | Sequence[int], *,
                  kernel_dilation: int | Sequence[int] = 1) -> np.ndarray:
  """Counts the taps of each phase.

  Args:
    kernel_size: number of taps, one int for each axis; a single int stands for
      one axis, or for as many as there are strides.
    strides: one int or one for each axis.
    kernel_dilation: one int or one for each axis.

  Returns:
    [*strides] array of ints.

  Raises:
    ValueError: an argument is invalid.

  Example:
    >>> tconv.overlap_count(3, 2)  # Even positions get two taps, odd ones one.
    array([2, 1])
    >>> tconv.overlap_count(4, 2)
    array([2, 2])
    >>> tconv.overlap_count((3, 3), (2, 2))
    array([[4, 2],
           [2, 1]])
  """
  n = max(1, np.size(kernel_size), np.size(strides))
  kernel_size = geometry.per_axis('kernel_size', kernel_size, n, 1)
  strides, phases = _phases(kernel_size, strides, kernel_dilation)
  counts = np.zeros(strides, int)
  np.add.at(counts, np.ix_(*phases), 1)
  return counts


def phase_gains(kernel: jax.Array, strides: int | Sequence[int], *,
                kernel_dilation: int | Sequence[int] = 1) -> jax.Array:
  """Sums the taps of each phase.

  Args:
    kernel: [*K, C / groups, O] array.
    strides: one int or one for each axis.
    kernel_dilation: one int or one for each axis.

  Returns:
    [*strides, C / groups, O] array; 0 for a phase without taps.

  Raises:
    ValueError: an argument is invalid.

  Example:
    >>> kernel = jnp.array([1., 5., 2.]).reshape(3, 1, 1)
    >>> tconv.phase_gains(kernel, 2)[:, 0, 0]  # 1 + 2, and 5.
    Array([3., 5.], dtype=float32)
    >>> y = jnp.ones((1, 4, 1))
    >>> tconv.conv_transpose(y, kernel, 2, 'VALID')[0, :, 0]
    Array([1., 5., 3., 5., 3., 5., 3., 5., 2.], dtype=float32)
  """
  kernel = _checked(kernel)
  strides, phases = _phases(kernel.shape[:-2], strides, kernel_dilation)
  return _wrap(kernel, strides, phases)


def phase_nonuniformity(kernel: jax.Array, strides: int | Sequence[int],
                        means: jax.Array | None = None, *,
                        kernel_dilation: int | Sequence[int] = 1,
                        feature_group_count: int = 1) -> jax.Array:
  """The periodic share of the output's power for a constant input.

  rho = sum Var_a(g_a) / sum mean_a(g_a^2), where the sums are over channels. It
  is 0 if the phase gains are equal, and 1 if the output is only a pattern.

  Random kernels of zero mean have about 1 - 1 / prod(strides), whether or not
  the strides divide their size. The difference that divisibility makes shows in
  `phase_variance`, and in kernels of positive mean.

  Args:
    kernel: [*K, C / groups, O] array.
    strides: one int or one for each axis.
    means: [O] means of the input channels, from which h is computed; swap the
      last two axes of a Flax kernel first. With None, every pair of channels
      counts by itself, and 0 means that no input gives lines.
    kernel_dilation: one int or one for each axis.
    feature_group_count: number of groups of channels; used with `means` only.

  Returns:
    [] array in [0, 1]; 0 for a kernel whose gains are all 0.

  Raises:
    ValueError: an argument is invalid.

  Example:
    >>> round(float(tconv.phase_nonuniformity(jnp.ones((3, 1, 1)), 2)), 2)
    0.1
    >>> round(float(tconv.phase_nonuniformity(jnp.ones((4, 1, 1)), 2)), 2)
    0.0
    >>> kernel = jnp.array([[1., -1.], [2., -2.]]).reshape(2, 1, 2)
    >>> means = jnp.array([3., 3.])  # With these, the two channels cancel.
    >>> round(float(tconv.phase_nonuniformity(kernel, 2)), 2)
    0.1
    >>> round(float(tconv.phase_nonuniformity(kernel, 2, means)), 2)
    0.0
  """
  kernel = _checked(kernel)
  wide = _wide(kernel.dtype)  # Wide enough for squares.
  gains = phase_gains(
      kernel.astype(wide), strides, kernel_dilation=kernel_dilation)
  if means is not None:
    gains = _weigh(gains, jnp.asarray(means, wide), feature_group_count)
  axes = tuple(range(gains.ndim - 2))
  power = (gains**2).mean(axes).sum()
  rho = gains.var(axes).sum() / jnp.where(power == 0, 1, power)
  return rho.astype(kernel.dtype)


def phase_variance(kernel: jax.Array, strides: int | Sequence[int], *,
                   kernel_dilation: int | Sequence[int] = 1) -> jax.Array:
  """Sums the squared taps of each phase.

  Summed over the input channels of a group, this is the variance of the output
  at each phase for white noise of variance 1. Where phases differ, the noise of
  the output is periodic even if its mean is not.

  Args:
    kernel: [*K, C / groups, O] array.
    strides: one int or one for each axis.
    kernel_dilation: one int or one for each axis.

  Returns:
    [*strides, C / groups, O] array.

  Raises:
    ValueError: an argument is invalid.

  Example:
    >>> kernel = jnp.array([1., 2., 1.]).reshape(3, 1, 1)
    >>> tconv.phase_gains(kernel, 2)[:, 0, 0]  # No pattern in the mean ...
    Array([2., 2.], dtype=float32)
    >>> tconv.phase_variance(kernel, 2)[:, 0, 0]  # ... but in the noise.
    Array([2., 4.], dtype=float32)
  """
  kernel = _checked(kernel)
  squares = kernel.astype(_wide(kernel.dtype))**2
  return phase_gains(squares, strides, kernel_dilation=kernel_dilation
                     ).astype(kernel.dtype)


def frequency_response(kernel: jax.Array, size: int | Sequence[int], *,
                       kernel_dilation: int | Sequence[int] = 1) -> jax.Array:
  """The kernel's Fourier transform, H(f) = sum_t w[t] exp(-2 pi i f t).

  Args:
    kernel: [*K, C / groups, O] array.
    size: number of frequencies, one int or one for each axis. The frequencies
      are k / size, in cycles per fine position, for k from 0 to size - 1. The
      kernel may be larger than `size`.
    kernel_dilation: one int or one for each axis.

  Returns:
    [*size, C / groups, O] complex array.

  Raises:
    ValueError: an argument is invalid.

  Example:
    >>> for taps in 3, 4:  # At 0 and 1/2, the frequency of a checkerboard.
    ...   response = tconv.frequency_response(jnp.ones((taps, 1, 1)), 2)
    ...   print(taps, abs(response[:, 0, 0]))
    3 [3. 1.]
    4 [4. 0.]
  """
  kernel = _checked(kernel)
  size = geometry.per_axis('size', size, kernel.ndim - 2, 1)
  _, positions = _phases(kernel.shape[:-2], size, kernel_dilation)
  # Taps whose distance is a multiple of size have the same factor exp(...).
  wrapped = _wrap(kernel, size, positions)
  wrapped = wrapped.astype(_wide(kernel.dtype))
  return jnp.fft.fftn(wrapped, axes=tuple(range(kernel.ndim - 2)))


def equalize_phases(kernel: jax.Array, strides: int | Sequence[int], *,
                    kernel_dilation: int | Sequence[int] = 1,
                    inputs: jax.Array | Sequence[jax.Array] | None = None,
                    feature_group_count: int = 1) -> jax.Array:
  """Changes a kernel as little as possible so that it gives no checkerboard.

  Without `inputs`, the result is, for each pair of channels, the nearest kernel
  with equal phase gains and the same sum, by least squares: each of the n_a
  taps of phase a is reduced by (g_a - mean_a g_a) / n_a. This projection is
  linear and, up to rounding, idempotent. A layer that applies it to its
  parameter has no lines of the stride's period, whatever it learns. After
  training, the projected kernel can replace the parameter (`fold` of the
  layers), so inference costs nothing.

  With `inputs`, the result is the kernel with equal phase gains whose outputs
  differ least, in mean square, from those of `kernel` for these inputs. It is
  the better repair of a trained model that was not trained with equal phases:
  `tconv.calibrated` has the mathematics, and docs/upsampling.md what both cost.
  Some thousand positions of varied images are enough. With few positions, the
  result is close to that without inputs. This needs the values of the arrays,
  so it does not work in `jax.jit`, and has no derivative.

  Rounding limits how equal the gains are. In float32 they differ by about 1e-7
  of the sum of the taps' magnitudes. In float16 and bfloat16 they are exactly
  equal, for up to 64 taps in each phase: the taps are rounded such that their
  sums stay equal. Rounding an equalized float32 kernel tap by tap brings the
  grid back. So convert the dtype first and equalize then, as the layers do.

  Args:
    kernel: [*K, C / groups, O] array. A kernel of Flax may be passed without
      `inputs` only.
    strides: one int or one for each axis.
    kernel_dilation: one int or one for each axis.
    inputs: [N, *coarse, O] inputs of the layer, or several such arrays, whose
      sizes may differ; None to change the kernel itself as little as possible.
    feature_group_count: number of groups of channels; used with `inputs` only.

  Returns:
    [*K, C / groups, O] array.

  Raises:
    ValueError: an argument is invalid, or a phase has no taps, so that its gain
      is always 0; with `inputs`, also in `jax.jit`.

  Example:
    >>> kernel = jnp.array([1., 5., 2.]).reshape(3, 1, 1)
    >>> clean = tconv.equalize_phases(kernel, 2)
    >>> clean[:, 0, 0]  # 1.5 + 2.5 = 4.
    Array([1.5, 4. , 2.5], dtype=float32)
    >>> y = jnp.ones((1, 4, 1))
    >>> tconv.conv_transpose(y, clean, 2, 'VALID')[0, :, 0]
    Array([1.5, 4. , 4. , 4. , 4. , 4. , 4. , 4. , 2.5], dtype=float32)
    >>> inputs = jnp.arange(16.).reshape(1, 16, 1)  # Of a trained layer.
    >>> repaired = tconv.equalize_phases(kernel, 2, inputs=inputs)
    >>> round(float(tconv.phase_nonuniformity(repaired, 2)), 6)
    0.0
  """
  kernel = _checked(kernel)
  kernel_size = kernel.shape[:-2]
  counts = overlap_count(kernel_size, strides, kernel_dilation=kernel_dilation)
  if not counts.all():
    empty = tuple(int(a) for a in np.argwhere(counts == 0)[0])
    raise ValueError(
        'kernel must have taps on every phase, so that gains can be equal; got '
        f'none on phase {empty} with kernel_size {kernel_size}, strides '
        f'{strides} and kernel_dilation {kernel_dilation}.')
  if inputs is not None:
    kernel = calibrated.equalize(
        kernel, strides, inputs, kernel_dilation=kernel_dilation,
        feature_group_count=feature_group_count)[0]
  strides, phases = _phases(kernel_size, strides, kernel_dilation)
  wide = kernel.astype(_wide(kernel.dtype))
  gains = _wrap(wide, strides, phases)
  mean = gains.mean(tuple(range(gains.ndim - 2)), keepdims=True)
  excess = (gains - mean) / jnp.asarray(counts, wide.dtype)[..., None, None]

  def equalize(wide, excess, mean):
    equal = wide - excess[np.ix_(*phases)]
    if wide.dtype == kernel.dtype:
      return equal
    number = np.ravel_multi_index(
        np.meshgrid(*phases, indexing='ij'), strides).ravel()
    return rounding.round_equal(
        equal.reshape(-1, *kernel.shape[-2:]),
        mean.reshape(1, 1, *kernel.shape[-2:]), number, kernel.dtype
        ).reshape(kernel.shape)

  return sharding.automatic(
      equalize, jax.typeof(kernel).sharding.spec, wide, excess, mean)


def checkerboard_penalty(kernel: jax.Array, strides: int | Sequence[int], *,
                         kernel_dilation: int | Sequence[int] = 1) -> jax.Array:
  """A penalty on the variance of the phase gains, to add to a loss.

  Args:
    kernel: [*K, C / groups, O] array.
    strides: one int or one for each axis.
    kernel_dilation: one int or one for each axis.

  Returns:
    [] variance of the phase gains, summed over pairs of channels.

  Raises:
    ValueError: an argument is invalid.

  Example:
    >>> kernel = jnp.array([1., 5., 2.]).reshape(3, 1, 1)  # Gains 3 and 5.
    >>> float(tconv.checkerboard_penalty(kernel, 2))
    1.0
    >>> jax.grad(tconv.checkerboard_penalty)(kernel, 2)[:, 0, 0]
    Array([-1.,  1., -1.], dtype=float32)
  """
  kernel = _checked(kernel)
  gains = phase_gains(kernel.astype(_wide(kernel.dtype)), strides,
                      kernel_dilation=kernel_dilation)
  return gains.var(tuple(range(gains.ndim - 2))).sum().astype(kernel.dtype)


def _checked(kernel) -> jax.Array:
  """Reads a kernel: an array, or the parameter of a layer."""
  kernel = arrays.read('kernel', kernel, (3, 4, 5), '[*K, C / groups, O]')
  if not jnp.issubdtype(kernel.dtype, jnp.floating):
    raise ValueError(
        f'kernel must be of a floating dtype; got {kernel.dtype}.')
  return kernel


def _wide(dtype: np.dtype) -> np.dtype:
  """The dtype to compute in; works in strict dtype promotion mode, too."""
  return np.dtype('float64' if dtype == 'float64' else 'float32')


def _phases(kernel_size: geometry.Size, strides, kernel_dilation
            ) -> tuple[geometry.Size, list[np.ndarray]]:
  """Reads the strides, and returns the phase of each tap on each axis."""
  n = len(kernel_size)
  strides = geometry.per_axis('strides', strides, n, 1)
  dilation = geometry.per_axis('kernel_dilation', kernel_dilation, n, 1)
  return strides, [np.arange(k) * d % s
                   for k, d, s in zip(kernel_size, dilation, strides)]


def _wrap(kernel: jax.Array, size: geometry.Size,
          positions: Sequence[np.ndarray]) -> jax.Array:
  """[*size, C, O] sums of the taps that have the same position."""
  wide = _wide(kernel.dtype)

  def wrap(kernel):
    wrapped = jnp.zeros((*size, *kernel.shape[-2:]), wide)
    wrapped = wrapped.at[np.ix_(*positions)].add(kernel.astype(wide))
    return wrapped.astype(kernel.dtype)

  channels = jax.typeof(kernel).sharding.spec[-2:]
  return sharding.automatic(wrap, (*[None] * len(size), *channels), kernel)


def _weigh(gains: jax.Array, means: jax.Array, groups: int) -> jax.Array:
  """[*strides, C / groups, groups] gains of h for given channel means."""
  *rest, channels = gains.shape
  if means.shape != (channels,):
    raise ValueError(
        f'means must be [O] = [{channels}]; got shape {means.shape}.')
  [groups] = geometry.per_axis('feature_group_count', groups, 1, 1)
  if channels % groups:
    raise ValueError(
        'feature_group_count must divide the kernel\'s '
        f'{channels} input channels; got {groups}.')
  weighted = gains * means.reshape((1,) * len(rest) + (channels,))
  return weighted.reshape(*rest, groups, channels // groups).sum(-1)
