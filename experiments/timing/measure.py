"""All measurements of one layer, or of a series of layers."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.harness import stopwatch
from experiments.timing import calls
from experiments.timing import contractions
from experiments.timing import costs
from experiments.timing import layers
from experiments.timing import peers as peers_lib
from experiments.timing import through_jax

Say = Callable[[str], None]
_HOPELESS = 20  # Forms that take so many times the least time run once.


def measure(layer: layers.Layer, peers: Mapping[str, peers_lib.Build],
            repeats: int, say: Say = lambda what: None) -> dict[str, Any]:
  """Measures one layer.

  Args:
    layer: layer to measure.
    peers: first result of `peers.available`.
    repeats: number of rounds.
    say: function that shows the name of the current measurement.

  Returns:
    Facts of the layer; 'milliseconds', 'skipped', 'first_call_ms' and
    'temporary_bytes' by kind and peer; and 'contractions' by operation.

  Raises:
    RunError: the values of a peer differ from those of lax.
  """
  arrays = layer.arrays()
  entry: dict[str, Any] = {**layer.facts(), 'milliseconds': {}, 'skipped': {},
                           'first_call_ms': {}, 'temporary_bytes': {},
                           'contractions': {}}
  for kind in calls.KINDS:
    say(kind)
    times, skipped = _against_peers(layer, arrays, peers, repeats, kind)
    entry['milliseconds'][kind], entry['skipped'][kind] = times, skipped
  for kind in calls.KINDS:
    say('compilation and memory')
    entry['first_call_ms'][kind] = costs.first_calls(layer, kind)
    entry['temporary_bytes'][kind] = costs.temporary_bytes(layer, kind)
  for operation in contractions.OPERATIONS:
    say(operation)
    entry['contractions'][operation] = _by_each_form(
        layer, arrays, operation, repeats)
  return entry


def _against_peers(layer, arrays, peers, repeats, kind):
  """Returns times by peer, and reasons why others have none."""
  built, skipped = {}, {}
  for name, build in peers.items():
    try:
      built[name] = build(layer, arrays, kind)
    except NotImplementedError as error:
      skipped[name] = str(error)
  runs = {name: call.run for name, call in built.items()}
  if kind == 'forward' and layer.is_compute_bound:
    runs['matmul'] = through_jax.matmul(layer, arrays)
  expected = []

  def check(name, outputs):
    if name == 'lax':
      expected.extend(built[name].read(outputs))
    elif name in built:
      calls.check_agreement(f'{layer.name}, {kind}, {name}',
                            built[name].read(outputs), expected)

  return stopwatch.interleave(runs, repeats, check=check), skipped


def _by_each_form(layer, arrays, operation, repeats):
  """Returns times by form, which forms 'auto' is, and reasons for skipping."""
  contraction = contractions.build(layer, arrays, operation)
  expected = []

  def check(name, outputs):
    outputs = np.asarray(outputs)
    if name == 'auto':
      expected.append(outputs)
    calls.check_agreement(f'{layer.name}, {operation}, {name}', [outputs],
                          expected)

  times = stopwatch.interleave(contraction.calls, repeats, check=check,
                               hopeless=_HOPELESS)
  return {'milliseconds': times, 'auto': contraction.auto,
          'skipped': contraction.skipped}


def series(row: Sequence[layers.Layer], peers: Mapping[str, peers_lib.Build],
           repeats: int, say: Say = lambda what: None) -> dict[str, Any]:
  """Measures the forward pass of layers that differ in one number.

  Args:
    row: the layers.
    peers: first result of `peers.available`; tconv and lax are timed.
    repeats: number of rounds.
    say: function that shows the name of the current measurement.

  Returns:
    By name of the layer: its facts, and 'milliseconds' and 'temporary_bytes' by
    kind ('forward') and peer.

  Raises:
    RunError: the values of tconv differ from those of lax.
  """
  say('forward')
  runs, read, expected = {}, {}, {}
  for layer in row:
    arrays = layer.arrays()
    for peer in ('lax', 'tconv'):
      call = peers[peer](layer, arrays, 'forward')
      runs[layer, peer], read[layer, peer] = call.run, call.read

  def check(key, outputs):
    layer, peer = key
    outputs = read[key](outputs)
    if peer == 'lax':
      expected[layer] = outputs
    else:
      calls.check_agreement(f'{layer.name}, {peer}', outputs,
                            expected.pop(layer))

  times = stopwatch.interleave(runs, repeats, check=check)
  say('memory')
  return {layer.name: {
      **layer.facts(),
      'milliseconds': {'forward': {
          peer: times[layer, peer] for peer in ('tconv', 'lax')}},
      'temporary_bytes': {'forward': costs.temporary_bytes(layer, 'forward')}}
          for layer in row}
