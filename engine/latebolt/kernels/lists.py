"""Kernels over inverted lists: which documents have a token in a cell, and what a query gains from them.

A cell is a centroid's number. Knows nothing of files or of how cells are chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt import threads
from latebolt.arrays import Float32, Int64
from latebolt.kernels import native
from latebolt.kernels.maxsim import address
from latebolt.kernels.shapes import LIST_BLOCK

Cells = npt.NDArray[np.unsignedinteger]

_NS_AN_ENTRY, _NS_A_PROBE = 2.5, 3.0  # about, on one thread: they decide whether several pay


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


class Gains(NamedTuple):
    """Documents that gain from lists, each once, in no order: rows uint32 [n]; sums float32 [n], whole
    numbers above 0, what each gains over all query tokens."""

    rows: npt.NDArray[np.uint32]
    sums: Float32


def gather(
    lists: npt.NDArray[np.uint32],
    probes: Int64,
    n_documents: int,
    allowed: npt.NDArray[np.bool_] | None = None,
    n_threads: int | None = None,
) -> Gains:
    """What documents gain from the probed lists: over query tokens, the largest gain of a list they are in.

    Time and memory are of the entries of these lists, whatever the number of documents. The order of the
    result does not depend on the number of threads.

    Args:
        lists: uint32, see `fill_lists`; may be memory-mapped.
        probes: int64 [n, 4]: first and last + 1 position of a list, gain (1 or more), number of the query
            token (1..MAX_QUERY_TOKENS). Sorted by token ascending, then by gain descending. Gains whose sums
            might need more than 32 bits beside a token's number, of over 2,000 tokens, are made smaller, all
            in the same ratio.
        n_documents: documents the lists speak of.
        allowed: bool [n_documents]; others gain nothing. None for all.
    """
    probes = np.ascontiguousarray(probes, np.int64)
    bits = int(probes[-1, 3]).bit_length() if len(probes) else 1
    most = ((1 << (32 - bits)) - 1) >> bits  # so much for every token
    if len(probes) and (largest := int(probes[:, 2].max())) > most:
        probes = probes.copy()
        probes[:, 2] = np.maximum(probes[:, 2] * most // largest, 1)
    entries = int((probes[:, 1] - probes[:, 0]).sum())
    kernel = native.kernel("gather_lists")
    mask = 0 if allowed is None else address(allowed)
    parts: dict[int, Gains] = {}

    def work(first: int, last: int) -> None:
        scratch = np.zeros(len(probes) + LIST_BLOCK + 1, np.int64)
        most = min((last - first) * LIST_BLOCK, n_documents, entries)
        rows, sums, found = np.empty(most, np.uint32), np.empty(most, np.float32), np.zeros(1, np.int64)
        kernel(
            address(lists), address(probes), len(probes), mask, n_documents, bits, address(scratch),
            address(rows), address(sums), address(found), first, last,
        )  # fmt: skip
        parts[first] = Gains(rows[: found[0]], sums[: found[0]])

    n_blocks = -(-n_documents // LIST_BLOCK)
    block_ns = len(probes) * _NS_A_PROBE + entries * _NS_AN_ENTRY / max(1, n_blocks)
    threads.run(np.arange(n_blocks + 1), block_ns, work, n_threads)
    if not parts:
        return Gains(np.zeros(0, np.uint32), np.zeros(0, np.float32))
    return Gains(*(np.concatenate(each) for each in zip(*(parts[i] for i in sorted(parts)), strict=True)))
