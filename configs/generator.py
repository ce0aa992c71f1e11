"""Digits from random values, and grid artifacts of the upsampling stages.

    python -m experiments.main --config=configs/generator.py \
        --workdir=runs/generator

Takes about ten minutes on two cores. Among the results are:

    images                            class      Fréchet    grid level, dB,
                                      accuracy   distance   at period 2
    held out                          .972                  -4.1
    for training                      1.000       3.4       -3.5
    3 x transposed k4                 .980       12.1       -3.1
    3 x transposed k4 equal phases    .978       13.0       -3.6
    2 x transposed k4, nearest+conv   .985        9.4       -2.9
    3 x nearest+conv                  .973        8.6       -2.6

Before training, the first of these stacks has 18 dB. docs/generator.md has all
results, and compares them with published claims.

`configs/generator.py:patches` learns color patches of photographs instead.
`configs/generator.py:smoke` takes a few small steps, as a test.
"""

import ml_collections


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
  """Settings of the study `experiments/studies/generator.py`.

  Args:
    variant: None; 'patches' for color patches of photographs; or 'smoke' for a
      few small steps.

  Returns:
    The settings.

  Raises:
    ValueError: `variant` is none of these.
  """
  transposed = ('transposed k4',) * 3
  equal = ('transposed k4 equal phases',) * 3
  resize = ('nearest+conv',) * 3
  mixed = ('transposed k4', 'transposed k4', 'nearest+conv')
  config = ml_collections.ConfigDict({
      'study': 'generator',
      # digits: 5000 of MNIST with classes, 32 pixels. Without classes:
      # patches, of photographs; or folder:PATH.
      'data': 'digits',
      'size': 32,
      # Stages of each generator, which double the size from 4 to `size`.
      # transposed kK, with or without equal phases; sub-pixel; sub-pixel ICNR;
      # nearest+conv; bilinear+conv.
      'stacks': (transposed, equal, mixed, resize),
      # More stacks, which are measured before training only.
      'untrained_stacks': (('transposed k3',) * 3, ('transposed k5',) * 3),
      'untrained_seeds': tuple(range(8)),
      # strided kK, or conv+pool.
      'downsampler': 'strided k4',
      'untrained_downsamplers': (
          'strided k3', 'strided k4', 'strided k5', 'conv+pool'),
      'seeds': (0,),
      'latents': 64,
      'generator_features': 32,  # Channels before the last stage.
      'discriminator_features': 16,  # Channels after the first stage.
      'batch_size': 64,
      'num_steps': 3000,
      'learning_rate': 4e-4,
      'log_every': 50,
      'save_every': 500,  # A multiple of log_every.
      'classifier': {'num_steps': 1000, 'learning_rate': 2e-3},
  })
  if variant == 'patches':
    config.data = 'patches'
  elif variant == 'smoke':
    config.update({
        'stacks': (transposed,), 'untrained_stacks': (mixed, resize),
        'untrained_downsamplers': ('strided k3', 'conv+pool'),
        'untrained_seeds': (0, 1), 'generator_features': 8,
        'discriminator_features': 8, 'batch_size': 8, 'num_steps': 6,
        'log_every': 2, 'save_every': 4,
        'classifier': {'num_steps': 100, 'learning_rate': 2e-3}})
  elif variant is not None:
    raise ValueError(
        f'variant must be patches, smoke or left out; got {variant!r}.')
  return config
