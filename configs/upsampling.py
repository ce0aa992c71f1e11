"""Learned upsamplers against interpolation: grid artifacts, and cures.

    python -m experiments.main --config=configs/upsampling.py \
        --workdir=runs/upsampling

Takes about five minutes on two cores. Among the results, as means over the test
images (chelsea, flower, gravel), are:

    upsampler                    PSNR, dB   grid level at period 2, dB
    ground truth                            -0.5
    bicubic                      31.61     -28.7
    transposed k4                32.65      12.2
    transposed k4 equal phases   32.66     -12.4
    transposed k4 repaired       32.29     -15.5
    transposed k4 calibrated     32.64     -12.6
    transposed k4 hold           32.69     -11.1
    sub-pixel                    32.66      13.4
    nearest+conv                 32.65     -13.6

`configs/upsampling.py:full` runs three seeds at x2, x3 and x4 in about an hour;
docs/upsampling.md has its tables. Between seeds, PSNR varies by about .1 dB and
grid levels by several dB.

`configs/upsampling.py:smoke` runs all parts in a minute, as a test.
"""

import ml_collections


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
  """Settings of the study `experiments/studies/upsampling/`.

  Args:
    variant: None; 'full' for three seeds and three scales; or 'smoke' for a
      few small steps.

  Returns:
    The settings.

  Raises:
    ValueError: `variant` is none of these.
  """
  config = ml_collections.ConfigDict({
      'study': 'upsampling',
      'scales': (2,),
      # Interpolations: nearest, bilinear, bicubic. Learned: transposed kK with
      # a KxK kernel, without or with one of five cures (equal phases; repaired
      # after training; calibrated, a repair that sees the training images;
      # penalty in the loss; hold); sub-pixel; sub-pixel ICNR; nearest+conv;
      # bilinear+conv.
      'upsamplers': (
          'nearest', 'bilinear', 'bicubic',
          'transposed k3', 'transposed k3 equal phases',
          'transposed k3 repaired', 'transposed k3 calibrated',
          'transposed k3 penalty',
          'transposed k4', 'transposed k4 equal phases',
          'transposed k4 repaired', 'transposed k4 calibrated',
          'transposed k4 penalty', 'transposed k4 hold',
          'transposed k6', 'transposed k6 equal phases',
          'transposed k6 repaired', 'transposed k6 calibrated',
          'transposed k6 penalty',
          'sub-pixel', 'sub-pixel ICNR', 'nearest+conv', 'bilinear+conv'),
      'seeds': (0,),
      'trunk': {'kernel_sizes': (5, 3), 'channels': 32},
      'penalty': 10.,  # Weight of the variance of the phase gains.
      'patch_size': 24,  # Low-resolution pixels.
      'batch_size': 16,
      'num_steps': 1500,
      'learning_rate': 3e-3,
      'log_every': 25,
      'save_every': 250,  # A multiple of log_every.
      # Crop shown in the figure, in high-resolution pixels of a test image.
      'figure': {
          'image': 'gravel', 'top': 100, 'left': 120, 'size': 96,
          'upsamplers': (
              'bicubic', 'transposed k3', 'transposed k4',
              'transposed k4 equal phases', 'sub-pixel', 'sub-pixel ICNR',
              'nearest+conv')},
  })
  if variant == 'full':
    config.update({
        'scales': (2, 3, 4), 'seeds': (0, 1, 2),
        # At x4, k8 corresponds to k4 at x2: two taps per pixel on each axis.
        'upsamplers': (*config.upsamplers, 'transposed k8',
                       'transposed k8 equal phases', 'transposed k8 repaired',
                       'transposed k8 calibrated', 'transposed k8 penalty')})
  elif variant == 'smoke':
    config.update({
        'upsamplers': (
            'nearest', 'bicubic', 'transposed k4',
            'transposed k4 equal phases', 'transposed k4 repaired',
            'transposed k4 calibrated', 'transposed k4 penalty',
            'transposed k4 hold', 'sub-pixel', 'sub-pixel ICNR',
            'nearest+conv', 'bilinear+conv'),
        'num_steps': 12, 'log_every': 5, 'save_every': 5, 'batch_size': 4,
        'patch_size': 12})
  elif variant is not None:
    raise ValueError(
        f'variant must be full, smoke or left out; got {variant!r}.')
  return config
