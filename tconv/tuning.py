"""Timing of the forms of each contraction in a program.

The rule in `dispatch` serves all devices and shapes. `tune` measures the forms
on this device, for the shapes of a program. `tuning_cache` stores the results.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import math
import statistics
import time
from typing import Any

import jax
from jax.sharding import AxisType
import numpy as np

from tconv import dispatch
from tconv import trilinear
from tconv import tuning_cache
from tconv.programs import jaxprs
from tconv.tuning_cache import Contraction
from tconv.tuning_cache import Recording

# These forms serve reading and checking, and are never the fastest.
_NOT_TIMED = ('matrix', 'zero_insertion')
# Largest number of taps, or of patches at a position; 4096 compile for minutes.
_LONGEST = 256
# Smallest and largest number of rounds. After the smallest number, timing ends
# once all runs together took `_ENOUGH`.
_ROUNDS = 10, 1000
_ENOUGH = 1000  # ms
# A form is dropped after a run this many times longer than the shortest run of
# any form, unless the run is so short that other load may explain it.
_HOPELESS = 5
_SHORT = 100  # ms
# Factor by which a form must be faster than the rule's choice to replace it, so
# that noise does not decide.
_CLEARLY = 1.1


def tune(function: Callable[..., Any], *args: Any,
         **kwargs: Any) -> tuple[Recording, ...]:
  """Measures which form is the fastest for each contraction in a function.

  The function is traced, not run. A contraction is an operation of this library
  with its shapes. Every contraction in the function that has `method='auto'` is
  timed by itself, on one device, with random arrays, in every form that may be
  the fastest. It does not matter how deep it is inside jit, grad, vmap, scan or
  shard_map. Each takes a few seconds. Other load on the machine distorts times.

  The fastest forms are stored in the user's cache folder ($XDG_CACHE_HOME or
  ~/.cache; see `file` of the recordings), for this kind of device and version
  of jaxlib. From then on 'auto' uses them, in later runs too. Contractions with
  a recording are not timed again. To clear the cache, delete the folder.

  Finite values stay the same, up to rounding. How far a NaN spreads may change
  (see `tconv.conv_transpose`), and another form may need more memory.

  Tune before the first step::

    step = jax.jit(train_step)
    for recording in tconv.tune(step, state, batch):
      print(recording)
    state = step(state, batch)  # Compiled for the first time.

  Programs that are already compiled keep their forms: tune first, or call
  `jax.clear_caches()`. Recordings do not apply to programs that are exported
  for another platform, nor to programs of several processes, which must all
  compile the same. If the compiler shards arrays, the shapes and times are
  those of whole arrays.

  Args:
    function: any function that JAX can trace, jitted or not, such as a whole
      training step with its gradients.
    *args: arguments of the function: pytrees of arrays, such as images
      [N, *size, C], or of `jax.ShapeDtypeStruct`. Other leaves are passed on
      unchanged.
    **kwargs: keyword arguments of the function, likewise.

  Returns:
    A recording for each distinct contraction, in order of appearance, with
    `form`, `rule`, `milliseconds` by form, `contraction` and `file`; it prints
    as one line.

  Raises:
    ValueError: the function has no operation of tconv with method 'auto'.

  Example:
    >>> step = jax.jit(lambda y, kernel: tconv.conv_transpose(y, kernel, 2))
    >>> y, kernel = jnp.ones((1, 8, 4)), jnp.ones((4, 3, 4))
    >>> [recording] = tconv.tune(step, y, kernel)
    >>> recording.contraction.operation
    'conv_transpose'
    >>> recording.form in recording.milliseconds  # The fastest on this device.
    True
    >>> x = step(y, kernel)  # Compiled for the first time, with that form.
  """
  program, *_ = jaxprs.trace(function, args, kwargs)
  contractions = dict.fromkeys(
      Contraction.of_equation(eqn) for eqn, _ in jaxprs.walk(program)
      if eqn.primitive.name.startswith('tconv_')
      and eqn.params['method'] == 'auto')
  if not contractions:
    raise ValueError(
        'function must use conv, conv_transpose or conv_kernel_grad of tconv '
        f"with method='auto'; got {function!r}, which does not.")
  return tuple(tuning_cache.read(c) or _record(c) for c in contractions)


def _record(contraction: Contraction) -> Recording:
  """Measures a contraction, chooses a form, and stores the choice."""
  backend = jax.default_backend()  # 'gpu' is cuda or rocm, with one rule.
  rule = dispatch.choose(
      contraction.operation, contraction.geometry.trimmed()[0],
      contraction.shapes, {'gpu': 'cuda'}.get(backend, backend))
  others = (form for form in dispatch.FORMS
            if form not in (rule, *_NOT_TIMED, *_left_out(contraction)))
  times = _milliseconds(contraction, (rule, *others))
  fastest = min(times, key=times.__getitem__)
  form = fastest if times[fastest] * _CLEARLY < times[rule] else rule
  recording = Recording(contraction, form, rule, times)
  tuning_cache.write(recording)
  return recording


def _left_out(contraction: Contraction) -> Iterator[str]:
  """Forms that duplicate another one here, or whose program is too long."""
  if jax.default_backend() != 'gpu':
    yield 'cudnn'
  if max(contraction.geometry.dilation, default=1) == 1:
    yield 'residues'
  taps = math.prod(contraction.geometry.kernel_size)
  if taps > _LONGEST:
    yield 'taps'
  if taps > _LONGEST * math.prod(contraction.geometry.strides):
    yield 'overlap_add'


def _milliseconds(contraction: Contraction,
                  forms: Sequence[str]) -> dict[str, float]:
  """Median times of interleaved runs; the first form is the rule's choice."""
  # One device, even if the user has set a mesh.
  mesh = jax.make_mesh((1,), ('device',), axis_types=(AxisType.Auto,),
                       devices=jax.local_devices()[:1])
  runs = {form: [] for form in forms}
  with jax.set_mesh(mesh):
    operands = _operands(contraction)
    racing = {form: _stopwatch(contraction, form, operands) for form in forms}
    best, spent = math.inf, 0.
    for count in range(_ROUNDS[1]):
      if count >= _ROUNDS[0] and spent > _ENOUGH:
        break
      for form, run in list(racing.items()):
        try:
          ms = run()
        except jax.errors.JaxRuntimeError:  # For example, out of memory.
          if form == forms[0]:
            raise
          del racing[form]
          continue
        runs[form].append(ms)
        best, spent = min(best, ms), spent + ms
        if ms > max(_HOPELESS * best, _SHORT):
          del racing[form]
  return {form: statistics.median(ms) for form, ms in runs.items() if ms}


def _operands(contraction: Contraction) -> list[jax.Array]:
  draw = np.random.default_rng(0)
  return [
      jax.device_put(draw.standard_normal(shape).astype(dtype))
      for shape, dtype in zip(contraction.shapes, contraction.dtypes)]


def _stopwatch(contraction: Contraction, form: str,
               operands: Sequence[jax.Array]) -> Callable[[], float]:
  """A function that runs the contraction once and returns milliseconds."""
  compute = jax.jit(functools.partial(
      trilinear.contract, contraction.operation, geometry=contraction.geometry,
      precision=contraction.precision, dtype=contraction.result_dtype,
      method=form))
  compiled = functools.cache(lambda: compute.lower(*operands).compile())

  def run() -> float:
    program = compiled()
    start = time.perf_counter()
    jax.block_until_ready(program(*operands))
    return 1000 * (time.perf_counter() - start)

  return run
