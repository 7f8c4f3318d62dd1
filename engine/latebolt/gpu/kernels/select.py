"""What is around MaxSim on the device: scores of centroids in 16 bits, sums over blocks, the best documents.

The best are found by maxima of groups of documents: no fewer than k documents score as much as the k-th best
group, and few more do, so that those are all that leaves the device.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda, int32

_LOWEST, _ZERO = np.float32(-np.inf), np.float32(0)
_HALF = np.float32(0.5)


@cuda.jit
def centroid_units(centroids, query, units, out):
    """Scores of centroids with blocks of query tokens, in whole units: centroids float32 [n_centroids, dim];
    query float32 [n_blocks, dim, 32]; units float32 [n_blocks, 32]; out uint32 [n_blocks, n_centroids, 16],
    pairs of 16 bits. The grid's second axis is the block."""
    block, dim = cuda.blockIdx.y, centroids.shape[1]
    for i in range(cuda.grid(1), out.shape[1] * 16, cuda.blockDim.x * cuda.gridDim.x):
        row, column = i // 16, i % 16 * 2
        low, high = _ZERO, _ZERO
        for j in range(dim):
            low += centroids[row, j] * query[block, j, column]
            high += centroids[row, j] * query[block, j, column + 1]
        # What floor gives is a float on the device.
        lower = int32(math.floor(low / units[block, column] + _HALF))
        upper = int32(math.floor(high / units[block, column + 1] + _HALF))
        out[block, row, i % 16] = (lower & 0xFFFF) | (upper & 0xFFFF) << 16


@cuda.jit
def sum_blocks(parts, first, count, fresh, totals, maxima):
    """Scores of a query, of which `count` blocks from `first` on are here: parts float32 [n_blocks, n_docs];
    totals float32 [n_docs], written if fresh, else added to; maxima float32 [n_groups] of them: group i has
    documents i, i + n_groups, ..."""
    groups = maxima.shape[0]
    for group in range(cuda.grid(1), groups, cuda.gridsize(1)):
        best = _LOWEST
        for doc in range(group, totals.shape[0], groups):
            total = _ZERO if fresh else totals[doc]
            for block in range(first, first + count):
                total += parts[block, doc]
            totals[doc] = total
            best = max(best, total)
        maxima[group] = best


@cuda.jit
def select(totals, least, counter, rows, scores):
    """Documents that score `least` at least, in any order: rows int32 and scores float32 [n_docs], of which
    counter [0] says how many there are. One that was left out scores -inf and is never among them."""
    for doc in range(cuda.grid(1), totals.shape[0], cuda.gridsize(1)):
        total = totals[doc]
        if total >= least and total > _LOWEST:
            place = cuda.atomic.add(counter, 0, 1)
            rows[place] = doc
            scores[place] = total
