"""Layers to compile for devices that this machine does not have.

    python -m experiments.codegen --target=h100

The layers are those of the benchmark and more with groups and dilation, because
XLA has no call of cuDNN for a transposed convolution with either. Takes about
five minutes on two cores for an H100. A v5e takes much longer, some seconds for
each program. `configs/codegen.py:quick` compiles a layer of each kind.
"""

import ml_collections

from configs import benchmark

_NONE = 'no model known'
# Same format as `benchmark.LAYERS`.
LAYERS = (
    *benchmark.LAYERS,
    ('stride 1', _NONE, 4, (32, 32), 64, 64, 3, 1, 1),
    ('1-D grouped', _NONE, 1, (2048,), 128, 64, 4, 2, 1, 0, 1, 4),
    ('grouped k4', _NONE, 4, (32, 32), 64, 64, 4, 2, 1, 0, 1, 4),
    ('grouped k3', _NONE, 4, (32, 32), 64, 64, 3, 2, 1, 1, 1, 16),
    ('grouped k2', _NONE, 4, (32, 32), 64, 128, 2, 2, 0, 0, 1, 2),
    ('3-D grouped', _NONE, 1, (16, 16, 16), 64, 32, 4, 2, 1, 0, 1, 4),
    ('depthwise k3', _NONE, 4, (32, 32), 64, 64, 3, 2, 1, 1, 1, 64),
    ('3-D depthwise', _NONE, 1, (16, 16, 16), 32, 32, 4, 2, 1, 0, 1, 32),
    ('dilated s1', _NONE, 4, (32, 32), 64, 64, 3, 1, 2, 0, 2),
    ('dilated s2 d3', _NONE, 4, (32, 32), 64, 64, 3, 2, 3, 1, 3),
    ('dilated s3 d2', _NONE, 4, (32, 32), 64, 64, 3, 3, 2, 2, 2),
    ('1-D dilated', _NONE, 1, (2048,), 64, 64, 4, 2, 2, 0, 2),
    ('grouped dilated', _NONE, 4, (32, 32), 64, 64, 3, 2, 2, 1, 2, 4),
)
QUICK = ('DCGAN 3', 'FCN-32s', '3-D U-Net k3', 'grouped k4', 'depthwise',
         'dilated')


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
  """Settings of `experiments/codegen.py`.

  Args:
    variant: None, or 'quick' for few layers.

  Returns:
    `layers`; `dtypes`, to compile each layer in; and `out`, the output folder.

  Raises:
    ValueError: `variant` is neither.
  """
  if variant not in (None, 'quick'):
    raise ValueError(f'The variants are quick and none; got {variant!r}.')
  quick = variant == 'quick'
  return ml_collections.ConfigDict({
      'layers': tuple(
          layer for layer in LAYERS if layer[0] in QUICK or not quick),
      'dtypes': ('float32', 'bfloat16', 'float16'),
      'out': f'runs/codegen{"_quick" if quick else ""}',
  })
