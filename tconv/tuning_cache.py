"""Which form was measured to be the fastest, kept between runs.

`tconv.tune` writes what it measured, a JSON file for each contraction:

    $XDG_CACHE_HOME/tconv/<device>-jaxlib-<version>/<operation>-<hash>.json

where $XDG_CACHE_HOME is ~/.cache if it is not set, on every system. Whenever
'auto' is lowered, a file that fits decides. A file appears as a whole or not at
all and holds one contraction, so any number of processes may write at once. One
that cannot be understood is ignored, with a warning. To forget what was
measured, delete the folder.
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
  """All that a form's time depends on.

  Attributes:
    operation: 'conv', 'conv_transpose' or 'conv_kernel_grad'.
    shapes: those of the two operands, as in `trilinear.contract`.
    dtypes: those of the two operands.
    geometry: sizes that relate the arrays.
    precision: a hashable `jax.lax.PrecisionLike`.
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
    """The contraction of an equation of `trilinear.PRIMITIVES`.

    Args:
      eqn: equation of a program.

    Returns:
      What it computes.
    """
    lhs, rhs = (operand.aval for operand in eqn.invars)
    return cls(
        eqn.primitive.name.removeprefix('tconv_'), (lhs.shape, rhs.shape),
        (lhs.dtype, rhs.dtype), eqn.params['geometry'],
        eqn.params['precision'], eqn.params['dtype'])

  @property
  def key(self) -> dict[str, str]:
    """The same to be written down."""
    return {field.name: str(getattr(self, field.name))
            for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True)
class Recording:
  """What was measured of a contraction, and which form was chosen.

  Attributes:
    contraction: what was computed.
    form: the chosen form, a key of `dispatch.FORMS`.
    rule: the form that `dispatch.choose` gave.
    milliseconds: median time of each form.
  """

  contraction: Contraction
  form: str
  rule: str
  milliseconds: Mapping[str, float]

  @property
  def file(self) -> pathlib.Path:
    """Where it is kept."""
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
  """The recorded form of a contraction, if there is one to go by.

  Recordings are of this process's own device. So they do not count in a program
  for another platform, nor in one of several processes: all of them must
  compile the same program, and their caches may differ. Programs of symbolic
  sizes follow the rule, too.

  Args:
    contraction: what is to be computed.
    platform: what is lowered for, one of `dispatch.PLATFORMS`.

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
    contraction: what is to be computed.

  Returns:
    The recording, or None if there is none that can be read and understood.
  """
  file = _file(contraction)
  try:
    text = file.read_bytes()
  except FileNotFoundError:
    return None
  except OSError as error:
    _warn_once(f'The recordings of tconv.tune in {file.parent} are ignored, as '
               f'they cannot be read ({error.strerror}). Make them readable, '
               'or set XDG_CACHE_HOME to another folder.')
    return None
  try:
    return _parsed(text, contraction)
  except Exception as error:  # Whatever a foreign file may lead to.
    _warn_once(f'{file} is ignored, as it is not a recording of tconv.tune for '
               f'its contraction ({error!r}). Delete it, or tune again.')
    return None


def write(recording: Recording) -> None:
  """Keeps a recording, in place of an older one; warns where it cannot.

  Args:
    recording: what is to be kept.
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
    _warn_once(f'What tconv.tune measured is not kept, as {file.parent} cannot '
               f'be written ({error.strerror}). Make it writable, or set '
               'XDG_CACHE_HOME to another folder.')


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
  # Read each time: it may be set after this module was imported.
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  digest = hashlib.sha256(
      json.dumps(contraction.key).encode()).hexdigest()
  return (pathlib.Path(cache) / 'tconv'
          / f'{_device()}-jaxlib-{jaxlib.__version__}'
          / f'{contraction.operation}-{digest[:16]}.json')


@functools.cache
def _device() -> str:
  """What the times depend on; to JAX, any processor is just a 'cpu'."""
  device = jax.local_devices()[0]
  parts = [device.device_kind]
  if device.platform == 'cpu':
    parts += [machine.machine(), processor(), f'{cores()} cores']
  return '-'.join(re.findall(r'[\w.]+', ' '.join(parts), re.ASCII))


def processor() -> str:
  """Gives the name of the processor, where Linux tells it."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text()
  except OSError:
    return machine.processor()
  named = re.search(r'^model name\s*:(.*)$', lines, re.MULTILINE)
  return named.group(1) if named else machine.processor()


def cores() -> int:
  """Counts the cores that this process may use, where the system tells."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


@functools.cache
def _warn_once(message: str) -> None:
  warnings.warn(message, stacklevel=2)
