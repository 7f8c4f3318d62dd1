"""Indexes of several shards: `ShardedIndex` searches them as one."""

from latebolt.sharding.sharded_index import ShardedHits, ShardedIndex

__all__ = ["ShardedHits", "ShardedIndex"]
