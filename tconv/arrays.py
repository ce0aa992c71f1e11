"""Reading array arguments: an illegal one is named in a ValueError."""

from collections.abc import Collection
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def read(name: str, value, ranks: Collection[int],
         layout: str = '') -> jax.Array:
  """Reads an argument as a JAX array and checks its number of axes.

  Args:
    name: what the caller calls the argument, for the error.
    value: anything that converts to an array.
    ranks: the legal numbers of axes, without a gap.
    layout: what the axes are, such as '[N, *size, C]', for the error.

  Returns:
    The array.

  Raises:
    ValueError: it is no array, or has another number of axes.
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
  """Tells a caller whose images lack the batch axis.

  Without this check, the error would blame the argument that is right.

  Args:
    name: what the caller calls the images.
    array: the images, [N, *size, C].
    other: what the caller calls the argument that tells the spatial axes.
    value: that argument: an array with as many axes as the images, or one
      number for each spatial axis; a single number tells nothing.

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
