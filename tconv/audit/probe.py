"""What an audit feeds a model: flat fields, the user's inputs, or noise.

On a flat field, everything that is periodic in the output is the model's own.
The user's inputs show which means occur in its activations.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import NamedTuple
import zipfile

import numpy as np

from tconv.audit import images
from tconv.audit import model as model_lib

# Sizes to try where a model leaves them free, by number of spatial axes; some
# models take multiples of a power of two only, others have a smallest size.
_SIZES = {0: (1,), 1: (256, 100, 1024), 2: (128, 96, 224, 64), 3: (32, 48, 64)}
_LARGEST = 256  # Of the part of a user's image that is used, in pixels.
_GREYS = (.1, .25, .5, .75, .9)
_COLORS = ((.9, .2, .2), (.2, .8, .2), (.2, .3, .9), (.8, .7, .3))


class Probe(NamedTuple):
  """Inputs for one run of a model.

  Attributes:
    name: what it is, for reports.
    kind: 'flat', 'input' or 'noise'.
    feeds: array for each input, in the model's own layout and dtype.
    reference: [*size, C] input image in [0, 1], channels last, with which the
      spectrum of an output can be compared; None if there is none.
  """
  name: str
  kind: str
  feeds: Mapping[str, np.ndarray]
  reference: np.ndarray | None = None


def probes(model: model_lib.Model, files: Sequence[pathlib.Path] = (), *,
           white: float = 1.) -> list[Probe]:
  """Makes the probes for a model, of a size that it accepts.

  Args:
    model: model to audit.
    files: images for a model of one image; .npy arrays of its input, or .npz
      files with an array for each input. Large images are cropped.
    white: value that the model's inputs have for white.

  Returns:
    The probes: flat fields, if the model has a single input with channels, and
    the files or, without any, noise.

  Raises:
    AuditError: a file does not fit, or the model runs on none of the probes.
  """
  error = None
  for attempt in range(max(map(len, _SIZES.values()))):
    found = Probe('noise', 'noise', {
        given.name: _cast(_noise(model, given, i, attempt), given, white)
        for i, given in enumerate(model.inputs)})
    try:
      model.run(found.feeds)
    except model_lib.AuditError as failure:
      error = error or failure
      continue
    flats = _flats(model, attempt, white)
    given = [_from_file(model, path, white) for path in files]
    return [*flats, *(given or [found])]
  if files:
    return [_from_file(model, path, white) for path in files]
  raise model_lib.AuditError(
      f'{model.name} runs on none of the probes; pass inputs that it takes. '
      f'{error}')


def from_array(model: model_lib.Model, array) -> Probe | None:
  """A probe for a model of one input, from its values.

  Args:
    model: the model.
    array: array in the model's own layout, or only a shape and dtype.

  Returns:
    The probe; None if there are no values.
  """
  if not hasattr(array, '__array__'):
    return None
  [given] = model.inputs
  values = np.asarray(array)
  image = np.asarray(values[0], np.float64)
  is_image = (image.ndim == 3 and given.channel_axis == 3
              and image.shape[-1] in (1, 3)
              and 0 <= image.min() and image.max() <= 1)
  return Probe('the given input', 'input', {given.name: values},
               image if is_image else None)


def _shape(model: model_lib.Model, given: model_lib.Input, attempt: int
           ) -> tuple[int, ...]:
  """The shape of an input, with numbers where it is free."""
  # Free axes of several inputs are usually the same.
  spatial = len(given.shape) - 2 if len(model.inputs) == 1 else 2
  sizes = _SIZES.get(spatial, _SIZES[3])
  size = sizes[min(attempt, len(sizes) - 1)]
  return tuple(
      n if n is not None else 1 if axis == 0
      else 3 if axis == given.channel_axis else size
      for axis, n in enumerate(given.shape))


def _cast(values: np.ndarray, given: model_lib.Input, white: float
          ) -> np.ndarray:
  """Converts values in [0, 1] to the range and dtype of an input."""
  if np.issubdtype(given.dtype, np.integer):
    return np.round(values * (white if white != 1 else 255)).astype(given.dtype)
  return (values * white).astype(given.dtype)


def _flats(model, attempt, white) -> list[Probe]:
  """Fields that are constant but for the channels."""
  colors = {f'flat {grey}': grey for grey in _GREYS}
  if not any(_is_image(model, given) for given in model.inputs):
    colors = {f'flat, seed {seed}': seed for seed in range(len(_GREYS))}
  elif any(given.shape[given.channel_axis] in (3, None)
           for given in model.inputs if given.channel_axis is not None):
    colors |= {f'flat {color}': color for color in _COLORS}
  found = []
  for name, color in colors.items():
    feeds = {}
    for number, given in enumerate(model.inputs):
      shape = _shape(model, given, attempt)
      values = _noise(model, given, number, attempt)
      axis = given.channel_axis
      if axis is not None and _is_image(model, given):
        values = np.moveaxis(np.ones(shape), axis, -1) * np.array(color)
        values = np.moveaxis(values, -1, axis)
      elif axis is not None:
        generator = np.random.default_rng((number, len(found)))
        own = generator.normal(size=shape[axis])
        values = np.moveaxis(
            np.moveaxis(np.ones(shape), axis, -1) * own, -1, axis)
      feeds[given.name] = _cast(values, given, white)
    found.append(Probe(name, 'flat', feeds))
  return found


def _is_image(model, given: model_lib.Input) -> bool:
  """Whether an input holds images rather than features."""
  return (len(model.inputs) == 1 and given.channel_axis is not None
          and given.shape[given.channel_axis] in (1, 3, 4, None))


def _noise(model, given: model_lib.Input, number: int, attempt: int
           ) -> np.ndarray:
  """White noise; for images, noise with the spectrum of photographs."""
  shape = _shape(model, given, attempt)
  generator = np.random.default_rng(number)
  if given.channel_axis is None and np.issubdtype(given.dtype, np.integer):
    return np.zeros(shape)
  values = generator.normal(size=shape)
  if not _is_image(model, given):
    return values
  axes = [a for a in range(1, len(shape)) if a != given.channel_axis]
  squares = np.zeros(())
  for a in axes:
    wave = np.fft.fftfreq(shape[a]) * shape[a]
    squares = squares + (wave**2).reshape(
        [-1 if b == a else 1 for b in range(len(shape))])
  values = np.fft.ifftn(np.fft.fftn(values, axes=axes) / np.maximum(
      1, squares)**(len(axes) / 4), axes=axes).real
  # Channels of photographs are alike.
  values += 2 * values.mean(given.channel_axis, keepdims=True)
  return np.clip(.5 + .2 * values / values.std(), 0, 1)


def _image_input(model: model_lib.Model) -> model_lib.Input | None:
  """The only input, if it has channels."""
  if len(model.inputs) != 1 or model.inputs[0].channel_axis is None:
    return None
  return model.inputs[0]


def _from_file(model, path: pathlib.Path, white: float) -> Probe:
  """Reads a file as the inputs of a model."""
  if path.suffix in ('.npy', '.npz'):
    return Probe(path.name, 'input', _arrays(model, path))
  given = _image_input(model)
  if given is None or given.channel_axis is None:
    raise model_lib.AuditError(
        f'{path}: {model.name} does not take a single image; pass .npz files '
        f'with the arrays {", ".join(i.name for i in model.inputs)}.')
  axis = given.channel_axis
  image = _image(path, given.shape[axis] or 3)
  size = [n for i, n in enumerate(given.shape) if i not in (0, axis)]
  if len(size) != 2:
    raise model_lib.AuditError(
        f'{path}: {model.name} does not take images but arrays with '
        f'{len(size)} spatial axes; pass .npy files.')
  cropped = _cropped(image, size)
  batch = np.broadcast_to(cropped, (given.shape[0] or 1, *cropped.shape))
  feeds = {given.name: _cast(np.moveaxis(batch, -1, axis), given, white)}
  return Probe(path.name, 'input', feeds, cropped)


def _image(path: pathlib.Path, channels: int) -> np.ndarray:
  """Reads a [H, W, channels] image in [0, 1]."""
  try:
    image, _ = images.read(str(path))
  except images.ImageError as error:
    raise model_lib.AuditError(f'{path} cannot be used: {error}') from error
  if channels not in (1, 3):
    raise model_lib.AuditError(
        f'{path}: the model takes {channels} channels, not an image; pass .npy '
        'files.')
  if image.shape[-1] == channels:
    return image
  if channels == 1:
    return images.luminance(image)
  return np.repeat(image, channels, -1)


def _cropped(image: np.ndarray, size: Sequence[int | None]) -> np.ndarray:
  """The middle of an image; mirrored at its borders if it is too small."""
  for axis, want in enumerate(size):
    have = image.shape[axis]
    # Free sizes become multiples of 32, which most models accept.
    want = want or max(min(have, _LARGEST) // 32 * 32, min(have, 32))
    if have < want:
      before = (want - have) // 2
      pads = [(0, 0)] * image.ndim
      pads[axis] = (before, want - have - before)
      image = np.pad(image, pads, 'symmetric')
    else:
      start = (have - want) // 2
      image = image.take(range(start, start + want), axis)
  return image


def _arrays(model, path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads a .npy or .npz file; nothing in it is unpickled."""
  names = [given.name for given in model.inputs]
  try:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
      if len(names) != 1:
        raise model_lib.AuditError(
            f'{path}: {model.name} has the inputs {", ".join(names)}; pass a '
            '.npz file with an array for each.')
      arrays = {names[0]: loaded}
    else:
      with loaded:
        arrays = {name: loaded[name] for name in loaded.files}
  except (OSError, ValueError, EOFError, MemoryError, KeyError,
          zipfile.BadZipFile) as error:
    raise model_lib.AuditError(
        f'{path} cannot be read as arrays: {error}') from error
  if set(arrays) != set(names):
    raise model_lib.AuditError(
        f'{path} must hold the arrays {", ".join(names)}; got '
        f'{", ".join(arrays) or "none"}.')
  return {given.name: arrays[given.name].astype(given.dtype)
          for given in model.inputs}
