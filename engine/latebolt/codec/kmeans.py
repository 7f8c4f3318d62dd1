"""Spherical k-means: the centroids that residual codes are measured from.

Seeded and reproducible for the same input and thread count. Knows nothing of codes or files.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.kernels.centroids import centroid_levels, nearest

ITERATIONS = 6
BLOCK = 16384  # tokens looked at at a time: bounds the temporaries to some tens of MB
SAMPLE_PER_CENTROID = 48  # more tokens a centroid no longer change what is found


def default_n_centroids(n_tokens: int) -> int:
    """Centroids for a corpus of so many tokens: a power of two near 8 * sqrt(n_tokens), 16 to 65,536."""
    wanted = round(math.log2(8 * math.sqrt(max(n_tokens, 1))))
    return min(max(1 << wanted, 16), 65536)


def spherical_kmeans(values: Float32, k: int, seed: int = 0, iterations: int = ITERATIONS) -> Float32:
    """Unit-length centroids that maximise the sum of dot products with their points.

    Args:
        values: float32 [n, dim], unit length, n >= 1; a random part is used when there are many.
        k: centroids wanted; fewer come back when there are fewer distinct points.
    Returns:
        float32 [at most k, dim].
    Source: Dhillon and Modha, "Concept decompositions for large sparse text data", 2001.
    """
    rng = np.random.default_rng(seed)
    if len(values) > k * SAMPLE_PER_CENTROID:
        values = values[np.sort(rng.choice(len(values), k * SAMPLE_PER_CENTROID, replace=False))]
    k = min(k, len(values))
    centroids = values[np.sort(rng.choice(len(values), k, replace=False))].copy()
    for _ in range(iterations):
        cell = nearest(values, centroid_levels(centroids))
        sums = _sums(values, cell, k)
        # A centroid nobody chose starts again from a random point.
        empty = np.flatnonzero(np.bincount(cell, minlength=k) == 0)
        sums[empty] = values[rng.choice(len(values), len(empty))]
        centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return np.unique(centroids.astype(np.float32), axis=0)


def _sums(values: Float32, cell: npt.NDArray[np.int64], k: int) -> Float32:
    """Float32 [k, dim]: the sum of each cell's points, block by block so that no sorted copy is made."""
    sums = np.zeros((k, values.shape[1]), np.float32)
    for start in range(0, len(values), BLOCK):
        part = cell[start : start + BLOCK]
        order = np.argsort(part, kind="stable")
        used, first = np.unique(part[order], return_index=True)
        sums[used] += np.add.reduceat(values[start : start + BLOCK][order], first, axis=0)
    return sums
