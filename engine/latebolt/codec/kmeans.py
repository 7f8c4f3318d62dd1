"""Spherical k-means: the centroids that residual codes are measured from.

Seeded and reproducible for the same input and thread count. Knows nothing of codes or files.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from latebolt.arrays import Float32, Int64
from latebolt.codec.coding import KERNELS, Nearest
from latebolt.codec.sample import Sample

ITERATIONS = 6
BLOCK = 16384  # tokens looked at at a time: bounds the temporaries to some tens of MB
SAMPLE_PER_CENTROID = 48  # more tokens a centroid no longer change what is found


def default_n_centroids(n_tokens: int) -> int:
    """Centroids for a corpus of so many tokens: a power of two near 8 * sqrt(n_tokens), 16 to 65,536."""
    wanted = round(math.log2(8 * math.sqrt(max(n_tokens, 1))))
    return min(max(1 << wanted, 16), 65536)


def spherical_kmeans(
    values: Float32 | Sample,
    k: int,
    seed: int = 0,
    iterations: int = ITERATIONS,
    nearest_of: Callable[[Float32], Nearest] = KERNELS.nearest,
) -> Float32:
    """Unit-length centroids that maximise the sum of dot products with their points.

    Args:
        values: float32 [n, dim], unit length, n >= 1; a random part is used when there are many.
        k: centroids wanted; fewer come back when there are fewer distinct points.
        nearest_of: gives for centroids what finds the nearest of them, see `codec.coding.Coding`.
    Returns:
        float32 [at most k, dim].
    Source: Dhillon and Modha, "Concept decompositions for large sparse text data", 2001.
    """
    sample, rng = Sample.of(values), np.random.default_rng(seed)
    rows = np.arange(len(sample))
    if len(rows) > k * SAMPLE_PER_CENTROID:
        rows = np.sort(rng.choice(len(rows), k * SAMPLE_PER_CENTROID, replace=False))
    k = min(k, len(rows))
    centroids = sample.take(rows[np.sort(rng.choice(len(rows), k, replace=False))])
    for _ in range(iterations):
        sums, counts = _sums(sample, rows, centroids, nearest_of(centroids))
        # A centroid nobody chose starts again from a random point.
        empty = np.flatnonzero(counts == 0)
        sums[empty] = sample.take(rows[rng.choice(len(rows), len(empty))])
        centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return np.unique(centroids.astype(np.float32), axis=0)


def _sums(sample: Sample, rows: Int64, centroids: Float32, nearest: Nearest) -> tuple[Float32, Int64]:
    """Float32 [k, dim]: the sum of the rows nearest to each centroid, and int64 [k], how many they are; block
    by block, so that no copy is made of all."""
    sums = np.zeros(centroids.shape, np.float32)
    counts = np.zeros(len(centroids), np.int64)
    for block in sample.blocks(BLOCK, rows):
        cell = nearest(block)
        order = np.argsort(cell, kind="stable")
        used, first = np.unique(cell[order], return_index=True)
        sums[used] += np.add.reduceat(block[order], first, axis=0)
        counts += np.bincount(cell, minlength=len(centroids))
    return sums, counts
