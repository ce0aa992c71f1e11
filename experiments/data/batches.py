"""Batches of what is in memory as a whole, by grain."""

from collections.abc import Iterator
from collections.abc import Mapping
import math
from typing import Any

import grain
import numpy as np

ALL = grain.sharding.NoSharding()  # One part, the whole.


def shuffled(data: Mapping[str, np.ndarray], *, batch_size: int,
             num_batches: int, seed: int, start: int = 0,
             shard: grain.sharding.ShardOptions = ALL
             ) -> Iterator[dict[str, np.ndarray]]:
  """Goes through all items again and again, each time in another order.

  Args:
    data: arrays by name, [N, ...].
    batch_size: items in a batch.
    num_batches: batches in all.
    seed: what the order depends on, besides these numbers.
    start: batches to leave out; the others are the same.
    shard: the part of each batch to give.

  Returns:
    Iterator over batches with the names of the data, [batch_size, ...].
  """
  items = [dict(zip(data, item)) for item in zip(*data.values())]
  times = math.ceil(num_batches * batch_size / len(items))
  items = grain.MapDataset.source(items).seed(seed).shuffle().repeat(times)
  return iterate(items, batch_size=batch_size, start=start, end=num_batches,
                 shard=shard)


def iterate(items: grain.MapDataset, *, batch_size: int, start: int, end: int,
            shard: grain.sharding.ShardOptions) -> Iterator[Any]:
  """Makes batches, of which many processes have a part each.

  Args:
    items: all of them, in their order.
    batch_size: items in a batch, a multiple of the number of parts.
    start: the first batch to give.
    end: the first that is not given any more.
    shard: the part of each batch to give; together they are the batch.

  Returns:
    Iterator over parts of batches.
  """
  index, count = shard.shard_index, shard.shard_count
  parts = items.batch(batch_size // count)
  parts = parts[start * count + index:end * count:count]
  return iter(parts.to_iter_dataset(
      grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)))
