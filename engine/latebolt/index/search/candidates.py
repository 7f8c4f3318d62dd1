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

import numpy as np

from latebolt.arrays import Float32, Int64
from latebolt.index.store.inverted_lists import Lists
from latebolt.kernels.centroids import CentroidScores, nearest_cells
from latebolt.kernels.list_centroids import choose_lists

# Lists that are looked at for one that is visited, those of the nearest centroids; and how many centroids at
# least.
LOOKED_AT = 4
LEAST_CELLS = 32


def plan_probes(
    scores: CentroidScores, lists: Lists, query: Float32, n: int, threads: int | None = None
) -> Int64:
    """Visit the n lists nearest to each query token; what a list gains a document is by how much it is nearer
    than the nearest that is not visited, in steps of `scores`.

    Args:
        query: float32 [n_query, dim].
    Returns:
        int64 [n_visited, 4], as `kernels.lists.gather` wants them.
    """
    if lists.starts is None or lists.centroids is None:
        return _probe_cells(scores, lists.offsets, n, threads)
    a_cell = max(len(lists.centroids) / max(len(lists.starts) - 1, 1), 1)
    cells, _ = nearest_cells(scores, math.ceil(max(LOOKED_AT * n / a_cell, LEAST_CELLS)), threads)
    known = np.minimum(cells, len(lists.starts) - 2)
    first = lists.starts[known]
    last = np.where(known == cells, lists.starts[known + 1], first)
    counts = last - first
    looked = (np.cumsum(counts, axis=1) - counts < LOOKED_AT * n) & (counts > 0)
    ranges = np.stack([first[looked], last[looked]], axis=1)
    ends = np.concatenate([[0], np.cumsum(looked.sum(axis=1))])
    return choose_lists(query, ranges, ends, lists.centroids, lists.offsets, n, scores.step, threads)


def _probe_cells(scores: CentroidScores, list_offsets: Int64, n: int, threads: int | None) -> Int64:
    """`plan_probes` of lists that are of centroids."""
    cells, found = nearest_cells(scores, n, threads)
    least = found[:, -1:] if found.shape[1] < len(scores.table) else np.zeros((len(found), 1), np.int64)
    known = np.minimum(cells, len(list_offsets) - 2)
    starts, stops = list_offsets[known], list_offsets[known + 1]
    tokens = np.broadcast_to(np.arange(1, len(cells) + 1)[:, None], cells.shape)
    useful = (found > least) & (stops > starts) & (known == cells)
    table = np.stack([part[useful] for part in (starts, stops, found - least, tokens)], axis=1)
    return np.ascontiguousarray(table, np.int64)


def joined(gains: Float32, by_centroids: Float32) -> Float32:
    """What ranks the documents that lists bring up: the mean of what they gain and of their scores by
    centroids.

    Lists know of a document the few tokens that are nearest to the query, closely; the codec's centroids know
    all of them, roughly. Where one is wrong the other seldom is, so that fewer have to be scored exactly.

    Args:
        gains, by_centroids: float32 [n], scores but for what all of them have in common.
    """
    ranking: Float32 = (gains + by_centroids) * np.float32(0.5)
    return ranking
