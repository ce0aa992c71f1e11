"""A study that trains a single number, and its config, for the harness.

python -m experiments.main --config=tests/harness/toys/toy.py --workdir=PATH
"""

import itertools
import pathlib
import time

import jax.numpy as jnp
from matplotlib.figure import Figure
import ml_collections
import numpy as np

from experiments import studies
from experiments.harness import page as page_lib
from experiments.harness import results
from experiments.harness import study


def get_config() -> ml_collections.ConfigDict:
  """Settings; also has `main` find the study, which is in no package."""
  studies.__path__.append(str(pathlib.Path(__file__).parent))
  return ml_collections.ConfigDict({
      'study': 'toy', 'num_steps': 6, 'log_every': 2, 'save_every': 2,
      'pause': 0.})  # Seconds before each batch.


class Study(study.Study):
  """Trains a number at each of two rates, and one of them is shared."""
  stop_at = None  # The batch at which a training is interrupted.

  def check(self):
    pass

  def load(self):
    self.examined = []
    return 'Toy data.'

  def trials(self):
    for rate in .7, .5:
      step = lambda state, batch, rate=rate: (  # It rounds.
          rate * state + batch.mean() / 3, {'loss': batch.mean() + 1})
      for name in ('plain', 'again')[:1 + (rate == .5)]:
        yield study.Trial(
            {'name': name, 'seed': 0}, rate, study.Training(
                f'rate {rate}', step, jnp.zeros(()), self._batches,
                self.config.num_steps))
    yield study.Trial({'name': 'fixed', 'seed': None})

  def _batches(self, start, shard):
    """Batches of 4 numbers, whose means are exact in any order."""
    for i in itertools.count(start):
      time.sleep(self.config.pause)
      if i == self.stop_at:
        raise KeyboardInterrupt
      yield np.float32(
          i + np.arange(shard.shard_index, 4, shard.shard_count) / 4)

  def examine(self, trial, trained):
    self.examined.append(trial.key['name'])
    state = None if trained is None else float(trained)
    yield {'stage': 'first', 'state': state}
    yield {'stage': 'second', 'rate': trial.subject}

  def timings(self):
    return [{'ms': 2.}]

  def page(self, run):
    figure = Figure()
    figure.subplots().plot(*run.curves['rate 0.7']['loss'])
    states = [f'{value}' for value in run.results.values('state').ravel()]
    headline = results.Table('States', ('state',), [(s,) for s in states])
    return page_lib.Page(
        'Toy', f'Timed {run.timings[0]["ms"]} ms.', [page_lib.Section('All', [
            headline, run.save('losses', figure, 'Losses.')])],
        'nobody', [headline])
