"""The cache of `tconv.tune`: the fastest form of each contraction.

A *contraction* is an operation with its shapes, dtypes and geometry. A
*recording* says which form computed it fastest. Each is kept as a JSON file:

    $XDG_CACHE_HOME/tconv/<device>-jaxlib-<version>/<operation>-<hash>.json

If $XDG_CACHE_HOME is not set, it is ~/.cache, on every system. When a
contraction with method 'auto' is lowered, its recording decides the form. Files
are written atomically and hold one contraction each, so any number of processes
may write at once. A file that cannot be parsed is ignored with a warning. To
clear the cache, delete the folder.
"""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import platform as machine
import re
import tempfile
from typing import Any
from typing import Self
import warnings

import jax
import jaxlib
import numpy as np

from tconv import dispatch
from tconv.geometry import Geometry
from tconv.geometry import Size


@dataclasses.dataclass(frozen=True)
class Contraction:
  """An operation with everything that its time depends on.

  Attributes:
    operation: 'conv', 'conv_transpose' or 'conv_kernel_grad'.
    shapes: shapes of the two operands, as in `trilinear.contract`.
    dtypes: dtypes of the two operands.
    geometry: sizes that relate the arrays.
    precision: hashable `jax.lax.PrecisionLike`.
    result_dtype: dtype of the result.
  """

  operation: str
  shapes: tuple[Size, Size]
  dtypes: tuple[np.dtype, np.dtype]
  geometry: Geometry
  precision: Any
  result_dtype: np.dtype

  @classmethod
  def of_equation(cls, eqn: Any) -> Self:
    """Reads the contraction of an equation.

    Args:
      eqn: equation of one of `trilinear.PRIMITIVES` in a program.

    Returns:
      The contraction.
    """
    lhs, rhs = (operand.aval for operand in eqn.invars)
    return cls(
        eqn.primitive.name.removeprefix('tconv_'), (lhs.shape, rhs.shape),
        (lhs.dtype, rhs.dtype), eqn.params['geometry'],
        eqn.params['precision'], eqn.params['dtype'])

  @property
  def key(self) -> dict[str, str]:
    """The attributes as strings, for the file."""
    return {field.name: str(getattr(self, field.name))
            for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True)
class Recording:
  """The measured times of a contraction, and the form that was chosen.

  Attributes:
    contraction: contraction that was measured.
    form: chosen form, a key of `dispatch.FORMS`.
    rule: form that `dispatch.choose` gives.
    milliseconds: median time of each form.
  """

  contraction: Contraction
  form: str
  rule: str
  milliseconds: Mapping[str, float]

  @property
  def file(self) -> pathlib.Path:
    """The file that holds the recording."""
    return _file(self.contraction)

  def __str__(self) -> str:
    lhs, rhs = map(list, self.contraction.shapes)
    times = ', '.join(f'{form} {ms:.3g}' for form, ms in sorted(
        self.milliseconds.items(), key=lambda item: item[1]))
    geometry = self.contraction.geometry
    return (f'{self.contraction.operation} {lhs} {rhs}, strides '
            f'{list(geometry.strides)}, feature_group_count '
            f'{geometry.feature_group_count}: {self.form} (rule: {self.rule}); '
            f'ms: {times}; {self.file}')


def form(contraction: Contraction, platform: str) -> str | None:
  """The recorded form of a contraction, if one applies.

  Recordings are of the device of this process, so they do not apply to programs
  for another platform. They do not apply to programs of several processes
  either: all processes must compile the same program, but their caches may
  differ. Programs with symbolic sizes follow the rule, too.

  Args:
    contraction: contraction to compute.
    platform: platform for which it is lowered, one of `dispatch.PLATFORMS`.

  Returns:
    A key of `dispatch.FORMS`, or None.
  """
  here = (platform == 'cpu') == (jax.default_backend() == 'cpu')
  sizes = itertools.chain(*contraction.shapes)
  if (not here or jax.process_count() > 1
      or not all(isinstance(size, int) for size in sizes)):
    return None
  recording = read(contraction)
  return recording.form if recording else None


def read(contraction: Contraction) -> Recording | None:
  """Finds the recording of a contraction on this device.

  Args:
    contraction: contraction to compute.

  Returns:
    The recording, or None if there is none or it cannot be read.
  """
  file = _file(contraction)
  try:
    text = file.read_bytes()
  except FileNotFoundError:
    return None
  except OSError as error:
    _warn_once(f'The recordings of tconv.tune in {file.parent} are ignored: '
               f'they cannot be read ({error.strerror}). Make them readable, '
               'or set XDG_CACHE_HOME to another folder.')
    return None
  try:
    return _parsed(text, contraction)
  except Exception as error:  # A foreign file may raise anything.
    _warn_once(f'{file} is ignored: it is not a recording of tconv.tune for '
               f'its contraction ({error!r}). Delete it, or tune again.')
    return None


def write(recording: Recording) -> None:
  """Writes a recording, replacing an older one; warns if it cannot be written.

  Args:
    recording: recording to write.
  """
  file = recording.file
  content = {
      'contraction': recording.contraction.key, 'form': recording.form,
      'rule': recording.rule, 'milliseconds': dict(recording.milliseconds)}
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
      whole = pathlib.Path(scratch) / file.name
      whole.write_text(json.dumps(content, indent=2))
      os.replace(whole, file)  # Readers see the old file or the new one.
  except OSError as error:
    _warn_once(f'The recordings of tconv.tune are not kept: {file.parent} '
               f'cannot be written ({error.strerror}). Make it writable, or '
               'set XDG_CACHE_HOME to another folder.')


def _parsed(text: bytes, contraction: Contraction) -> Recording:
  content = json.loads(text)
  if content['contraction'] != contraction.key:
    raise ValueError('it is about another contraction')
  milliseconds = {
      form: float(ms) for form, ms in content['milliseconds'].items()}
  for name in (content['form'], content['rule'], *milliseconds):
    if name not in dispatch.FORMS:
      raise ValueError(f'there is no form {name!r}')
  return Recording(contraction, content['form'], content['rule'], milliseconds)


def _file(contraction: Contraction) -> pathlib.Path:
  # Read at each call: it may be set after this module is imported.
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  digest = hashlib.sha256(
      json.dumps(contraction.key).encode()).hexdigest()
  return (pathlib.Path(cache) / 'tconv'
          / f'{_device()}-jaxlib-{jaxlib.__version__}'
          / f'{contraction.operation}-{digest[:16]}.json')


@functools.cache
def _device() -> str:
  """The name of the device; JAX calls every processor just 'cpu'."""
  device = jax.local_devices()[0]
  parts = [device.device_kind]
  if device.platform == 'cpu':
    parts += [machine.machine(), processor(), f'{cores()} cores']
  return '-'.join(re.findall(r'[\w.]+', ' '.join(parts), re.ASCII))


def processor() -> str:
  """The name of the processor, if Linux provides it."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text()
  except OSError:
    return machine.processor()
  named = re.search(r'^model name\s*:(.*)$', lines, re.MULTILINE)
  return named.group(1) if named else machine.processor()


def cores() -> int:
  """The number of cores that this process may use, if the system tells."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


@functools.cache
def _warn_once(message: str) -> None:
  warnings.warn(message, stacklevel=2)
