"""Times the forms of the contractions of a program, and remembers the fastest.

The rule in `dispatch` is made for all devices and shapes; `tune` measures this
device and these shapes. `tuning_cache` keeps what it found, and says where.
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

# These are there to be read and checked against, and are never the fastest.
_NOT_TIMED = ('matrix', 'zero_insertion')
# Taps, or patches at a position; 4096 of them compile for minutes.
_LONGEST = 256
# At least, at most; no more than needed once all runs took this long together.
_ROUNDS = 10, 1000
_ENOUGH = 1000  # ms
# A form is given up after a run this many times longer than the shortest run of
# any form, unless the run is so short that it may have been disturbed.
_HOPELESS = 5
_SHORT = 100  # ms
# How much faster than the rule's choice another form must be, lest noise flip
# choices.
_CLEARLY = 1.1


def tune(function: Callable[..., Any], *args: Any,
         **kwargs: Any) -> tuple[Recording, ...]:
  """Measures which form is the fastest for each contraction in a function.

  The function is traced, not run. Every operation that it makes of this library
  with `method='auto'`, on whatever level of jit, grad, vmap, scan or shard_map,
  is timed by itself in every form that may be the fastest, on one device, with
  random arrays of its shapes. What is found is kept in the user's cache folder
  (see `file` of what is returned; `$XDG_CACHE_HOME` or ~/.cache), for this kind
  of device and this version of jaxlib, and from then on decides what 'auto' is,
  in later runs too. Finite values stay the same, up to rounding; how far a NaN
  spreads may change (see `tconv.conv_transpose`), and another form may need
  more memory. What is known already is not timed again. To forget it, delete
  the folder. It takes a second or a few for each contraction; times of a
  machine that is busy with other things mislead.

  Example:
    step = jax.jit(train_step)
    for recording in tconv.tune(step, state, batch):
      print(recording)
    state = step(state, batch)  # Compiled for the first time.

  A program that is compiled already keeps its forms: tune first, or call
  `jax.clear_caches()`. What is measured here counts neither in a program that
  is exported for another platform nor in one of several processes, which must
  all compile the same. Where the compiler shards arrays, shapes are those of
  whole arrays, and so are the times.

  Args:
    function: any function that JAX can trace, jitted or not, such as a whole
      training step with its gradients.
    *args: its arguments, pytrees of arrays, such as images [N, *size, C], or of
      `jax.ShapeDtypeStruct`s. Other leaves reach the function as they are.
    **kwargs: its keyword arguments, likewise.

  Returns:
    A recording for each distinct contraction, in order of appearance, with
    `form`, `rule`, `milliseconds` by form, `contraction` and `file`; it prints
    as one line.

  Raises:
    ValueError: the function makes no operation that 'auto' could choose for.
  """
  program, *_ = jaxprs.trace(function, args, kwargs)
  contractions = dict.fromkeys(
      Contraction.of_equation(eqn) for eqn, _ in jaxprs.walk(program)
      if eqn.primitive.name.startswith('tconv_')
      and eqn.params['method'] == 'auto')
  if not contractions:
    raise ValueError(
        'function must use conv, conv_transpose or conv_kernel_grad of tconv '
        f"with method='auto', to be tuned; got {function!r}, which does not.")
  return tuple(tuning_cache.read(c) or _record(c) for c in contractions)


def _record(contraction: Contraction) -> Recording:
  """Measures a contraction, chooses, and keeps the choice."""
  backend = jax.default_backend()  # 'gpu' is two platforms, with one rule.
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
  """Forms that do the same as another, or whose program is too long."""
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
  """Medians of interleaved runs; the first form is the rule's choice."""
  # One device, whatever mesh the user may have set.
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
        except jax.errors.JaxRuntimeError:  # Such as: out of memory.
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
  """A function that computes once and returns the milliseconds it took."""
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
