"""Layers of published models, timed through tconv, lax and PyTorch.

    python -m experiments.benchmark --config=configs/benchmark.py

Takes about two minutes on two cores with PyTorch (extra "peers", skipped if it
is not installed); `configs/benchmark.py:quick` times the one layer of the bar
below, in seconds. Expect a training step of DCGAN layer 3 at least 5 times as
fast as through `lax.conv_transpose`.
"""

import ml_collections

# Name, batch, coarse size, channels in and out, kernel, stride, padding.
# DCGAN: Radford et al., arXiv:1511.06434. U-Net: Ronneberger et al.,
# arXiv:1505.04597. FCN: Long et al., arXiv:1411.4038.
LAYERS = (
    ('DCGAN 1', 16, (4, 4), 1024, 512, 4, 2, 1),
    ('DCGAN 2', 16, (8, 8), 512, 256, 4, 2, 1),
    ('DCGAN 3', 16, (16, 16), 256, 128, 4, 2, 1),
    ('DCGAN 4', 16, (32, 32), 128, 3, 4, 2, 1),
    ('U-Net', 4, (32, 32), 128, 64, 2, 2, 0),
    ('FCN-32s', 1, (16, 16), 21, 21, 64, 32, 16),
)


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """The layers to time, each as many times as `repeats` says."""
  if variant not in ('', 'quick'):
    raise ValueError(f'The variants are quick and none; got {variant!r}.')
  return ml_collections.ConfigDict({
      'layers': LAYERS[2:3] if variant == 'quick' else LAYERS,
      'repeats': 3 if variant == 'quick' else 7,
      'out': 'runs/benchmark/benchmark.json',
  })
