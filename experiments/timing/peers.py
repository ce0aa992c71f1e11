"""Everybody who can compute a layer here, and who cannot."""

from collections.abc import Callable
import functools
import importlib
import os

from experiments.timing import calls
from experiments.timing import through_jax
from tconv import tuning_cache

Build = Callable[..., calls.Call]
# Those that need not be installed, and where they are.
_OTHERS = {'torch': 'through_torch', 'onnxruntime': 'through_onnx'}


def available() -> tuple[dict[str, Build], dict[str, str]]:
  """Looks for peers.

  Returns:
    By name, functions of layer, arrays and kind as `through_jax.build` is one;
    and why others are skipped, by name.
  """
  # OpenMP's threads, PyTorch's among them, else wait in a busy loop and take a
  # core from whoever comes next: tconv and lax were up to 1.5 times as slow
  # beside PyTorch, which itself was no faster. Read when a library is loaded.
  os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
  builders: dict[str, Build] = {
      name: functools.partial(through_jax.build, name)
      for name in through_jax.NAMES}
  skipped = {}
  for name, module in _OTHERS.items():
    try:
      other = importlib.import_module(f'experiments.timing.{module}')
      # JAX takes as many by itself.
      builders.update(other.builders(tuning_cache.cores()))
    except ImportError as error:
      skipped[name] = f'{error} (extra "peers")'
  return builders, skipped
