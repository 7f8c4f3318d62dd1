"""Reads documents back out of a snapshot: those of some ids, or all that pass a filter, in stored order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from latebolt.index.searching import Where
from latebolt.index.storage import Snapshot

_BATCH = 4096  # documents read at a time


class Entry(NamedTuple):
    """A document of an index. Where it was cut into passages, `text` is that of the first."""

    id: str
    text: str | None
    metadata: Mapping[str, Any] | None


def entries(snapshot: Snapshot, where: Where = None) -> Iterator[Entry]:
    """Every live document that passes the filter, once, oldest segment first."""
    for segment in snapshot.segments:
        rows = segment.select(where)
        if segment.passages is not None:
            rows &= segment.passages == 0
        numbers = np.flatnonzero(rows)
        for start in range(0, len(numbers), _BATCH):
            for id, text, metadata in segment.documents(numbers[start : start + _BATCH]):
                yield Entry(id, text, metadata)


def entries_of(snapshot: Snapshot, ids: Sequence[str]) -> list[Entry | None]:
    """The live documents of these ids, in this order; None for an id that is not there."""
    found: dict[str, Entry] = {}
    for segment in snapshot.segments:
        rows = segment.rows_of(ids)
        if segment.passages is not None:
            rows = rows[segment.passages[rows] == 0]
        for id, text, metadata in segment.documents(rows):
            found[id] = Entry(id, text, metadata)
    return [found.get(id) for id in ids]
