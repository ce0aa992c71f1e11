"""The metrics of a pattern in images, in units that people know.

Images are [N, H, W, C] arrays of floats in [0, 1]. Amplitudes are in 8-bit
levels, 1/255 of that range.
"""

import jax
import jax.numpy as jnp

from tconv import spectrum

LEVELS = 255


def grid_metrics(images: jax.typing.ArrayLike, period: int
                 ) -> dict[str, jax.Array]:
  """Measures the pattern with a given period in images.

  Args:
    images: [N, H, W, C] images, at least 4 periods and 16 pixels large.
    period: period of the pattern in pixels.

  Returns:
    [N, C] arrays by name: 'grid_level_db', the level of the pattern over the
    spectrum around it; 'grid_p_value', the p-value of the hypothesis that there
    is no pattern; 'grid_amplitude', the rms of the pattern in 8-bit levels;
    'grid_rows', 'grid_columns' and 'grid_diagonals', the parts of the
    amplitude; and 'imaging', the rms of such patterns measured patch by patch,
    in 8-bit levels, whether or not they cancel over the image.
  """
  images = jnp.asarray(images)
  parts = spectrum.grid_energy(images, period, parts=True)
  return {
      'grid_level_db': spectrum.grid_level(images, period),
      'grid_p_value': spectrum.grid_test(images, period),
      'grid_amplitude': LEVELS * spectrum.grid_amplitude(images, period),
      **{f'grid_{name}': LEVELS * jnp.sqrt(part)
         for name, part in parts.items()},  # pyrefly: ignore
      'imaging': LEVELS * jnp.sqrt(
          spectrum.local_grid_energy(images, period)),
  }
