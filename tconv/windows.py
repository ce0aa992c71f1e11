"""One image that is too large for one device: in tiles, or over many devices.

What is near a pixel decides what comes out there. So an image may be cut into
tiles, each of which is computed from a *window* that reaches farther by a
`halo`, and only the tile's own part is kept. Windows never reach over the
border of the image; at the border they are moved inwards, all of one size, so
that a function sees a border where the image has one and nowhere else. Then the
results are those of the whole image, for any stack of layers: padding, biases
and interpolation at the border included.

`tiled` computes one window after another, `sharded` each on its own device.

The halo, in pixels of the input, is how far from a pixel an output depends on
it. For a stack it is the sum over its layers, each in pixels of the input:

  conv of stride 1, 'SAME': (k_eff - 1) / 2, rounded up
  conv of another stride or padding: k_eff - 1
  conv_transpose: (k_eff - 1) / s, rounded up
  upsample: 1 for nearest and bilinear, 2 for bicubic

with k_eff = (k - 1) * dilation + 1. Where a function shrinks images inside, its
strides must divide tiles, halo and the size of the image. What joins far pixels
cannot be cut up: 'CIRCULAR' padding, means over the image, batch norm that
learns.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import fractions
import itertools
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import get_abstract_mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from tconv import geometry

Ints = int | Sequence[int]


class _Piece(NamedTuple):
  """Of an axis, what to read, what to keep of that, and where it goes to."""
  window: slice
  kept: slice
  target: slice


def tiled(fn: Callable[..., jax.Array], tile: Ints, halo: Ints
          ) -> Callable[..., np.ndarray]:
  """Makes a function of images work tile by tile, in bounded memory.

    enlarge = tconv.tiled(network, tile=512, halo=8)
    large = enlarge(image)

  Args:
    fn: from an [N, *size, C] array, and further arguments, to an [N, *out, O]
      array, where `out` grows by a constant number of pixels with each pixel
      of `size`, or with every few. It is compiled.
    tile: pixels of the input, one int or one for each axis.
    halo: pixels that a window reaches farther than its tile, to all sides; one
      int or one for each axis.
      The least that is right is the sum over the layers, each in pixels of the
      input: with k_eff = (k - 1) * dilation + 1, (k_eff - 1) / 2 rounded up for
      a conv of stride 1 and 'SAME', k_eff - 1 for any other conv,
      (k_eff - 1) / stride rounded up for a conv_transpose, 1 for nearest and
      bilinear upsampling and 2 for bicubic. With less, seams are wrong.

  Returns:
    A function of the same arguments, and of `out`: a NumPy array to write to,
    by default a new one. Both images may be `numpy.memmap`, as only a window is
    on the device at any time. It returns `out`.

  Raises:
    ValueError: from the function returned: the numbers do not fit `fn` and the
      image.
  """
  compiled = jax.jit(fn)

  def apply(inputs, *args, out: np.ndarray | None = None) -> np.ndarray:
    size = inputs.shape[1:-1]
    tiles, halos = (geometry.per_axis(name, value, len(size), least)
                    for name, value, least in (('tile', tile, 1),
                                               ('halo', halo, 0)))
    windows = tuple(map(_window, size, tiles, halos))
    both = tuple(map(sum, zip(size, windows)))
    whole, part, more = (
        jax.eval_shape(fn, jax.ShapeDtypeStruct(
            (inputs.shape[0], *s, inputs.shape[-1]), inputs.dtype), *args)
        for s in (size, windows, both))
    if out is None:
      out = np.empty(whole.shape, whole.dtype)
    elif (out.shape, out.dtype) != (whole.shape, whole.dtype):
      raise ValueError(f'out must be {whole.dtype}{list(whole.shape)}; got '
                       f'{out.dtype}{list(out.shape)}.')
    axes = map(_pieces, size, tiles, halos,
               *(made.shape[1:-1] for made in (part, whole, more)))
    for pieces in itertools.product(*axes):
      window, kept, target = (
          (slice(None), *slices) for slices in zip(*pieces))
      out[target] = np.asarray(compiled(inputs[window], *args))[kept]
    return out

  return apply


def _window(size: int, tile: int, halo: int) -> int:
  return min(tile + 2 * halo, size)


def _pieces(size: int, tile: int, halo: int, part: int, whole: int,
            more: int) -> Iterator[_Piece]:
  """Cuts an axis.

  Args:
    size: of the image.
    tile: that a piece is made for.
    halo: on both sides of it.
    part: pixels of the result of a window.
    whole: pixels of the result of the image.
    more: pixels of the result of one that is as large as both.

  Yields:
    Pieces whose targets make the whole.
  """
  window = _window(size, tile, halo)
  if window == size:
    yield _Piece(slice(size), slice(whole), slice(whole))
    return
  scale = fractions.Fraction(whole - part, size - window)
  if more - whole != scale * window:
    raise ValueError(
        f'fn must make the same number of pixels of each; it makes {part} of '
        f'{window}, {whole} of {size} and {more} of {size + window}. Where it '
        'shrinks images, its strides must divide their size, the tile and the '
        'halo.')
  for start in range(0, size, tile):
    end = start + tile
    # At the border, the window is moved inwards.
    first = min(max(start - halo, 0), size - window)
    low, high, origin = (_times(scale, x) for x in (start, end, first))
    low, high = min(low, whole), min(high, whole) if end < size else whole
    if high - origin > part:
      raise ValueError(
          f'halo must be larger than {halo}: a window of {window} pixels makes '
          f'{part}, and its tile is to make more.')
    yield _Piece(slice(first, first + window),
                 slice(low - origin, high - origin), slice(low, high))


def _times(scale: fractions.Fraction, pixels: int) -> int:
  """Finds the output that belongs to an input pixel."""
  if (scale * pixels).denominator > 1:
    raise ValueError(
        f'fn makes {float(scale):g} pixels of one: no whole number for a tile, '
        f'halo or part of {pixels}.')
  return int(scale * pixels)


def sharded(fn: Callable[..., jax.Array], spec: PartitionSpec, halo: Ints, *,
            mesh: jax.sharding.Mesh | None = None
            ) -> Callable[..., jax.Array]:
  """Makes a function of images work on images that many devices share.

  Each device sends its neighbours the rows that they need, by
  `jax.lax.ppermute`, and calls `fn` on its own part: no device ever has all of
  the image. XLA does so by itself for some functions, and gathers the image for
  others, grouped convolutions among them. The result can be differentiated; the
  gradients of what is in `args` are sums over all devices.

    mesh = jax.make_mesh((8,), ('rows',))
    enlarge = jax.jit(tconv.sharded(
        network, jax.P(None, 'rows'), halo=4, mesh=mesh))

  Args:
    fn: from an [N, *size, C] array, and further arguments, to an [N, *out, O]
      array, where `out` is a multiple of `size`, or a fraction of it.
    spec: for the batch and for each spatial axis, the mesh axes that share it,
      of the image and of the result. Sizes must be multiples of the numbers of
      devices.
    halo: pixels that a device needs of its neighbours, one int or one for each
      spatial axis; at most half of what a device has. The least that is right
      is that of `tconv.tiled`.
    mesh: of devices; by default, the one in use.

  Returns:
    A function of the same arguments. All but the image are the same on all
    devices.

  Raises:
    ValueError: from the function returned: the numbers do not fit `fn` and the
      image.
  """

  def apply(inputs: jax.Array, *args: Any) -> jax.Array:
    inputs = jnp.asarray(inputs)
    size = inputs.shape[1:-1]
    if len(spec) > len(size) + 1:
      raise ValueError(
          'spec must be for the batch and for spatial axes, '
          f'{len(size) + 1} in all; got {spec}.')
    halos = geometry.per_axis('halo', halo, len(size), 0)
    whole = jax.eval_shape(fn, inputs, *args).shape[1:-1]
    # (axis, its devices, halo, output for each pixel)
    shared = [(axis, name, halos[axis - 1],
               fractions.Fraction(whole[axis - 1], size[axis - 1]))
              for axis, name in enumerate(spec[1:], 1) if name is not None]

    def local(part, args):
      window = part
      for axis, name, reach, _ in shared:
        window = _with_neighbours(window, axis, name, reach)
      result = fn(window, *args)
      for axis, name, reach, scale in shared:
        if result.shape[axis] != scale * window.shape[axis]:
          raise ValueError(
              'fn must give the same number of pixels for each of the image; '
              f'got {result.shape[axis]} for {window.shape[axis]}, and '
              f'{whole[axis - 1]} for {size[axis - 1]}.')
        result = lax.dynamic_slice_in_dim(
            result, _times(scale, reach) * _halos_before(name),
            _times(scale, part.shape[axis]), axis)
      return result

    if AxisType.Explicit in (mesh or get_abstract_mesh()).axis_types:
      place = lambda tree, spec: jax.sharding.reshard(
          tree, NamedSharding(mesh, spec) if mesh else spec)
      inputs, args = place(inputs, spec), place(args, PartitionSpec())
    return jax.shard_map(
        local, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec)(
            inputs, args)

  return apply


def _with_neighbours(part: jax.Array, axis: int, name: Any,
                     halo: int) -> jax.Array:
  """Makes the window of a device from its part and those of its neighbours."""
  number, size = lax.axis_size(name), part.shape[axis]
  if number == 1 or not halo:
    return part
  reach = 2 * halo  # At the border, all of it is of one neighbour.
  if reach > size:
    raise ValueError(f'halo must be at most half of the {size} pixels that a '
                     f'device has; got {halo}.')
  upwards = [(i, i + 1) for i in range(number - 1)]
  before = lax.ppermute(
      lax.slice_in_dim(part, size - reach, size, axis=axis), name, upwards)
  after = lax.ppermute(
      lax.slice_in_dim(part, 0, reach, axis=axis), name,
      [pair[::-1] for pair in upwards])
  return lax.dynamic_slice_in_dim(
      lax.concatenate([before, part, after], axis),
      reach - halo * _halos_before(name), size + reach, axis)


def _halos_before(name: Any) -> jax.Array:
  """How many halos of its window lie before a device's own part: 0, 1 or 2."""
  index = lax.axis_index(name)
  return (jnp.where(index > 0, 1, 0)
          + jnp.where((index > 0) & (index == lax.axis_size(name) - 1), 1, 0))
