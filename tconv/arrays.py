"""Reading of array arguments; a ValueError names an invalid one."""

from collections.abc import Collection
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def read(name: str, value, ranks: Collection[int],
         layout: str = '') -> jax.Array:
  """Reads an argument as a JAX array and checks its number of axes.

  Args:
    name: name of the argument, for the error message.
    value: anything that converts to an array.
    ranks: valid numbers of axes, a contiguous range.
    layout: meaning of the axes, such as '[N, *size, C]', for the error message.

  Returns:
    The array.

  Raises:
    ValueError: `value` is not an array, or has an invalid number of axes.
  """
  try:
    array = jnp.asarray(value)
  except (TypeError, ValueError) as error:
    raise ValueError(f'{name} must be an array; got {value!r}.') from error
  if array.ndim not in ranks:
    numbers = ' to '.join(map(str, sorted({min(ranks), max(ranks)})))
    raise ValueError(
        f'{name} must have {numbers} axes{layout and ", "}{layout}; got shape '
        f'{array.shape}.')
  return array


def check_batch(name: str, array: jax.Array, other: str, value) -> None:
  """Checks that images have a batch axis.

  If it is missing, later checks would blame an argument that is correct.

  Args:
    name: name of the images, for the error message.
    array: images, [N, *size, C].
    other: name of the argument that determines the number of spatial axes.
    value: value of the argument `other`, an array with as many axes as the
      images or one number for each spatial axis; a single number is not
      checked.

  Raises:
    ValueError: one axis is missing.
  """
  axes = len(value) + 2 if isinstance(value, Sequence) else np.ndim(value)
  if axes > 1 and array.ndim == axes - 1:
    got = f'shape {value.shape}' if hasattr(value, 'shape') else repr(value)
    raise ValueError(
        f'{name} must have a batch axis and {axes - 2} spatial axes, to fit '
        f'{other} of {got}; got {name} of shape {array.shape}. For a single '
        f'image, pass {name}[None].')
