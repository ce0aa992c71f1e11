"""Fully convolutional networks: from an image to the class of every pixel.

    python -m experiments.main --config=configs/segmentation.py \
        --workdir=runs/segmentation

Takes about ten minutes on two cores. These are the mean intersection over union
(mIoU) and the grid level of the logits at period 2, as means over three seeds
and 128 test images:

    decoder           head 8          head 4          head 2
    learned           .590   0.5 dB   .656   4.9 dB   .664   5.1 dB
    frozen            .574 -18.1      .654 -22.3      .663 -23.9
    equal phases      .598  -1.7      .657   1.0      .664  -1.8
    bilinear resize   .578 -18.3      .652 -22.3      .663 -24.0

docs/segmentation.md has the intervals, and compares them with expectations.

`configs/segmentation.py:smoke` runs all parts in half a minute, as a test. With
--config.data=folder:PATH, images and masks from a folder with the layout of
Oxford Pets replace the mosaics.
"""

import ml_collections


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
  """Settings of the study `experiments/studies/segmentation.py`.

  Args:
    variant: None; or 'smoke' for a few small steps.

  Returns:
    The settings.

  Raises:
    ValueError: `variant` is neither.
  """
  config = ml_collections.ConfigDict({
      'study': 'segmentation',
      'data': 'textures',  # Or folder:PATH.
      'size': 64,  # Side of an image in pixels.
      # For textures; from a folder, all that are not test images.
      'train_images': 4000,
      'test_images': 128,
      # Strides of the finest scores.
      'heads': (8, 4, 2),
      # Transposed convolutions that start as bilinear interpolation and are
      # learned, frozen, or learned with equal phases; bilinear resize.
      'decoders': ('learned', 'frozen', 'equal phases', 'bilinear resize'),
      'seeds': (0, 1, 2),
      'channels': (16, 32, 64),  # Channels of the encoder at strides 2, 4, 8.
      'convolutions': 3,  # Number of convolutions at each stride.
      'batch_size': 16,
      'num_steps': 400,
      'learning_rate': 1e-2,
      # Smaller for transposed convolutions, whose start already works well.
      'decoder_learning_rate': 3e-3,
      'log_every': 20,
      'save_every': 200,  # A multiple of log_every.
      'pictures': 8,  # Images shown in the report.
  })
  if variant == 'smoke':
    config.update({
        'size': 48, 'train_images': 64, 'test_images': 4, 'heads': (8, 4),
        'decoders': ('learned', 'bilinear resize'), 'seeds': (0,),
        'channels': (4, 6, 8), 'convolutions': 1, 'batch_size': 8,
        'num_steps': 12, 'log_every': 4, 'save_every': 4, 'pictures': 3})
  elif variant is not None:
    raise ValueError(f'variant must be smoke or left out; got {variant!r}.')
  return config
