"""Batches of data in memory, by grain."""

from collections.abc import Iterator
from collections.abc import Mapping
import math
from typing import Any

import grain
import numpy as np

ALL = grain.sharding.NoSharding()  # One shard, the whole batch.


def shuffled(data: Mapping[str, np.ndarray], *, batch_size: int,
             num_batches: int, seed: int, start: int = 0,
             shard: grain.sharding.ShardOptions = ALL
             ) -> Iterator[dict[str, np.ndarray]]:
  """Yields batches of all items, in a new random order in every epoch.

  Args:
    data: [N, ...] arrays by name.
    batch_size: number of items in a batch.
    num_batches: number of batches.
    seed: random seed of the order.
    start: first batch to yield; all batches are the same for any `start`.
    shard: part of each batch to yield.

  Returns:
    Iterator over batches: [batch_size, ...] arrays by name.
  """
  items = [dict(zip(data, item)) for item in zip(*data.values())]
  times = math.ceil(num_batches * batch_size / len(items))
  items = grain.MapDataset.source(items).seed(seed).shuffle().repeat(times)
  return iterate(items, batch_size=batch_size, start=start, end=num_batches,
                 shard=shard)


def iterate(items: grain.MapDataset, *, batch_size: int, start: int, end: int,
            shard: grain.sharding.ShardOptions) -> Iterator[Any]:
  """Yields one shard of each batch of ordered items.

  Args:
    items: all items in order.
    batch_size: number of items in a batch, a multiple of the shard count.
    start: first batch to yield.
    end: batch after the last one.
    shard: part of each batch to yield.

  Returns:
    Iterator over shards of batches.
  """
  index, count = shard.shard_index, shard.shard_count
  parts = items.batch(batch_size // count)
  parts = parts[start * count + index:end * count:count]
  return iter(parts.to_iter_dataset(
      grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)))
