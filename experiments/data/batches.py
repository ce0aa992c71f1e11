"""Batches of what is in memory as a whole, by grain."""

from collections.abc import Iterator
from collections.abc import Mapping
import math

import grain
import numpy as np


def shuffled(data: Mapping[str, np.ndarray], *, batch_size: int,
             num_batches: int, seed: int,
             start: int = 0) -> Iterator[dict[str, np.ndarray]]:
  """Goes through all items again and again, each time in another order.

  Args:
    data: arrays by name, [N, ...].
    batch_size: items in a batch.
    num_batches: batches in all.
    seed: what the order depends on, besides these numbers.
    start: batches to leave out; the others are the same.

  Returns:
    Iterator over batches with the names of the data, [batch_size, ...].
  """
  items = [dict(zip(data, item)) for item in zip(*data.values())]
  times = math.ceil(num_batches * batch_size / len(items))
  batches = grain.MapDataset.source(items).seed(seed).shuffle().repeat(times)
  batches = batches.batch(batch_size)[start:num_batches]
  return iter(batches.to_iter_dataset(
      grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)))
