"""Images that are too large for one device: in tiles, or over many devices.

An output pixel of a convolutional network depends only on input pixels nearby.
So an image can be split into tiles. Each tile is computed from a *window*,
which is larger by a `halo` on every side, and only the tile's own part of the
result is kept. All windows have the same size. At the border of the image they
are moved inwards, so a function sees a border only where the image has one. The
results then equal those of the whole image for any stack of layers, including
the effects of padding, biases and interpolation at the border.

`tiled` computes one window after another; `sharded` computes each on its own
device.

The halo, in input pixels, is the largest distance at which an input pixel
affects an output pixel. `tiled` gives the halo that a stack of layers needs. If
a function shrinks images internally, its strides must divide the tile, the halo
and the size of the image. Operations that connect distant pixels cannot be
split: 'CIRCULAR' padding, means over the image, batch norm in training.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import fractions
import functools
import itertools
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
from jax.extend import core
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import get_abstract_mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from tconv import geometry

Ints = int | Sequence[int]


class _Piece(NamedTuple):
  """Slices of an axis: what to read, what to keep, and where to put it."""
  window: slice
  kept: slice
  target: slice


def tiled(fn: Callable[..., jax.Array], tile: Ints, halo: Ints
          ) -> Callable[..., np.ndarray]:
  """Makes a function of images run tile by tile, in bounded memory.

  `fn` is traced at each call. So if it is a module that holds its weights, such
  as one of `flax.nnx`, its current weights are used. It is compiled once for
  each program: new weights of the same shapes need no compilation. Weights can
  also be further arguments::

    graph, state = nnx.split(model)
    enlarge = tconv.tiled(
        lambda image, state: nnx.merge(graph, state)(image), tile=512, halo=8)
    large = enlarge(image, state)

  Args:
    fn: function from an [N, *size, C] array, and further arguments, to an
      [N, *out, O] array. `out` must grow by a constant number of pixels with
      each pixel of `size`, or with every few pixels. JAX must be able to trace
      the function.
    tile: size of a tile in input pixels, one int or one for each axis.
    halo: number of pixels by which a window is larger than its tile on every
      side, one int or one for each axis. A smaller halo than needed gives wrong
      seams. A stack of layers needs the sum over its layers, in pixels of the
      input, of::

        conv of stride 1, 'SAME': (k_eff - 1) / 2, rounded up
        conv of another stride or padding: k_eff - 1
        conv_transpose: (k_eff - 1) / s, rounded up
        upsample: 1 for nearest and bilinear, 2 for bicubic

      with k_eff = (k - 1) * dilation + 1.

  Returns:
    A function of the same arguments and of `out`, a NumPy array to write to; by
    default, a new one. It returns `out`. Both images may be `numpy.memmap`
    arrays, because only one window is on the device at any time.

  Raises:
    ValueError: from the returned function: tile or halo does not fit `fn` and
      the image.

  Example:
    >>> image = np.random.default_rng(0).random((1, 40, 40, 3), np.float32)
    >>> network = lambda image: tconv.upsample(image, 2)
    >>> enlarge = tconv.tiled(network, tile=16, halo=1)
    >>> large = enlarge(image)
    >>> large.shape, np.allclose(large, network(image))
    ((1, 80, 80, 3), True)
  """
  programs = {}

  def apply(inputs, *args, out: np.ndarray | None = None) -> np.ndarray:
    # JAX caches the trace of a function, with the weights that it held then. So
    # each call makes a new function.
    current = lambda *args: fn(*args)
    size = inputs.shape[1:-1]
    tiles, halos = (geometry.per_axis(name, value, len(size), least)
                    for name, value, least in (('tile', tile, 1),
                                               ('halo', halo, 0)))
    windows = tuple(map(_window, size, tiles, halos))
    both = tuple(map(sum, zip(size, windows)))
    whole, part, more = (
        jax.eval_shape(current, jax.ShapeDtypeStruct(
            (inputs.shape[0], *s, inputs.shape[-1]), inputs.dtype), *args)
        for s in (size, windows, both))
    if out is None:
      out = np.empty(whole.shape, whole.dtype)
    elif (out.shape, out.dtype) != (whole.shape, whole.dtype):
      raise ValueError(f'out must be {whole.dtype}{list(whole.shape)}; got '
                       f'{out.dtype}{list(out.shape)}.')
    program = _compiled(current, programs, jax.ShapeDtypeStruct(
        (inputs.shape[0], *windows, inputs.shape[-1]), inputs.dtype), *args)
    axes = map(_pieces, size, tiles, halos,
               *(made.shape[1:-1] for made in (part, whole, more)))
    for pieces in itertools.product(*axes):
      window, kept, target = (
          (slice(None), *slices) for slices in zip(*pieces))
      out[target] = np.asarray(program(inputs[window], *args))[kept]
    return out

  return apply


def _compiled(fn: Callable[..., jax.Array], programs: dict[str, Callable],
              *args: Any) -> Callable[..., jax.Array]:
  """Compiles a function, unless the same program was compiled before.

  The arrays that the function holds become arguments of the program, so that
  new weights do not make a new program.

  Args:
    fn: function of arrays.
    programs: cache of compiled programs by their text.
    *args: arguments of the function, or their shapes.

  Returns:
    The compiled function.
  """
  traced = jax.make_jaxpr(fn)(*args)

  def run(held, *args):
    program = core.ClosedJaxpr(traced.jaxpr, held)
    [result] = core.jaxpr_as_fun(program)(*jax.tree.leaves(args))
    return result

  lowered = jax.jit(run).lower(traced.consts, *args)
  text = lowered.as_text()
  if text not in programs:
    programs[text] = lowered.compile()
  return functools.partial(programs[text], traced.consts)


def _window(size: int, tile: int, halo: int) -> int:
  return min(tile + 2 * halo, size)


def _pieces(size: int, tile: int, halo: int, part: int, whole: int,
            more: int) -> Iterator[_Piece]:
  """Splits an axis into pieces.

  Args:
    size: size of the image.
    tile: size of a tile.
    halo: number of pixels on either side of a tile.
    part: size of the result for a window.
    whole: size of the result for the image.
    more: size of the result for an image as large as both together.

  Yields:
    Pieces whose targets cover the whole result.
  """
  window = _window(size, tile, halo)
  if window == size:
    yield _Piece(slice(size), slice(whole), slice(whole))
    return
  scale = fractions.Fraction(whole - part, size - window)
  if more - whole != scale * window:
    raise ValueError(
        'fn must give the same number of pixels for each input pixel; it gives '
        f'{part} for {window}, {whole} for {size} and {more} for '
        f'{size + window}. If it shrinks images, its strides must divide their '
        'size, the tile and the halo.')
  for start in range(0, size, tile):
    end = start + tile
    # At the border, the window is moved inwards.
    first = min(max(start - halo, 0), size - window)
    low, high, origin = (_times(scale, x) for x in (start, end, first))
    low, high = min(low, whole), min(high, whole) if end < size else whole
    if high - origin > part:
      raise ValueError(
          f'halo must be larger than {halo}: a window of {window} pixels gives '
          f'{part}, which is less than its tile needs.')
    yield _Piece(slice(first, first + window),
                 slice(low - origin, high - origin), slice(low, high))


def _times(scale: fractions.Fraction, pixels: int) -> int:
  """Converts a position in the input to one in the result."""
  if (scale * pixels).denominator > 1:
    raise ValueError(
        f'fn gives {float(scale):g} pixels for each input pixel, which is no '
        f'whole number for a tile, halo or part of {pixels}.')
  return int(scale * pixels)


def sharded(fn: Callable[..., jax.Array], spec: PartitionSpec, halo: Ints, *,
            mesh: jax.sharding.Mesh | None = None
            ) -> Callable[..., jax.Array]:
  """Makes a function of images work on images that are sharded over devices.

  Each device sends its neighbors the rows that they need, by
  `jax.lax.ppermute`, and calls `fn` on its own part. No device ever holds the
  whole image. XLA does the same by itself for some functions, but gathers the
  image for others, such as grouped convolutions. The result can be
  differentiated; gradients with respect to further arguments are summed over
  all devices.

  Args:
    fn: function from an [N, *size, C] array, and further arguments, to an
      [N, *out, O] array, where `out` is a multiple or a fraction of `size`.
    spec: mesh axes that shard the batch and each spatial axis of the image and
      of the result. Sizes must be multiples of the numbers of devices.
    halo: number of pixels that a device needs from each neighbor, one int or
      one for each spatial axis; at most half of the pixels of a device.
      `tconv.tiled` gives the smallest sufficient halo.
    mesh: mesh of devices; by default, the current one.

  Returns:
    A function of the same arguments. All arguments except the image are
    replicated on the devices.

  Raises:
    ValueError: from the returned function: spec or halo does not fit `fn` and
      the image.

  Example:
    >>> mesh = jax.make_mesh((jax.device_count(),), ('rows',))
    >>> image = jnp.arange(8. * mesh.size).reshape(1, 8 * mesh.size, 1, 1)
    >>> network = lambda image: tconv.upsample(image, 2)
    >>> rows = jax.P(None, 'rows')  # The batch is whole, the rows are split.
    >>> enlarge = jax.jit(tconv.sharded(network, rows, halo=1, mesh=mesh))
    >>> bool(jnp.allclose(enlarge(image), network(image)))
    True
  """

  def apply(inputs: jax.Array, *args: Any) -> jax.Array:
    inputs = jnp.asarray(inputs)
    size = inputs.shape[1:-1]
    if len(spec) > len(size) + 1:
      raise ValueError(
          'spec must have entries for the batch and for spatial axes only, at '
          f'most {len(size) + 1}; got {spec}.')
    halos = geometry.per_axis('halo', halo, len(size), 0)
    whole = jax.eval_shape(fn, inputs, *args).shape[1:-1]
    # (axis, its mesh axes, halo, output pixels for each input pixel)
    shared = [(axis, name, halos[axis - 1],
               fractions.Fraction(whole[axis - 1], size[axis - 1]))
              for axis, name in enumerate(spec[1:], 1) if name is not None]

    def local(part, args):
      window = part
      for axis, name, reach, _ in shared:
        window = _with_neighbors(window, axis, name, reach)
      result = fn(window, *args)
      for axis, name, reach, scale in shared:
        if result.shape[axis] != scale * window.shape[axis]:
          raise ValueError(
              'fn must give the same number of pixels for each input pixel; '
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


def _with_neighbors(part: jax.Array, axis: int, name: Any,
                     halo: int) -> jax.Array:
  """Makes the window of a device from its part and those of its neighbors."""
  number, size = lax.axis_size(name), part.shape[axis]
  if number == 1 or not halo:
    return part
  reach = 2 * halo  # At the border, one neighbor provides all of it.
  if reach > size:
    raise ValueError(f'halo must be at most half of the {size} pixels of a '
                     f'device; got {halo}.')
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
  """Number of halos before the device's own part in its window: 0, 1 or 2."""
  index = lax.axis_index(name)
  return (jnp.where(index > 0, 1, 0)
          + jnp.where((index > 0) & (index == lax.axis_size(name) - 1), 1, 0))
