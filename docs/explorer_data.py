"""Writes docs/_static/explorer_data.js: kernels of study 1, and a photograph.

    python -m experiments.main --config=configs/upsampling.py \
        --workdir=runs/upsampling
    python -m docs.explorer_data runs/upsampling

The networks of study 1 end with a transposed convolution from 32 channels to
one. If each channel o is constant, at its mean mu_o over the training images,
then the layer acts like a single kernel, h = sum_o mu_o w_o (tconv/phases.py).
The explorer shows h of two networks, and the largest mu_o w_o of one.

The photograph is `chelsea` of scikit-image (CC0, by Stefan van der Walt), a
test image of the study: a square of 288 pixels as 96 x 96 bytes in base64.
"""

import base64
import json
import pathlib
import sys
import textwrap

from flax import nnx
import jax.numpy as jnp
import numpy as np

from configs import upsampling as settings
from experiments.data import photographs
from experiments.harness import checkpoints
from experiments.studies import upsampling

OUTPUT = pathlib.Path(__file__).parent / '_static/explorer_data.js'
SHRINK, SIZE, TOP, LEFT = 3, 96, 6, 84


def learned(workdir: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the kernels of a finished run.

  Args:
    workdir: folder of the run, with the scale 2.

  Returns:
    [K, K] kernels by name.
  """
  config = settings.get_config()
  config.upsamplers = ('transposed k3', 'transposed k4')
  study = upsampling.Study(config)
  study.load()
  kernels = {}
  for trial in study.trials():
    upsampler, network = trial.subject
    training = trial.training
    with checkpoints.Checkpoints(workdir, training.label) as saved:
      step, (params, _) = saved.newest(training.state)
    if step != training.num_steps:
      raise SystemExit(f'{training.label} ends at step {step}; finish the run.')
    network = nnx.merge(nnx.graphdef(network), params)
    features = np.concatenate([  # Without the border, as in the study.
        np.asarray(network.features(jnp.asarray(pair['low'][None])),
                   np.float64)[0, 1:-1, 1:-1].reshape(-1, config.trunk.channels)
        for pair in study.pairs[2, 'train'].values()])
    # Flax's layout is flipped in comparison with tconv.conv_transpose.
    taps = np.asarray(network.upsampling.kernel[...], np.float64)[::-1, ::-1]
    weighted = taps[..., 0] * features.mean(0)
    name = f'k{upsampler.size}'
    kernels[f'{name}-all'] = weighted.sum(-1)
    if name == 'k4':
      largest = np.abs(weighted).sum((0, 1)).argmax()
      kernels[f'{name}-one'] = weighted[..., largest]
  return kernels


def photograph() -> str:
  """The photograph in base64, row by row."""
  side = SHRINK * SIZE
  square = photographs.load('chelsea')[TOP:TOP + side, LEFT:LEFT + side, 0]
  small = square.reshape(SIZE, SHRINK, SIZE, SHRINK).mean((1, 3))
  return base64.b64encode(
      np.round(255 * small).astype(np.uint8).tobytes()).decode()


def main() -> None:
  """Writes the file."""
  kernels = ',\n'.join(
      f"    '{name}': [\n" + ',\n'.join(
          '      ' + json.dumps([float(f'{tap:.7g}') for tap in row])
          for row in kernel) + ']'
      for name, kernel in learned(pathlib.Path(sys.argv[1])).items())
  image = ' +\n'.join(
      f"    '{line}'" for line in textwrap.wrap(photograph(), 72))
  OUTPUT.write_text(
      '/* Written by docs/explorer_data.py, which says what this is. */\n'
      'window.tconvExplorerData = {\n'
      f'  kernels: {{\n{kernels},\n  }},\n  photograph:\n{image},\n}};\n',
      encoding='utf-8')


if __name__ == '__main__':
  main()
