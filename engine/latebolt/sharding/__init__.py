"""Indexes of several shards: `split` makes them, `ShardedIndex` searches them as one, `join` undoes it."""

from latebolt.sharding.checking import check_set
from latebolt.sharding.set_file import is_shard_set
from latebolt.sharding.sharded_index import ShardedHits, ShardedIndex
from latebolt.sharding.splitting import join, split

__all__ = ["ShardedHits", "ShardedIndex", "check_set", "is_shard_set", "join", "split"]
