"""The inverted lists of a segment, and their writer: each names the documents that have a token in it.

A list is of a part of a centroid's tokens: of the nearest to a centroid of its own (`list_centroids.py`), so
that lists stay short however many tokens there are, and a query visits about as many entries in a large
segment as in a small one. Small segments have none: ranking all their documents takes little time.
Memory stays bounded: the lists are made a range at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Int64
from latebolt.codec.base import Codec
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.index.format import files, layout
from latebolt.index.format.layout import Column, FileRecord
from latebolt.index.format.mmap_array import map_array
from latebolt.index.store.list_centroids import assigned, learn, stored_tokens
from latebolt.kernels.lists import Cells, count_lists, fill_lists

LEAST_TOKENS: Final = 4_000_000  # below, ranking all takes under 3 ms, and lists save little of that
_ENTRIES: Final = 1 << 26  # made at a time, 4 bytes each


class Lists(NamedTuple):
    """Inverted lists.

    Args:
        rows: uint32 [n], of each list the ascending rows of its documents.
        offsets: int64 [n_lists + 1], where each list's begin.
        starts: int64 [n_cells + 1], each centroid's first list; centroids from n_cells on have no documents.
        centroids: int8 [n_lists, dim], see `kernels.list_centroids`.

    Lists of before format version 5 have neither of the last two: then a list is of a centroid, and has its
    number.
    """

    rows: npt.NDArray[np.uint32]
    offsets: Int64
    starts: Int64 | None = None
    centroids: npt.NDArray[np.int8] | None = None


def lists_wanted(columns: Sequence[Column], n_tokens: int) -> bool:
    """Whether a segment of so many tokens should have lists."""
    return n_tokens >= LEAST_TOKENS and any(column.file == layout.CELLS for column in columns)


def write_lists(folder: Path, written: dict[str, FileRecord], codec: Codec | None) -> dict[str, FileRecord]:
    """Make the lists of a segment whose offsets and token columns are on disk.

    Args:
        folder: the segment's.
        written: records of its files so far.
        codec: that wrote its columns; None for one that this version does not know, whose lists are those of
            its centroids.
    Returns:
        Records of the new files, synced.
    """
    columns = {file.removesuffix(".npy"): map_array(folder / file, written[file]) for file in written}
    offsets, cells = columns.pop(layout.OFFSETS.removesuffix(".npy")), columns["cell"]
    if not isinstance(codec, ResidualCodec):
        return _write(folder, cells, offsets, int(cells.max(initial=0)) + 1)
    stored = stored_tokens(columns, codec)
    starts, centroids = learn(stored)
    with assigned(stored, starts, centroids, folder) as numbers:
        records = _write(folder, numbers, offsets, len(centroids))
    for name, array in ((layout.LIST_STARTS, starts), (layout.LIST_CENTROIDS, centroids)):
        records[name] = files.write_array(folder / name, array)
    return records


def _write(folder: Path, cells: Cells, offsets: Int64, n_lists: int) -> dict[str, FileRecord]:
    """The lists of tokens whose list is `cells`."""
    counts = count_lists(cells, offsets, n_lists)
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
