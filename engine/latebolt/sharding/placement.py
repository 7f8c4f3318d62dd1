"""Which shard a document belongs to: a fixed function of its id and the number of shards. Pure.

The first eight bytes of the BLAKE2b digest (64 bytes, no key) of the id in UTF-8, as a big-endian number,
modulo the number of shards. It is part of the format, named in a set's `shards.json`: with another function
documents would be looked for where they are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import numpy as np

from latebolt.arrays import Int64
from latebolt.errors import InvalidInput

T = TypeVar("T")

HASH: Final = "blake2b-8"
MOST_SHARDS: Final = 4096


def check_shards(n: int) -> int:
    """A number of shards.

    Raises:
        InvalidInput: it is below 1 or above 4,096.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_SHARDS:
        raise InvalidInput(f"shards should be an int from 1 to {MOST_SHARDS}, got {n!r}.")
    return n


def shard_of(id: str, n: int) -> int:
    """The number of an id's shard, of n.

    Args:
        id: as documents are stored by it, see `documents.checked.check_ids`.
    """
    return int.from_bytes(hashlib.blake2b(id.encode()).digest()[:8], "big") % n


def shards_of(ids: Iterable[str], n: int) -> Int64:
    """`shard_of` of each id, int64 [n_ids]."""
    return np.fromiter((shard_of(id, n) for id in ids), np.int64)


def by_shard(items: Sequence[T], ids: Iterable[str], n: int) -> dict[int, list[T]]:
    """Items by the shards of their ids, in order; without shards that get nothing."""
    found: dict[int, list[T]] = {}
    for item, id in zip(items, ids, strict=True):
        found.setdefault(shard_of(id, n), []).append(item)
    return found
