"""What PyTorch computes, for the tests to have where it is not installed.

  python tests/data/torch_conv_transpose.py

writes torch_conv_transpose.npz beside this file: for each case its arguments,
the result, and the gradients for a random cotangent, all of float64.
"""

import json
import pathlib

import numpy as np
import torch
from torch.nn import functional

STORED = pathlib.Path(__file__).with_suffix('.npz')
SIZE, TAPS = (3, 4, 2), (3, 2, 2)

# Sequences are for three axes, and cut to those that there are.
OPTIONS = (
    {},
    {'stride': 2},
    {'stride': (4, 3, 1), 'batched': False},  # Longer than the kernel.
    {'padding': (2, 1, 0)},
    {'padding': (3, 1, 0), 'stride': 2},  # A crop: more than k - 1.
    {'output_padding': 1, 'stride': 2},
    {'dilation': (1, 2, 3), 'bias': False},
    {'dilation': (3, 2, 2), 'output_padding': (2, 0, 1)},
    {'groups': 2, 'channels': (4, 2)},
    {'groups': 3, 'channels': (3, 1), 'stride': (1, 2, 2), 'batched': False},
    {'groups': 2, 'channels': (2, 2), 'stride': (3, 1, 2), 'padding': (2, 1, 0),
     'dilation': (2, 3, 1), 'output_padding': (2, 1, 0)},
)
CASES = tuple(
    {'num_axes': num_axes} | {
        name: value[:num_axes] if isinstance(value, tuple)
        and name != 'channels' else value for name, value in options.items()}
    for num_axes in (1, 2, 3) for options in OPTIONS)


def evaluate(seed, num_axes, channels=(3, 2), batched=True, bias=True,
             **options):
  """Draws arguments, and has PyTorch compute result and gradients.

  `channels` are those of the input, and those of the result in each group.
  Gradients have the names of their arguments with grad_ before them.
  """
  generator = np.random.default_rng(seed)
  draw = generator.normal
  arrays = {
      'input': draw(size=(2,) * batched + channels[:1] + SIZE[:num_axes]),
      'weight': draw(size=channels + TAPS[:num_axes])}
  if bias:
    arrays['bias'] = draw(size=channels[1] * options.get('groups', 1))
  tensors = {name: torch.tensor(array, requires_grad=True)
             for name, array in arrays.items()}
  result = getattr(functional, f'conv_transpose{num_axes}d')(
      **tensors, **options)
  # Small integers take less room.
  cotangent = generator.integers(-4, 5, result.shape).astype(np.float64)
  gradients = torch.autograd.grad(
      result, tensors.values(), torch.tensor(cotangent))
  return (arrays | {'result': result.detach().numpy(), 'cotangent': cotangent}
          | {f'grad_{name}': gradient.numpy()
             for name, gradient in zip(tensors, gradients)})


def main():
  arrays = {
      f'{seed}/{name}': array for seed, case in enumerate(CASES)
      for name, array in evaluate(seed, **case).items()}
  np.savez_compressed(STORED, cases=json.dumps(CASES),
                      torch_version=torch.__version__, **arrays)


if __name__ == '__main__':
  main()
