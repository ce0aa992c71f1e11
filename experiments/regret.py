"""Measures the rule of 'auto' on random layers: how far is it from the best?

    python -m experiments.regret --page=docs/benchmarks/random.md

The *regret* of a choice is the time of the form that 'auto' takes, over that of
the fastest form. It is measured for the three operations of each layer, which
are drawn at random and not from the list that the rule was made on. The whole
layer is compared with PyTorch, if it is installed, in either memory layout.
Writes all times to `--out`, and the page if one is named.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import pathlib
import tempfile
from typing import Any

from absl import app
from absl import flags
import jax
import numpy as np
import rich.progress

from experiments import commands
from experiments.harness import stopwatch
from experiments.harness import workdir
from experiments.harness.results import Table
from experiments.timing import calls
from experiments.timing import contractions
from experiments.timing import layers as layers_lib
from experiments.timing import peers as peers_lib
from experiments.timing import random_layers
from tconv import tuning_cache

_HOPELESS = 3  # A form that takes so many times the least time runs once.
_PACKAGES = ('python', 'jax', 'jaxlib', 'numpy', 'torch')


def measure(layer: layers_lib.Layer, peers: Mapping[str, peers_lib.Build],
            repeats: int) -> dict[str, Any]:
  """Measures the forms of each operation, and the layer against PyTorch.

  Args:
    layer: layer to measure.
    peers: functions that build calls, by name; of these, tconv and PyTorch.
    repeats: number of rounds.

  Returns:
    Milliseconds of the rounds: 'operations' by operation and form, with the
    form that 'auto' is, and 'layer' by kind and peer.
  """
  arrays = layer.arrays()
  entry = {'operations': {}, 'layer': {}}
  for operation in contractions.OPERATIONS:
    built = contractions.build(layer, arrays, operation, _forms(
        operation, layer.num_axes))
    # 'auto' is the same program as some form, and is timed as that.
    runs = {form: call for form, call in built.calls.items() if form != 'auto'}
    entry['operations'][operation] = {
        'auto': built.auto[0],
        'milliseconds': stopwatch.interleave(runs, repeats, hopeless=_HOPELESS)}
  for kind in calls.KINDS:
    built = {}
    for name, build in peers.items():
      try:
        built[name] = build(layer, arrays, kind).run
      except NotImplementedError:  # One of PyTorch's layouts, in 1-D.
        continue
    entry['layer'][kind] = stopwatch.interleave(built, repeats)
  return entry


def _forms(operation: str, num_axes: int) -> tuple[str, ...]:
  """Forms that may be the fastest on a CPU; others may take seconds."""
  forms = ('polyphase', 'overlap_add', 'taps')
  if num_axes == 3:
    return forms
  # The convolution of 'lax' is that of 'vjp'.
  return (*forms, 'lax' if operation == 'conv_transpose' else 'vjp')


def regrets(results: Mapping[str, Any], operation: str) -> dict[str, float]:
  """Returns the regret of an operation by layer."""
  found = {}
  for name, entry in results.items():
    one = entry['operations'][operation]
    times = _medians(one['milliseconds'])
    found[name] = times[one['auto']] / min(times.values())
  return found


def ratios(results: Mapping[str, Any], kind: str) -> dict[str, float]:
  """Returns the time of PyTorch's faster layout over tconv's, by layer."""
  found = {}
  for name, entry in results.items():
    times = _medians(entry['layer'][kind])
    own = times.pop('tconv')
    if times:
      found[name] = min(times.values()) / own
  return found


def _medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
  return {name: stopwatch.median(each) for name, each in times.items()}


def tables(results: Mapping[str, Any]) -> list[Table]:
  """Summarizes regrets and ratios, and lists the worst layers of each."""
  regret, worst = [], []
  for operation in contractions.OPERATIONS:
    each = regrets(results, operation)
    values = list(each.values())
    regret.append([operation, *(f'{np.quantile(values, q):.2f}' for q in (
        .5, .9, .95, 1))])
    for name in sorted(each, key=lambda name: -each[name])[:5]:
      one = results[name]['operations'][operation]
      times = _medians(one['milliseconds'])
      best = min(times, key=lambda form: times[form])
      worst.append([operation, name, one['auto'], best, f'{each[name]:.2f}'])
  against, slowest = [], []
  for kind in calls.KINDS:
    each = ratios(results, kind)
    for what, part in ('all', each), ('with groups', {
        name: ratio for name, ratio in each.items() if ' g' in name}):
      if part:
        values = list(part.values())
        against.append([
            kind, what, str(len(part)),
            f'{stopwatch.geometric_mean(values):.2f}',
            *(f'{np.quantile(values, q):.2f}' for q in (0, .05, .5))])
    for name in sorted(each, key=lambda name: each[name])[:8]:
      slowest.append([kind, name, f'{each[name]:.2f}'])
  return [
      Table('Regret of the rule: time of its form over that of the best form.',
            ['operation', 'median', '90 %', '95 %', 'largest'], regret),
      Table('The largest regrets.',
            ['operation', 'layer', 'auto', 'best', 'regret'], worst),
      Table("Time of PyTorch's faster layout over that of tconv.",
            ['', 'layers', 'number', 'geometric mean', 'least', '5 %',
             'median'], against),
      Table('The layers where PyTorch is faster than tconv by most.',
            ['', 'layer', 'PyTorch / tconv'], slowest)]


def main(argv: Sequence[str], *, count: int, seed: int, repeats: int,
         out: pathlib.Path, page: str | None) -> None:
  """Measures random layers, and writes the results and the page."""
  # Results of `tconv.tune` for this user would replace the rule.
  with (commands.started('regret', list(argv)) as (console, command),
        tempfile.TemporaryDirectory() as empty):
    os.environ['XDG_CACHE_HOME'] = empty
    builders, skipped = peers_lib.available()
    peers = {name: build for name, build in builders.items()
             if name == 'tconv' or name.startswith('torch')}
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for layer in rich.progress.track(
        random_layers.draw(count, seed), 'Layers', console=console,
        disable=not console.is_terminal):
      results[layer.name] = measure(layer, peers, repeats)
      workdir.write_json(out / 'regret.json', results)
      jax.clear_caches()
    found = commands.versions(
        *(name for name in _PACKAGES if name not in skipped))
    facts = (
        f'{count} layers drawn with seed {seed}, in float32, on '
        f'{tuning_cache.processor().strip()} with {tuning_cache.cores()} '
        f'threads, by `{command}`; {commands.listed(found)}.')
    every = tables(results)
    for table in every:
      console.print(table.screen())
    console.print(facts, soft_wrap=True)
    if page:
      commands.write_page(pathlib.Path(page), 'The rule on random layers',
                          facts, *every)


if __name__ == '__main__':
  _LAYERS = flags.DEFINE_integer('layers', 300, 'Number of layers.',
                                 lower_bound=1)
  _SEED = flags.DEFINE_integer('seed', 0, 'Random seed for the layers.')
  _REPEATS = flags.DEFINE_integer('repeats', 3, 'Number of rounds.',
                                  lower_bound=1)
  _OUT = flags.DEFINE_string('out', 'runs/regret', 'Output folder.')
  _PAGE = flags.DEFINE_string('page', None, 'Markdown page to write.')
  app.run(lambda argv: main(
      argv, count=_LAYERS.value, seed=_SEED.value, repeats=_REPEATS.value,
      out=pathlib.Path(_OUT.value), page=_PAGE.value))
