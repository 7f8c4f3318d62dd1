"""The inverted lists of a segment, and their writer: of each centroid, the documents that have a token in it.

Small segments have none: ranking all their documents by centroids takes little time.
Memory stays bounded: the lists are made a range of centroids at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.index.format import files, layout
from latebolt.index.format.layout import Column, FileRecord
from latebolt.index.format.mmap_array import map_array
from latebolt.kernels.lists import count_lists, fill_lists

LEAST_TOKENS: Final = 4_000_000  # below, ranking all takes under 3 ms, and lists save little of that
_ENTRIES: Final = 1 << 26  # made at a time, 4 bytes each


class Lists(NamedTuple):
    """Inverted lists: rows uint32 [n], of each centroid the ascending rows of its documents; offsets int64
    [n_cells + 1], where each centroid's begin. Centroids from n_cells on have no documents.
    """

    rows: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]


def lists_wanted(columns: Sequence[Column], n_tokens: int) -> bool:
    """Whether a segment of so many tokens should have lists."""
    return n_tokens >= LEAST_TOKENS and any(column.file == layout.CELLS for column in columns)


def write_lists(folder: Path, written: dict[str, FileRecord]) -> dict[str, FileRecord]:
    """Make the lists of a segment whose offsets and cells are on disk.

    Args:
        folder: the segment's.
        written: records of its files so far.
    Returns:
        Records of the two new files, synced.
    """
    cells = map_array(folder / layout.CELLS, written[layout.CELLS])
    offsets = map_array(folder / layout.OFFSETS, written[layout.OFFSETS])
    counts = count_lists(cells, offsets, int(cells.max(initial=0)) + 1)
    ends = np.cumsum(counts)
    writer = files.ArrayWriter(folder / layout.LISTS, layout.LISTS_DTYPE)
    try:
        first = 0
        while first < len(counts):
            done = ends[first - 1] if first else 0
            # One list longer than the limit is made alone: it has at most an entry a document.
            last = max(first + 1, int(np.searchsorted(ends, done + _ENTRIES, side="right")))
            writer.append(fill_lists(cells, offsets, first, counts[first:last]))
            first = last
        lists = writer.finish()
    finally:
        writer.close()
    starts = np.concatenate([[0], ends]).astype(np.int64)
    return {layout.LISTS: lists, layout.LIST_OFFSETS: files.write_array(folder / layout.LIST_OFFSETS, starts)}
