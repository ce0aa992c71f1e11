"""Times layers through tconv and its peers, side by side in one process.

    python -m experiments.benchmark --config=configs/benchmark.py

Runs are interleaved, and medians compared as ratios within this run, for
machines are shared and noisy. A training step is the layer's output and its
gradients for input and kernel.
"""

from collections.abc import Callable
import functools
from importlib import metadata
import json
import os
import pathlib
import time

from absl import app
from absl import logging
import jax
import jax.numpy as jnp
import ml_collections
from ml_collections import config_flags
import numpy as np
import rich.console
import rich.progress
import rich.table

import tconv

# float32 sums of up to 16,384 products of order 1, in another order.
_TOLERANCE = 1e-4


def _jax_calls(function, inputs, kernel, cotangent):
  """Forward and training step of a JAX function of (inputs, kernel)."""

  @jax.jit
  def train(inputs, kernel, cotangent):
    outputs, pullback = jax.vjp(function, inputs, kernel)
    return outputs, *pullback(cotangent)

  forward = functools.partial(jax.jit(function), inputs, kernel)
  step = functools.partial(train, inputs, kernel, cotangent)
  return (lambda: jax.block_until_ready(forward()),
          lambda: jax.block_until_ready(step()))


def _torch_calls(torch, inputs, kernel, cotangent, stride, padding):
  """The same for PyTorch, channels last in memory, as fast as it goes."""
  torch.set_num_threads(os.cpu_count() or 1)
  last = lambda a: torch.from_numpy(np.array(a).transpose(0, 3, 1, 2)).to(
      memory_format=torch.channels_last)
  y, g = last(inputs), last(cotangent)
  w = torch.from_numpy(np.asarray(kernel).transpose(3, 2, 0, 1).copy())
  run = functools.partial(torch.nn.functional.conv_transpose2d, stride=stride,
                          padding=padding)

  def forward():
    with torch.no_grad():
      return run(y, w).permute(0, 2, 3, 1)

  def train():
    leaves = y.detach().requires_grad_(), w.detach().requires_grad_()
    outputs = run(*leaves)
    dy, dw = torch.autograd.grad(outputs, leaves, g)
    return (outputs.detach().permute(0, 2, 3, 1), dy.permute(0, 2, 3, 1),
            dw.permute(2, 3, 1, 0))

  return forward, train


def calls_of(layer, torch) -> dict[str, tuple[Callable, Callable]]:
  """The forward and the training call of each peer, for one layer.

  Args:
    layer: batch, coarse size, channels in and out, kernel, stride, padding.
    torch: the module, or None.

  Returns:
    By peer, functions without arguments: one gives [N, *fine, C], the other
    that and the gradients of input and kernel.
  """
  batch, size, fan_in, fan_out, k, stride, padding = layer
  keys = jax.random.split(jax.random.key(0), 3)
  inputs = jax.random.normal(keys[0], (batch, *size, fan_in))
  kernel = jax.random.normal(keys[1], (*(k,) * len(size), fan_out, fan_in))
  kernel /= (fan_in * k**len(size))**.5
  ours = functools.partial(
      tconv.conv_transpose, strides=stride, padding=padding)
  lax = lambda inputs, kernel: jax.lax.conv_transpose(
      inputs, kernel, (stride,) * len(size),
      [(k - 1 - padding,) * 2] * len(size), transpose_kernel=True)
  cotangent = jax.random.normal(
      keys[2], jax.eval_shape(ours, inputs, kernel).shape)
  arrays = inputs, kernel, cotangent
  calls = {'tconv': _jax_calls(ours, *arrays), 'lax': _jax_calls(lax, *arrays)}
  if torch is not None:
    calls['torch'] = _torch_calls(torch, *arrays, stride, padding)
  return calls


def measure(layer, torch, repeats: int) -> dict[str, dict[str, list[float]]]:
  """Times all peers on one layer, after checking that they agree.

  Args:
    layer: as in `calls_of`.
    torch: the module, or None.
    repeats: timed runs of each call.

  Returns:
    By 'forward' and 'training', then by peer, `repeats` times in milliseconds.

  Raises:
    AssertionError: a peer's values differ.
  """
  calls = calls_of(layer, torch)
  results = {}
  for i, kind in enumerate(('forward', 'training')):
    expected = jax.tree.leaves(calls['lax'][i]())  # Also compiles.
    for name, pair in calls.items():
      for a, b in zip(jax.tree.leaves(pair[i]()), expected, strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(
            a, b, rtol=0, atol=_TOLERANCE * scale, err_msg=name)
    times = {name: [] for name in calls}
    for _ in range(repeats):
      for name, pair in calls.items():
        start = time.perf_counter()
        pair[i]()
        times[name].append(1e3 * (time.perf_counter() - start))
    results[kind] = times
  return results


def table_of(results) -> rich.table.Table:
  """Medians in ms, and the peers' ratios to tconv with their spread."""
  table = rich.table.Table(title='Milliseconds, and times tconv takes')
  peers = list(next(iter(results.values()))['forward'])
  for column in ('layer', '', *peers, *(f'{p} / tconv' for p in peers[1:])):
    table.add_column(column, justify='left' if column in ('layer', '')
                     else 'right')
  for layer, kinds in results.items():
    for kind, times in kinds.items():
      own = np.array(times['tconv'])
      ratios = {p: np.array(times[p]) / own for p in peers[1:]}
      table.add_row(
          layer, kind, *(f'{np.median(times[p]):.1f}' for p in peers),
          *(f'{np.median(times[p]) / np.median(own):.2f} '
            f'({r.min():.2f}-{r.max():.2f})' for p, r in ratios.items()))
  return table


def run(config: ml_collections.ConfigDict, console: rich.console.Console
        ) -> None:
  """Measures every layer, prints the table and writes the measurements.

  Args:
    config: `layers`, each with its name first, `repeats` of each call, and the
      file `out`.
    console: where to print.
  """
  try:
    import torch  # pyrefly: ignore[missing-import]
  except ImportError:
    torch = None
    console.print('torch is not installed (extra "peers"): skipped.')
  results = {}
  for name, *layer in rich.progress.track(
      config.layers, 'Measuring', console=console,
      disable=not console.is_terminal):
    results[name] = measure(layer, torch, config.repeats)
  console.print(table_of(results))
  out = pathlib.Path(config.out)
  out.parent.mkdir(parents=True, exist_ok=True)
  packages = ('jax', 'torch') if torch else ('jax',)
  out.write_text(json.dumps({
      'device': jax.devices()[0].device_kind, 'threads': os.cpu_count(),
      'versions': {name: metadata.version(name) for name in packages},
      'milliseconds': results}, indent=2) + '\n')
  console.print(f'Measurements: {out}', soft_wrap=True)


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file('config', 'configs/benchmark.py')
  logging.set_verbosity(logging.WARNING)
  app.run(lambda _: run(_CONFIG.value, rich.console.Console()))
