"""Transposed convolution for JAX: complete, equal to everybody's, fast."""

import importlib
import types

from tconv import dialects
from tconv import initializers
from tconv.operations import conv
from tconv.operations import conv_kernel_grad
from tconv.operations import conv_matrix
from tconv.operations import conv_transpose
from tconv.phases import checkerboard_penalty
from tconv.phases import equalize_phases
from tconv.phases import equivalent_kernel
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
from tconv.spectrum import legacy_radial_profile
from tconv.spectrum import local_grid_energy
from tconv.spectrum import log_spectral_distance
from tconv.spectrum import phase_means
from tconv.spectrum import radial_spectrum
from tconv.tuning import tune
from tconv.windows import sharded
from tconv.windows import tiled

__version__ = '0.1.0'

_LAYERS = ('linen', 'nnx')


def __getattr__(name: str) -> types.ModuleType:
  """Imports the layers when they are asked for: Flax takes a second or two."""
  if name in _LAYERS:
    return importlib.import_module(f'tconv.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted([*globals(), *_LAYERS])
