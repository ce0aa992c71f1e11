"""Available baselines, and reasons for skipped ones."""

from collections.abc import Callable
import functools
import importlib
import os

from experiments.timing import calls
from experiments.timing import through_jax
from tconv import tuning_cache

Build = Callable[..., calls.Call]
# Modules of peers that need not be installed.
_OTHERS = {'torch': 'through_torch', 'onnxruntime': 'through_onnx'}


def available() -> tuple[dict[str, Build], dict[str, str]]:
  """Finds the peers that are installed.

  Returns:
    By name, functions from layer, arrays and kind to a call; and by name, the
    reasons for skipping others.
  """
  # By default, OpenMP's threads, which PyTorch uses, wait in a busy loop and
  # slow down the next library: tconv and lax took up to 1.5 times as long, and
  # PyTorch gained nothing. The variable is read when a library is loaded.
  os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
  builders: dict[str, Build] = {
      name: functools.partial(through_jax.build, name)
      for name in through_jax.NAMES}
  skipped = {}
  for name, module in _OTHERS.items():
    try:
      other = importlib.import_module(f'experiments.timing.{module}')
      # JAX uses all cores by default.
      builders.update(other.builders(tuning_cache.cores()))
    except ImportError as error:
      skipped[name] = f'{error} (extra "peers")'
  return builders, skipped
