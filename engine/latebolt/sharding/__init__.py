"""Indexes of several shards: `split` makes them, `ShardedIndex` searches them as one, `join` undoes it."""

from latebolt.hits import PartialHits
from latebolt.sharding.checking import check_set
from latebolt.sharding.set_file import is_shard_set
from latebolt.sharding.sharded_index import ShardedIndex
from latebolt.sharding.splitting import join, split

__all__ = ["PartialHits", "ShardedIndex", "check_set", "is_shard_set", "join", "split"]
