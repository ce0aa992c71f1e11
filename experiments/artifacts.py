"""Metrics that experiments share: of kernels, and against the truth.

Images are [N, H, W, C] arrays of floats in [0, 1]. Amplitudes are in 8-bit
levels, 1/255 of that range.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import tconv
from tconv import spectrum
from tconv.audit.metrics import LEVELS


def against_truth(image: jax.typing.ArrayLike, truth: jax.typing.ArrayLike,
                  period: int) -> dict[str, jax.Array]:
  """Measures how an image differs from the ground truth.

  Args:
    image: [1, H, W, 1] image.
    truth: [1, H, W, 1] image.
    period: period of the pattern in pixels.

  Returns:
    [1, 1] or [1] arrays by name: 'psnr_db', the peak signal-to-noise ratio;
    'grid_share', the share of the mean squared error that is the pattern;
    'excess_grid_energy', in squared 8-bit levels; and
    'log_spectral_distance_db' and 'high_frequency_bias_db'.
  """
  image, truth = jnp.asarray(image), jnp.asarray(truth)
  return {
      'psnr_db': -10 * jnp.log10(jnp.mean((image - truth)**2)),
      'grid_share': spectrum.grid_share(image, truth, period),
      'excess_grid_energy': LEVELS**2 * spectrum.excess_grid_energy(
          image, truth, period),
      'log_spectral_distance_db': spectrum.log_spectral_distance(image, truth),
      'high_frequency_bias_db': spectrum.high_frequency_bias(image, truth),
  }


def kernel_metrics(upsampling: Callable[[jax.Array], jax.Array],
                   means: jax.typing.ArrayLike, scale: int
                   ) -> list[tuple[dict[str, float], np.ndarray]]:
  """Predicts the pattern of an upsampler from its kernel.

  Args:
    upsampling: function from [N, h, w, O] to [N, scale * h, scale * w, 1],
      linear except for a bias.
    means: [N, O] channel means of N inputs.
    scale: upsampling factor.

  Returns:
    For each input, numbers by name and a [scale, scale] array. The array has
    the predicted mean of each phase in 8-bit levels. The numbers are
    'phase_nonuniformity', which holds for any input; 'input_nonuniformity', for
    these means; 'variance_ratio', the largest noise gain of a phase over the
    smallest; 'penalty', the variance of the phase gains; and
    'predicted_amplitude', the rms of the pattern in 8-bit levels that kernel,
    bias and means predict.
  """
  means = jnp.asarray(means)
  channels = means.shape[-1]
  strides = (scale, scale)
  kernel = tconv.equivalent_kernel(upsampling, strides, channels)
  gains = tconv.phase_gains(kernel, strides)[:, :, 0]
  variance = tconv.phase_variance(kernel, strides).sum((-2, -1))
  dark = upsampling(jnp.zeros((1, 9, 9, channels)))
  bias = dark[0, 4 * scale:5 * scale, 4 * scale:5 * scale, 0]
  rho = tconv.phase_nonuniformity(kernel, strides)
  penalty = tconv.checkerboard_penalty(kernel, strides)
  found = []
  for of_one in means:
    phases = LEVELS * ((gains * of_one[None, None]).sum(-1) + bias)
    numbers = {
        'phase_nonuniformity': rho,
        'input_nonuniformity': tconv.phase_nonuniformity(
            kernel, strides, of_one),
        'variance_ratio': variance.max() / variance.min(),
        'penalty': penalty,
        'predicted_amplitude': phases.std(),
    }
    found.append(({name: float(value) for name, value in numbers.items()},
                  np.asarray(phases)))
  return found
