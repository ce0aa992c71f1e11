"""Layers of published models, timed through tconv and its peers.

    python -m experiments.benchmark --config=configs/benchmark.py

Takes about thirteen minutes on two cores with all peers (extra "peers"). Peers
that are not installed are skipped. `configs/benchmark.py:quick` times a layer
of each kind and takes less than two minutes. Expect a training step of DCGAN 3
that is at least 8 times as fast as with `lax.conv_transpose`.

    python -m experiments.gpu --config=configs/benchmark.py:gpu

times the same layers on a GPU, one of each kind first, in at most ten minutes.
`configs/benchmark.py:gpu_smoke` tests this command on any machine.
"""

import ml_collections

_DCGAN = 'Radford et al., arXiv:1511.06434'
_PIX2PIX = 'Isola et al., arXiv:1611.07004'
_FCN = 'Long et al., arXiv:1411.4038'
_UNET = 'Ronneberger et al., arXiv:1505.04597'
_NNUNET = 'Isensee et al., arXiv:1904.08128'
_MONAI = 'Kerfoot et al., Left-ventricle quantification, 2018'
_HIFI_GAN = 'Kong et al., arXiv:2010.05646'
_WAVEGAN = 'Donahue et al., arXiv:1802.04208'
_MASK_RCNN = 'He et al., arXiv:1703.06870'
_POSE = 'Xiao et al., arXiv:1804.06208'
_ERFNET = 'Paszke et al., arXiv:1606.02147; Romera et al., ERFNet, 2018'
_FSRCNN = 'Dong et al., arXiv:1608.00367'

# The arguments of `layers.Layer`: name, source, batch, coarse size, channels in
# and out, kernel, stride, padding, output padding, dilation and groups.
LAYERS = (
    ('DCGAN 1', _DCGAN, 16, (4, 4), 1024, 512, 4, 2, 1),
    ('DCGAN 2', _DCGAN, 16, (8, 8), 512, 256, 4, 2, 1),
    ('DCGAN 3', _DCGAN, 16, (16, 16), 256, 128, 4, 2, 1),
    ('DCGAN 4', _DCGAN, 16, (32, 32), 128, 3, 4, 2, 1),
    ('DCGAN 3, k5', _DCGAN, 16, (16, 16), 256, 128, 5, 2, 2, 1),
    ('pix2pix 512', _PIX2PIX, 1, (8, 8), 512, 512, 4, 2, 1),
    ('pix2pix 256', _PIX2PIX, 1, (32, 32), 1024, 256, 4, 2, 1),
    ('pix2pix RGB', _PIX2PIX, 1, (128, 128), 128, 3, 4, 2, 1),
    ('FCN-32s', _FCN, 1, (16, 16), 21, 21, 64, 32, 16),
    ('FCN x2', _FCN, 1, (16, 16), 21, 21, 4, 2, 1),
    ('FCN-8s', _FCN, 1, (64, 64), 21, 21, 16, 8, 4),
    ('U-Net 512', _UNET, 1, (28, 28), 1024, 512, 2, 2, 0),
    ('U-Net 64', _UNET, 1, (100, 100), 128, 64, 2, 2, 0),
    ('3-D U-Net 256', _NNUNET, 1, (4, 4, 4), 320, 256, 2, 2, 0),
    ('3-D U-Net 32', _NNUNET, 1, (16, 16, 16), 64, 32, 2, 2, 0),
    ('3-D U-Net k3', _MONAI, 1, (16, 16, 16), 64, 32, 3, 2, 1, 1),
    ('HiFi-GAN 1', _HIFI_GAN, 1, (32,), 512, 256, 16, 8, 4),
    ('HiFi-GAN 2', _HIFI_GAN, 1, (256,), 256, 128, 16, 8, 4),
    ('HiFi-GAN 3', _HIFI_GAN, 1, (2048,), 128, 64, 4, 2, 1),
    ('WaveGAN', _WAVEGAN, 16, (256,), 256, 128, 25, 4, 11, 1),
    ('Mask R-CNN', _MASK_RCNN, 32, (14, 14), 256, 256, 2, 2, 0),
    ('pose head', _POSE, 4, (16, 12), 256, 256, 4, 2, 1),
    ('ENet/ERFNet', _ERFNET, 1, (64, 128), 128, 64, 3, 2, 1, 1),
    ('FSRCNN x2', _FSRCNN, 1, (64, 64), 56, 1, 9, 2, 4, 1),
    ('FSRCNN x3', _FSRCNN, 1, (64, 64), 56, 1, 9, 3, 4, 2),
    ('FSRCNN x4', _FSRCNN, 1, (64, 64), 56, 1, 9, 4, 4, 3),
    ('depthwise', f'bilinear upsampling: {_FCN}', 1, (64, 64), 64, 64, 4, 2, 1,
     0, 1, 64),
    ('dilated', 'no model known', 4, (32, 32), 64, 64, 3, 2, 2, 1, 2),
)
QUICK = ('DCGAN 3', 'FCN-32s', 'U-Net 64', '3-D U-Net 32', 'depthwise')


def _by_stride(*strides: int) -> tuple[tuple, ...]:
  """Layers of equal work on outputs of 256x256 (257x257 for stride 1)."""
  return tuple((f's{s} k{2 * s}', 'series', 1, (256 // s,) * 2, 32, 32, 2 * s,
                s, s // 2) for s in strides)


def _by_size(*sizes: int) -> tuple[tuple, ...]:
  """The same layer on images of growing size."""
  return tuple((f'{size}x{size}', 'series', 1, (size // 2,) * 2, 32, 16, 4, 2,
                1) for size in sizes)


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
  """Settings of `experiments/benchmark.py`.

  Args:
    variant: None; 'quick' for few layers and rounds; 'gpu' or 'gpu_smoke' for
      `experiments/gpu.py`.

  Returns:
    `layers`; `series` by the name of the varied number; `repeats`, the number
    of rounds; and `out`, the output folder. For a GPU, see `_gpu`.

  Raises:
    ValueError: `variant` is none of these.
  """
  if variant not in (None, 'quick', 'gpu', 'gpu_smoke'):
    raise ValueError('The variants are quick, gpu, gpu_smoke and none; got '
                     f'{variant!r}.')
  if variant and variant.startswith('gpu'):
    return _gpu(smoke=variant == 'gpu_smoke')
  quick = variant == 'quick'
  return ml_collections.ConfigDict({
      'layers': tuple(
          layer for layer in LAYERS if layer[0] in QUICK or not quick),
      'series': {
          'stride': _by_stride(*(1, 4, 16) if quick else (1, 2, 4, 8, 16, 32)),
          'size': _by_size(*(64, 256, 1024) if quick else (
              64, 128, 256, 512, 1024, 2048))},
      'repeats': 2 if quick else 5,
      'out': f'runs/benchmark{"_quick" if quick else ""}',
  })


def _gpu(smoke: bool) -> ml_collections.ConfigDict:
  """Settings of `experiments/gpu.py`; `seconds` is its limit from the start."""
  tiny = (('tiny', 'nobody', 2, (4, 4), 8, 4, 4, 2, 1),
          ('tiny 3-D', 'nobody', 1, (2, 3, 2), 4, 4, 3, 2, 1, 1),
          ('tiny depthwise', 'nobody', 1, (4, 4), 4, 4, 4, 2, 1, 0, 1, 4))
  return ml_collections.ConfigDict({
      'layers': tiny if smoke else tuple(
          sorted(LAYERS, key=lambda layer: layer[0] not in QUICK)),
      'first': 0,  # Layers before this one are skipped.
      'precisions': ('float32', 'TF32', 'bfloat16'),
      'steps': 2 if smoke else 20,  # Runs of a layer in one program.
      'repeats': 2 if smoke else 7,
      'tests_seconds': 180,
      'seconds': 480,
      'out': f'runs/gpu{"_smoke" if smoke else ""}',
  })
