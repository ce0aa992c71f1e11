"""What an audit needs of a model: its upsamplers, and a way to run it.

An adapter makes a `Model` of an ONNX file (`onnx_model`) or of a JAX function
(`jax_model`). All arrays here are channels last, whatever the model's layout.
"""

import abc
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

import numpy as np


class AuditError(Exception):
  """A model cannot be audited or repaired; the message is one line."""


class Weights(NamedTuple):
  """Parameters of an upsampler, as a transposed convolution.

  Attributes:
    kernel: [*K, C / groups, O] float32 or float64 array.
    bias: [*strides, C] array: what is added to each phase of each channel; None
      if there is no bias. It is the same for all phases, except for sub-pixel
      convolutions.
  """
  kernel: np.ndarray
  bias: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Upsampler:
  """A layer that enlarges.

  Attributes:
    name: name of its node, unique in the model.
    op: what it is, such as 'ConvTranspose', 'Conv + DepthToSpace' or 'Resize'.
    strides: factor of each axis.
    kernel_size: taps of the layer as it is written; those of a sub-pixel
      convolution are on the coarse grid. Empty without a kernel.
    kernel_dilation: dilation of `weights.kernel`.
    groups: number of groups of channels.
    weights: parameters of the transposed convolution that it equals; None for
      an interpolation or another layer that cannot paint a grid.
    offset: position, on each axis, of the result's first element in the result
      without padding. Output n of an axis adds up taps p and inputs m with
      s m + p * dilation = n + offset.
    is_exact: whether the result is exactly that transposed convolution. It is
      not if an activation stands between a convolution and the pixel shuffle.
    obstacle: why its parameters cannot be replaced; empty if they can.
    dtype: dtype of the kernel in the model, to which new weights are rounded.
  """
  name: str
  op: str
  strides: tuple[int, ...]
  kernel_size: tuple[int, ...] = ()
  kernel_dilation: tuple[int, ...] = ()
  groups: int = 1
  weights: Weights | None = None
  offset: tuple[int, ...] = ()
  is_exact: bool = True
  obstacle: str = ''
  dtype: str = 'float32'


class Unknown(NamedTuple):
  """A node that may enlarge, but whose kernel cannot be found.

  Attributes:
    node: its name.
    op: what it is.
    reason: what could not be traced.
  """
  node: str
  op: str
  reason: str


class Input(NamedTuple):
  """An input of a model.

  Attributes:
    name: its name.
    shape: size of each axis in the model's own layout; None where it is free.
    dtype: its dtype.
    channel_axis: axis of the channels, or None if it is not an image, volume or
      signal.
  """
  name: str
  shape: tuple[int | None, ...]
  dtype: np.dtype
  channel_axis: int | None


class Activations(NamedTuple):
  """What a run of a model gives, channels last, as float32 or float64.

  Attributes:
    before: [N, *coarse, O] inputs of the upsamplers with weights, by name.
    after: [N, *fine, C] results of the same, with the bias and before anything
      that follows.
    outputs: [N, *size, C] outputs of the model by name; those without spatial
      axes are left out.
  """
  before: Mapping[str, np.ndarray]
  after: Mapping[str, np.ndarray]
  outputs: Mapping[str, np.ndarray]


class Model(abc.ABC):
  """A trained model.

  Attributes:
    name: what to call it in reports.
    inputs: its inputs.
    upsamplers: its upsamplers, in order of execution.
    unknown: nodes that may be upsamplers and could not be traced.
    versions: version of each format and library that matters, by name.
  """
  name: str
  inputs: Sequence[Input]
  upsamplers: Sequence[Upsampler]
  unknown: Sequence[Unknown]
  versions: Mapping[str, str]

  @abc.abstractmethod
  def run(self, feeds: Mapping[str, np.ndarray]) -> Activations:
    """Runs the model.

    Args:
      feeds: array for each input, in the model's own layout and dtype.

    Returns:
      The activations.

    Raises:
      AuditError: the model does not run on these inputs.
    """

  @abc.abstractmethod
  def replaced(self, weights: Mapping[str, Weights]) -> 'Model':
    """Copies the model with other parameters.

    Args:
      weights: new parameters of some upsamplers, by name. They have the shapes
        of the old ones.

    Returns:
      The copy. The model itself does not change.

    Raises:
      AuditError: parameters of an upsampler with an obstacle were to change.
    """

  def filtered(self, names: Collection[str]) -> 'Model':
    """Copies the model, with a moving average after some upsamplers.

    The average is that of `tconv.zero_order_hold` over one period, the strides
    of the upsampler. It cancels every pattern of this period.

    Args:
      names: names of upsamplers with weights.

    Returns:
      The copy. The model itself does not change.

    Raises:
      AuditError: an upsampler has no weights, or filters cannot be inserted in
        models of this kind.
    """
    raise AuditError(
        f'filters can be inserted in ONNX models only; got {self.name}.')
