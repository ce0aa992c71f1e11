"""A layer to be timed: its shapes and the work that it needs."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from tconv import geometry as geometry_lib

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
_ITEMSIZE = 4  # Bytes of a float32.
# Multiply-adds per byte moved, from which a layer counts as compute-bound.
# Processors do 5 to 15 in the time of reading a byte from memory. But patches,
# up to s * s times as large as the inputs, are written and read as well.
_COMPUTE_BOUND = 32


@dataclasses.dataclass(frozen=True)
class Layer:
  """A transposed convolution of some network, in float32.

  The numbers are those of PyTorch's layer, equal on all axes. `multiply_adds`
  counts one for every tap of every coarse position, without products with
  inserted zeros.

  Attributes:
    name: name of the layer.
    source: author and title or arXiv number.
    batch: N, number of images.
    coarse_size: [*coarse], spatial size of the input.
    fan_in: O, channels of the input.
    fan_out: C, channels of the output.
    taps: size of the kernel on each axis.
    stride: fine steps between coarse positions.
    padding: padding of the forward convolution at each end.
    output_padding: additional positions at the high end of the output.
    dilation: fine steps between taps.
    groups: number of channel groups.
  """

  name: str
  source: str
  batch: int
  coarse_size: tuple[int, ...]
  fan_in: int
  fan_out: int
  taps: int
  stride: int
  padding: int
  output_padding: int = 0
  dilation: int = 1
  groups: int = 1

  @property
  def num_axes(self) -> int:
    return len(self.coarse_size)

  @functools.cached_property
  def geometry(self) -> geometry_lib.Geometry:
    each = lambda value: (value,) * self.num_axes
    return geometry_lib.conv_transpose_geometry(
        self.coarse_size, each(self.taps), each(self.stride), self.padding,
        each(self.dilation), self.groups, output_padding=self.output_padding)

  @property
  def inputs_shape(self) -> tuple[int, ...]:
    return (self.batch, *self.coarse_size, self.fan_in)

  @property
  def kernel_shape(self) -> tuple[int, ...]:
    return (*self.geometry.kernel_size, self.fan_out // self.groups,
            self.fan_in)

  @property
  def outputs_shape(self) -> tuple[int, ...]:
    return (self.batch, *self.geometry.fine_size, self.fan_out)

  @property
  def multiply_adds(self) -> int:
    return (self.batch * math.prod(self.coarse_size)
            * math.prod(self.kernel_shape))

  @property
  def output_pixels(self) -> int:
    return math.prod(self.outputs_shape[:-1])

  @property
  def bytes_moved(self) -> int:
    """Bytes of inputs, kernel and outputs."""
    return _ITEMSIZE * sum(map(math.prod, (
        self.inputs_shape, self.kernel_shape, self.outputs_shape)))

  @property
  def is_compute_bound(self) -> bool:
    """Whether the layer should take about as long as an equal matmul."""
    return (self.groups == 1
            and self.multiply_adds >= _COMPUTE_BOUND * self.bytes_moved)

  @property
  def patches_bytes(self) -> int:
    """Bytes of a [*K, C] patch for every coarse position."""
    return _ITEMSIZE * (self.batch * math.prod(self.coarse_size) * self.fan_out
                        * math.prod(self.geometry.kernel_size))

  def facts(self) -> dict[str, Any]:
    """Returns what reports show of the layer, by name."""
    return {**dataclasses.asdict(self), **{
        name: getattr(self, name) for name in (
            'multiply_adds', 'bytes_moved', 'patches_bytes', 'output_pixels')}}

  def arrays(self) -> Arrays:
    """Draws the arrays of a training step, with a fixed seed.

    Returns:
      [N, *coarse, O] inputs, [*K, C / groups, O] kernel and [N, *fine, C]
      cotangents of the outputs. The kernel is scaled so that outputs are of
      order 1, like the other arrays.
    """
    draw = np.random.default_rng(0)
    inputs, kernel, cotangents = (
        draw.standard_normal(shape, np.float32) for shape in (
            self.inputs_shape, self.kernel_shape, self.outputs_shape))
    return inputs, kernel / (self.fan_in / self.groups)**.5, cotangents
