"""The symptom: periodic patterns, measured in the image.

An upsampler of stride s can only paint patterns of period s: lines of the
spectrum at the multiples of 1 / s, the *grid bins*. Images are channels last,
[N, *size, C], of any range, in float32 or float64; results are given for each
image and channel, unless a function says otherwise. A NaN makes NaN of the
results of its image and channel, and of no other. Ratios (levels, p-values,
shares, distances) hold for images of any scale; energies are infinite or NaN
where the squares of the values overflow, in float32 from about 1e19 on.

Under explicit sharding, results that are given for each image keep the sharding
of the batch. No other axis of a result is sharded.
"""

from tconv.spectrum.grid import excess_grid_energy
from tconv.spectrum.grid import grid_amplitude
from tconv.spectrum.grid import grid_energy
from tconv.spectrum.grid import grid_share
from tconv.spectrum.grid import local_grid_energy
from tconv.spectrum.grid import phase_means
from tconv.spectrum.lines import grid_level
from tconv.spectrum.lines import grid_test
from tconv.spectrum.radial import high_frequency_bias
from tconv.spectrum.radial import legacy_radial_profile
from tconv.spectrum.radial import log_spectral_distance
from tconv.spectrum.radial import radial_spectrum
