"""Grid artifacts measured in the image: periodic patterns and spectra.

The artifacts of an upsampler of stride s are patterns of period s. In the
spectrum of the image they are lines at the multiples of 1 / s, the *grid bins*.

Images are channels last, [N, *size, C], of any range, in float32 or float64.
There is one result for each image and channel, unless a function says
otherwise. A NaN affects the results of its own image and channel only. Ratios
(levels, p-values, shares, distances) work for images of any scale. Energies are
infinite or NaN if the squares of the values overflow, which happens in float32
from about 1e19 on.

Under explicit sharding, results for each image keep the sharding of the batch.
No other axis of a result is sharded.
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
