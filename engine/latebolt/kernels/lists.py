"""Kernels over inverted lists: which documents have a token in a cell, and what a query gains from them.

A cell is a centroid's number. Knows nothing of files or of how cells are chosen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latebolt import threads
from latebolt.arrays import Float32, Int64
from latebolt.kernels import native
from latebolt.kernels.maxsim import address
from latebolt.kernels.shapes import LIST_BLOCK

Cells = npt.NDArray[np.unsignedinteger]

COUNTS = 1 << 13  # classes of sums that `gather` counts: all sums of 32 query tokens
_NS_AN_ENTRY, _NS_A_DOCUMENT = 1.5, 1.0  # about, on one thread: they decide whether several pay


def count_lists(cells: Cells, offsets: Int64, n_cells: int) -> Int64:
    """Documents that have a token in each cell: int64 [n_cells]; see `fill_lists`."""
    counts = np.zeros(n_cells, np.int64)
    _walk(cells, offsets, 0, counts, 0)
    return counts


def fill_lists(cells: Cells, offsets: Int64, first_cell: int, counts: Int64) -> npt.NDArray[np.uint32]:
    """The lists of some neighbouring cells, one after the other.

    Args:
        cells: uint16 or uint32 [n_tokens], may be memory-mapped.
        offsets: int64 [n_documents + 1], first token of each document; fewer than 2**32 documents.
        first_cell: the first of them.
        counts: int64 [n], from `count_lists`, of the cells from first_cell on.
    Returns:
        uint32 [counts.sum()]: of each cell the documents with a token in it, ascending, each once.
    """
    out = np.empty(int(counts.sum()), np.uint32)
    if len(out):
        _walk(cells, offsets, first_cell, np.cumsum(counts) - counts, address(out))
    return out


def _walk(cells: Cells, offsets: Int64, first_cell: int, places: Int64, out: int) -> None:
    seen = np.zeros(len(places), np.int64)
    native.kernel("fill_lists")(
        address(cells), int(cells.dtype == np.uint32), address(offsets), address(seen), address(places),
        first_cell, first_cell + len(places), out, 0, len(offsets) - 1,
    )  # fmt: skip


def gather(
    lists: npt.NDArray[np.uint32],
    probes: Int64,
    n_documents: int,
    allowed: npt.NDArray[np.bool_] | None = None,
    n_threads: int | None = None,
) -> tuple[Float32, Int64, int]:
    """What each document gains from the probed lists: over query tokens, the largest gain of a list it is in.

    Args:
        lists: uint32, see `fill_lists`; may be memory-mapped.
        probes: int64 [n, 4]: first and last + 1 position of a list, gain (1..255), number of the query token
            (1..MAX_QUERY_TOKENS). Sorted by token ascending, then by gain descending.
        n_documents: documents the lists speak of.
        allowed: bool [n_documents]; others gain nothing. None for all.
    Returns:
        (sums float32 [n_documents], whole numbers; counts int64 [COUNTS]: at each place how many sums above 0
        are equal to it after a right shift; that shift).
    """
    probes = np.ascontiguousarray(probes, np.int64)
    n_tokens = int(probes[-1, 3]) if len(probes) else 0
    shift = max(0, (255 * n_tokens).bit_length() - COUNTS.bit_length() + 1)
    sums = np.empty(n_documents, np.float32)
    kernel = native.kernel("gather_lists")
    mask = 0 if allowed is None else address(allowed)
    parts: list[Int64] = []

    def work(first: int, last: int) -> None:
        scratch, counts = np.empty(len(probes) + LIST_BLOCK, np.int64), np.zeros(COUNTS, np.int64)
        kernel(
            address(lists), address(probes), len(probes), mask, n_documents, address(scratch),
            address(counts), shift, address(sums), first, last,
        )  # fmt: skip
        parts.append(counts)

    n_blocks = -(-n_documents // LIST_BLOCK)
    entries = int((probes[:, 1] - probes[:, 0]).sum())
    block_ns = LIST_BLOCK * _NS_A_DOCUMENT + entries * _NS_AN_ENTRY / max(1, n_blocks)
    threads.run(np.arange(n_blocks + 1), block_ns, work, n_threads)
    return sums, np.sum(parts, axis=0) if parts else np.zeros(COUNTS, np.int64), shift
