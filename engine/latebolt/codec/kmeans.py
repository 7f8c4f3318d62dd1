"""Spherical k-means: the centroids that residual codes are measured from.

Seeded and reproducible for the same input and thread count. Knows nothing of codes or files.
"""

from __future__ import annotations

import math

import numpy as np

from latebolt.arrays import Float32
from latebolt.codec import lloyd
from latebolt.codec.coding import KERNELS, Coding
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
    coding: Coding = KERNELS,
) -> Float32:
    """Unit-length centroids that maximise the sum of dot products with their points.

    Args:
        values: float32 [n, dim], unit length, n >= 1; a random part is used when there are many.
        k: centroids wanted; fewer come back when there are fewer distinct points.
        coding: where the nearest centroids are looked for.
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
    if len(rows) <= BLOCK:  # gathered once: out of many small parts that takes as long as a round
        only = [sample.take(rows)]
        points = coding.points(lambda: only)
    else:
        points = coding.points(lambda: sample.blocks(BLOCK, rows))
    for _ in range(iterations):
        before = centroids
        sums, counts = points.sums(before)
        centroids = lloyd.moved(sums, counts, lambda some: sample.take(rows[rng.choice(len(rows), some)]))
        if counts.all() and np.array_equal(centroids, before):
            break  # nothing moves any more
    return np.unique(centroids.astype(np.float32), axis=0)
