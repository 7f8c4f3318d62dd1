"""Indexes of several shards: `split` makes them, `ShardedIndex` searches them as one, `join` undoes it."""

from latebolt.sharding.sharded_index import ShardedHits, ShardedIndex
from latebolt.sharding.splitting import join, split

__all__ = ["ShardedHits", "ShardedIndex", "join", "split"]
