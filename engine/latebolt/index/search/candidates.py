"""Chooses the documents that are worth a closer look, from the lists of the centroids nearest to a query.

Pure functions of arrays. A document in a probed list gains what its best probed centroid has over the least
one probed for that query token; what no list tells is taken to be that least. So a sum of gains is never
below the document's score by centroids, and what is left out can be bounded.
Source: the imputation of missing scores is that of Lee et al., "Rethinking the role of token retrieval in
multi-vector retrieval" (XTR), 2023; taking it from the last probed centroid is that of Scheerer et al.,
"WARP", 2025.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Int64
from latebolt.index.store.inverted_lists import Lists
from latebolt.kernels.centroids import CentroidScores
from latebolt.kernels.lists import gather

_GROUP = 64  # centroids whose best one is looked at first


class Probes(NamedTuple):
    """The lists to visit, as `kernels.lists.gather` wants them: table int64 [n, 4].

    floor: sum over query tokens of the byte that a document in none of their lists is taken to have.
    """

    table: Int64
    floor: int

    @property
    def n_entries(self) -> int:
        """Entries in all these lists."""
        return int((self.table[:, 1] - self.table[:, 0]).sum())


class Gains(NamedTuple):
    """What each document gains from the visited lists.

    sums float32 [n_documents], whole numbers, 0 for documents that may not be chosen; counts int64 [n]: how
    many sums above 0 there are, by sum >> shift. A document scores at most base + step * sum by centroids.
    """

    sums: Float32
    counts: Int64
    shift: int
    base: float
    step: float

    def best(self, wanted: int) -> int:
        """A sum that at least `wanted` documents reach, not many more; 1 where fewer have any."""
        enough = np.flatnonzero(np.cumsum(self.counts[::-1])[::-1] >= wanted)
        return max(1, int(enough[-1]) << self.shift) if len(enough) else 1

    def needed(self, score: float) -> int:
        """The least sum of any document that scores so much by its centroids; below 1 if it may have none."""
        return round((score - self.base) / self.step)

    def at_least(self, least: int) -> int:
        """Documents whose sum is at least `least` >= 1, or slightly more."""
        return int(self.counts[least >> self.shift :].sum())

    def rows(self, least: int) -> Int64:
        """The documents whose sum is at least `least`, ascending."""
        return np.flatnonzero(self.sums >= least)


def nearest_cells(scores: CentroidScores, n: int) -> tuple[Int64, Int64]:
    """The n centroids (all, if there are fewer) with the largest bytes for each query token.

    Returns:
        (cells, bytes), int64 [n_query, n]; bytes descending, equal ones by cell.
    """
    table = scores.table[:, : scores.n_query]
    n_cells, n = len(table), min(n, len(table))
    # Groups are strides, so that one pass over the table finds the best of each; the n best cells stand in
    # the n groups with the best bests.
    n_groups = min(n_cells, max(n, -(-n_cells // _GROUP)))
    whole = n_cells // n_groups
    best = scores.table[: whole * n_groups].reshape(whole, n_groups, -1).max(axis=0)
    rest = n_cells - whole * n_groups
    best[:rest] = np.maximum(best[:rest], scores.table[whole * n_groups :])
    groups = np.argpartition(best[:, : scores.n_query].T, n_groups - n, axis=1)[:, n_groups - n :]
    members = (groups[:, :, None] + n_groups * np.arange(whole + (rest > 0))).reshape(scores.n_query, -1)
    found = table[np.minimum(members, n_cells - 1), np.arange(scores.n_query)[:, None]].astype(np.int64)
    # One number orders by byte, then by cell; past the end counts as worst.
    key = np.where(members < n_cells, found * n_cells + (n_cells - 1 - members), -1)
    key = -np.sort(-np.partition(key, key.shape[1] - n, axis=1)[:, key.shape[1] - n :], axis=1)
    return n_cells - 1 - key % n_cells, key // n_cells


def plan_probes(scores: CentroidScores, list_offsets: Int64, n: int) -> Probes:
    """Visit the lists of the n nearest centroids of each query token.

    Args:
        list_offsets: see `Lists`.
    """
    cells, found = nearest_cells(scores, n)
    least = found[:, -1:] if found.shape[1] < len(scores.table) else np.zeros((len(found), 1), np.int64)
    known = np.minimum(cells, len(list_offsets) - 2)
    starts, stops = list_offsets[known], list_offsets[known + 1]
    tokens = np.broadcast_to(np.arange(1, len(cells) + 1)[:, None], cells.shape)
    useful = (found > least) & (stops > starts) & (known == cells)
    table = np.stack([part[useful] for part in (starts, stops, found - least, tokens)], axis=1)
    return Probes(np.ascontiguousarray(table, np.int64), int(least.sum()))


def visit(
    probes: Probes,
    lists: Lists,
    scores: CentroidScores,
    allowed: npt.NDArray[np.bool_] | int,
    threads: int | None = None,
) -> Gains:
    """Visit the probed lists.

    Args:
        allowed: bool [n_documents], which may be chosen; or n_documents when all may.
    """
    mask, n_documents = (None, allowed) if isinstance(allowed, int) else (allowed, len(allowed))
    found = gather(lists.rows, probes.table, n_documents, mask, threads)
    return Gains(*found, scores.low * scores.n_query + scores.step * probes.floor, scores.step)
