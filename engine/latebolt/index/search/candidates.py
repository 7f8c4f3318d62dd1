"""Chooses the documents that are worth a closer look, from the lists of the centroids nearest to a query.

Pure functions of arrays. A document in a visited list gains what its nearest one has over the nearest that
is not visited for that query token; what no list tells is taken to be as near as that. So the sum of a
document's gains is about its score with each token replaced by the centroid of its list, and not below.
Source: the imputation of missing scores is that of Lee et al., "Rethinking the role of token retrieval in
multi-vector retrieval" (XTR), 2023; taking it from the last probed centroid is that of Scheerer et al.,
"WARP", 2025.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from latebolt.arrays import Float32, Int64
from latebolt.index.store.inverted_lists import Lists
from latebolt.kernels.centroids import CentroidScores
from latebolt.kernels.list_centroids import score_lists

_GROUP = 64  # centroids at most whose best one is looked at first
# Lists that are looked at for one that is visited, those of the nearest centroids; and how many centroids at
# least.
LOOKED_AT = 4
LEAST_CELLS = 32


class Probes(NamedTuple):
    """The lists to visit, as `kernels.lists.gather` wants them: table int64 [n, 4]."""

    table: Int64


def nearest_cells(scores: CentroidScores, n: int) -> tuple[Int64, Int64]:
    """The n centroids (all, if there are fewer) with the largest bytes for each query token.

    Returns:
        (cells, bytes), int64 [n_query, n]; bytes descending, equal ones by cell.
    """
    table = scores.table[:, : scores.n_query]
    n_cells, n = len(table), min(n, len(table))
    # Groups are strides, so that one pass over the table finds the best of each; the n best cells stand in
    # the n groups with the best bests. There are about as many groups as members of those.
    group = min(max(math.isqrt(n_cells // max(n, 1)), 1), _GROUP)
    n_groups = min(n_cells, max(n, -(-n_cells // group)))
    whole = n_cells // n_groups
    best = scores.table[: whole * n_groups].reshape(whole, n_groups, -1).max(axis=0)
    rest = n_cells - whole * n_groups
    best[:rest] = np.maximum(best[:rest], scores.table[whole * n_groups :])
    groups = np.argpartition(best[:, : scores.n_query].T, n_groups - n, axis=1)[:, n_groups - n :]
    steps = n_groups * np.arange(whole + (rest > 0), dtype=np.int32)
    members = (groups.astype(np.int32)[:, :, None] + steps).reshape(scores.n_query, -1)
    found = table[np.minimum(members, n_cells - 1), np.arange(scores.n_query)[:, None]].astype(np.int32)
    # One number orders by byte, then by cell; past the end counts as worst.
    assert n_cells < 1 << 23
    key = np.where(members < n_cells, found * n_cells + (n_cells - 1 - members), -1)
    key = np.partition(key, key.shape[1] - n, axis=1)[:, key.shape[1] - n :].astype(np.int64)
    key = -np.sort(-key, axis=1)
    return n_cells - 1 - key % n_cells, key // n_cells


def plan_probes(
    scores: CentroidScores, lists: Lists, query: Float32, n: int, threads: int | None = None
) -> Probes:
    """Visit the n lists nearest to each query token; what a list gains a document is by how much it is nearer
    than the nearest that is not visited, in steps of `scores`.

    Args:
        query: float32 [n_query, dim].
    """
    if lists.starts is None or lists.centroids is None:
        return _probe_cells(scores, lists.offsets, n)
    a_cell = max(len(lists.centroids) / max(len(lists.starts) - 1, 1), 1)
    cells, _ = nearest_cells(scores, math.ceil(max(LOOKED_AT * n / a_cell, LEAST_CELLS)))
    known = np.minimum(cells, len(lists.starts) - 2)
    first, last = lists.starts[known], np.where(known == cells, lists.starts[known + 1], lists.starts[known])
    counts = last - first
    looked = (np.cumsum(counts, axis=1) - counts < LOOKED_AT * n) & (counts > 0)
    tokens = np.broadcast_to(np.arange(len(cells))[:, None], cells.shape)
    ranges = np.stack([part[looked] for part in (tokens, first, last)], axis=1)
    products = score_lists(query, ranges, lists.centroids, threads)
    sizes = ranges[:, 2] - ranges[:, 1]
    numbers = np.arange(len(products)) - np.repeat(np.cumsum(sizes) - sizes - ranges[:, 1], sizes)
    ends = np.concatenate([[0], np.cumsum(np.bincount(ranges[:, 0], sizes, len(query)).astype(np.int64))])
    table = [_nearest_lists(products[a:b], numbers[a:b], n, scores.step) for a, b in pairwise(ends.tolist())]
    chosen, gains = (np.concatenate(each) for each in zip(*table, strict=True))
    token = np.repeat(np.arange(1, len(query) + 1), [len(each[0]) for each in table])
    parts = (lists.offsets[chosen], lists.offsets[chosen + 1], gains, token)
    return Probes(np.ascontiguousarray(np.stack(parts, axis=1), np.int64))


def _nearest_lists(products: Float32, numbers: Int64, n: int, step: float) -> tuple[Int64, Int64]:
    """The n lists with the largest products, these falling, and what each gains; at least a step."""
    if n < len(products):
        best = np.argpartition(products, len(products) - n - 1)[len(products) - n - 1 :]
        least = float(products[best[0]])
        best = best[1:]
    else:
        best, least = np.arange(len(products)), float(products.min(initial=0.0)) - step
    best = best[np.lexsort((numbers[best], -products[best]))]
    return numbers[best], np.maximum(np.rint((products[best] - least) / step), 1).astype(np.int64)


def _probe_cells(scores: CentroidScores, list_offsets: Int64, n: int) -> Probes:
    """`plan_probes` of lists that are of centroids."""
    cells, found = nearest_cells(scores, n)
    least = found[:, -1:] if found.shape[1] < len(scores.table) else np.zeros((len(found), 1), np.int64)
    known = np.minimum(cells, len(list_offsets) - 2)
    starts, stops = list_offsets[known], list_offsets[known + 1]
    tokens = np.broadcast_to(np.arange(1, len(cells) + 1)[:, None], cells.shape)
    useful = (found > least) & (stops > starts) & (known == cells)
    table = np.stack([part[useful] for part in (starts, stops, found - least, tokens)], axis=1)
    return Probes(np.ascontiguousarray(table, np.int64))
