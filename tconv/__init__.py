"""Transposed convolution for JAX, with fast gradients.

Arrays are channels last, [N, *size, C], with zero to three spatial axes.
Kernels are those of the forward convolution, [*K, C / groups, O].

Operations:
  conv: the ordinary strided convolution, C x
  conv_transpose: the transposed convolution, C^T y
  conv_kernel_grad: the gradient with respect to the kernel
  conv_matrix: the matrix C, dense or sparse
  tune: measures which form computes an operation fastest on this device

Models of other libraries, unchanged:
  accelerate: makes a function compute its transposed convolutions by tconv
  accelerating: does the same for everything that JAX compiles in a block
  explain: lists what is replaced, what is left, and the reason

Upsampling:
  upsample, interpolation_kernel: nearest, bilinear and bicubic interpolation
  resize_conv, sub_pixel_conv: the two other learned upsamplers
  depth_to_space, space_to_depth: pixel shuffle and its inverse
  initializers: initial kernels, icnr and bilinear_upsampling
  nnx, linen: layers for Flax

Checkerboards in the kernel:
  overlap_count, phase_gains, phase_nonuniformity, phase_variance,
  frequency_response: how the taps are distributed over the phases of the stride
  equivalent_kernel: the kernel of any linear upsampler
  equalize_phases, equalize_sub_pixel, checkerboard_penalty, zero_order_hold:
  cures

Grid artifacts in the image:
  grid_level, grid_test: how far a pattern stands out, and its p-value
  phase_means, grid_energy, grid_amplitude, local_grid_energy: its strength
  grid_share, excess_grid_energy: its part of the error against a reference
  radial_spectrum, log_spectral_distance, high_frequency_bias: spectra by radius
  spectrum: module of these measures; also has legacy_radial_profile

Other:
  tiled, sharded: images larger than a device
  dialects: transposed convolutions and kernels of torch, onnx, keras and lax
  audit: finds the layers of trained models that paint checkerboards
"""

import importlib as _importlib
import types as _types

from tconv import dialects
from tconv import initializers
from tconv import spectrum
from tconv.acceleration import accelerate
from tconv.acceleration import accelerating
from tconv.acceleration import explain
from tconv.equivalent import equivalent_kernel
from tconv.operations import conv
from tconv.operations import conv_kernel_grad
from tconv.operations import conv_matrix
from tconv.operations import conv_transpose
from tconv.phases import checkerboard_penalty
from tconv.phases import equalize_phases
from tconv.phases import frequency_response
from tconv.phases import overlap_count
from tconv.phases import phase_gains
from tconv.phases import phase_nonuniformity
from tconv.phases import phase_variance
from tconv.resample import depth_to_space
from tconv.resample import interpolation_kernel
from tconv.resample import resize_conv
from tconv.resample import space_to_depth
from tconv.resample import sub_pixel_conv
from tconv.resample import upsample
from tconv.resample import zero_order_hold
from tconv.spectrum import excess_grid_energy
from tconv.spectrum import grid_amplitude
from tconv.spectrum import grid_energy
from tconv.spectrum import grid_level
from tconv.spectrum import grid_share
from tconv.spectrum import grid_test
from tconv.spectrum import high_frequency_bias
from tconv.spectrum import local_grid_energy
from tconv.spectrum import log_spectral_distance
from tconv.spectrum import phase_means
from tconv.spectrum import radial_spectrum
from tconv.sub_pixel import equalize_sub_pixel
from tconv.tuning import tune
from tconv.windows import sharded
from tconv.windows import tiled

__version__ = '0.1.0'

_LAZY = ('audit', 'linen', 'nnx')

# Not what is imported on first use: `from tconv import *` would import Flax.
__all__ = [
    # Operations.
    'conv', 'conv_transpose', 'conv_kernel_grad', 'conv_matrix', 'tune',
    # Models of other libraries.
    'accelerate', 'accelerating', 'explain',
    # Upsampling.
    'upsample', 'interpolation_kernel', 'resize_conv', 'sub_pixel_conv',
    'depth_to_space', 'space_to_depth', 'initializers',
    # Checkerboards in the kernel: measures.
    'overlap_count', 'phase_gains', 'phase_nonuniformity', 'phase_variance',
    'frequency_response', 'equivalent_kernel',
    # Checkerboards in the kernel: cures.
    'equalize_phases', 'equalize_sub_pixel', 'checkerboard_penalty',
    'zero_order_hold',
    # Grid artifacts in the image.
    'grid_level', 'grid_test', 'phase_means', 'grid_energy', 'grid_amplitude',
    'local_grid_energy', 'grid_share', 'excess_grid_energy', 'radial_spectrum',
    'log_spectral_distance', 'high_frequency_bias', 'spectrum',
    # Images larger than a device.
    'tiled', 'sharded',
    # The calls and kernels of other libraries.
    'dialects',
]


def __getattr__(name: str) -> _types.ModuleType:
  """Imports on first use what few programs need."""
  if name in _LAZY:
    return _importlib.import_module(f'tconv.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted([*__all__, *_LAZY, '__version__'])
