"""Made-up results of the benchmark, with numbers that divide evenly."""


def entry(*, forward, training=None, first_call=(3, 2), memory=(4, 0),
          patches_bytes=8, coarse_size=(2, 2), multiply_adds=1000,
          output_pixels=100, contractions=None):
  """An entry as `measure.measure` gives it.

  Times are in milliseconds by peer, one or all rounds; pairs are of tconv and
  lax; contractions are times of forms by operation, and who 'auto' is.
  """
  rounds = lambda times: {
      name: t if isinstance(t, list) else [t] * 3 for name, t in times.items()}
  pair = lambda values: dict(zip(('tconv', 'lax'), values))
  return {
      'name': 'made up', 'source': 'nobody', 'batch': 1,
      'coarse_size': list(coarse_size), 'fan_in': 2, 'fan_out': 3, 'taps': 4,
      'stride': 2, 'padding': 1, 'output_padding': 0, 'dilation': 1,
      'groups': 1, 'multiply_adds': multiply_adds,
      'output_pixels': output_pixels, 'bytes_moved': 10,
      'patches_bytes': patches_bytes,
      'milliseconds': {'forward': rounds(forward),
                       'training': rounds(training or forward)},
      'skipped': {'forward': {}, 'training': {}},
      'first_call_ms': {'forward': pair(first_call),
                        'training': pair(first_call)},
      'temporary_bytes': {'forward': pair(memory), 'training': pair(memory)},
      'contractions': {
          operation: {'milliseconds': rounds(times), 'auto': auto,
                      'skipped': {}}
          for operation, (times, auto) in (contractions or {}).items()}}


def results(layers, *, stride=None, size=None, device='cpu (cpu)'):
  """Results as `benchmark.run` gathers them."""
  series = {'size': size, 'stride': stride}
  return {'command': 'benchmark', 'device': device, 'processor': 'a processor',
          'threads': 2, 'versions': {'python': '3', 'jax': '1'},
          'skipped': {'torch': 'not here'}, 'layers': layers,
          'series': {name: s for name, s in series.items() if s}}
