"""Random texts for the form of the padding calculator."""

import numpy as np

CALLS = ('torch', 'onnx', 'keras', 'flax', 'lax', 'tconv')
WRONG = ('0', '-1', '-7', 'a', '1.5', '9,9,9,9', '(1, 2', '1,,2', '()', '01',
         '(1, 2), 3', "'1'", '<b>', '30', 'SAME_UPPER', '\u221e')
NAMES = {
    'onnx': ('',), 'torch': ('', '0'),
    'keras': ('', 'same', 'valid', 'SAME', 'Valid'),
    'flax': ('', 'SAME', 'VALID', 'same'), 'lax': ('SAME', 'VALID', 'valid'),
    'tconv': ('', 'SAME', 'VALID', 'same')}


def states(number, seed=0):
  """Yields states of the form: texts by field, legal ones and others."""
  rng = np.random.default_rng(seed)
  for i in range(number):
    state = _state(rng, CALLS[i % len(CALLS)], 1 + i // len(CALLS) % 3)
    if rng.random() < .25:
      field = rng.choice([f for f in state if f not in (
          'call', 'axes', 'autoPad')])
      state[field] = str(rng.choice(WRONG))
    yield state


def _state(rng, call, num_axes):
  maybe = lambda chance, text: text if rng.random() < chance else ''
  ints = lambda low, high: _ints(rng, low, high, num_axes)
  state = dict(
      call=call, axes=str(num_axes), input=ints(1, 6), kernel=ints(1, 5),
      stride=ints(1, 4), dilation=maybe(.3, ints(1, 3)),
      extra=maybe(.3, ints(0, 2)), size='', autoPad='NOTSET',
      padding=_padding(rng, call, num_axes))
  if call in ('torch', 'onnx', 'tconv') and rng.random() < .4:
    # The size without padding, or one near it, which often is legal.
    n, k, s = (np.broadcast_to(np.array(eval(state[f])), num_axes)
               for f in ('input', 'kernel', 'stride'))
    size = (n - 1) * s + k - rng.integers(0, 2, num_axes)
    state['size'] = ', '.join(map(str, size))
    if rng.random() < .7:
      state['extra'] = ''
    if rng.random() < .7:
      state['padding'] = NAMES[call][-1]
  if call == 'onnx' and rng.random() < .5:
    state['autoPad'] = str(rng.choice(['SAME_UPPER', 'SAME_LOWER', 'VALID']))
    if rng.random() < .8:
      state['padding'] = ''
  return state


def _ints(rng, low, high, num_axes):
  """One number, or one for each axis, in several notations."""
  if rng.random() < .5:
    return str(rng.integers(low, high + 1))
  values = tuple(map(int, rng.integers(low, high + 1, num_axes)))
  if rng.random() < .5:
    return str(values) if rng.random() < .5 else str(list(values))
  return ','.join(map(str, values)) + ',' * (num_axes == 1)


def _padding(rng, call, num_axes):
  """Padding in a notation that the call has, more or less."""
  if call == 'keras' or rng.random() < .3:
    return str(rng.choice(NAMES[call]))
  if call in ('torch', 'onnx'):
    return _ints(rng, 0, 2, num_axes * (1 + (call == 'onnx')))
  if call == 'lax' or rng.random() < .5:
    pairs = tuple(tuple(map(int, pair))
                  for pair in rng.integers(-2, 5, (num_axes, 2)))
    return str(pairs) if rng.random() < .5 else str(list(pairs))
  return _ints(rng, -1, 4, num_axes)
