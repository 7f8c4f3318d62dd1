"""Token pooling: fewer vectors a document, by hierarchical clustering of its token vectors.

Source: Clavié, Chaffin and Adams, "Reducing the footprint of multi-vector retrieval with minimal
performance impact via token pooling", 2024: Ward linkage, clusters replaced by their normalised mean.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32

# Tokens clustered together: their distances take 32 MB. Those of 8,192 tokens took 512 MB a thread, and a
# token's nearest ones mostly stand near it.
MOST_TOGETHER: Final = 2048


def pool_tokens(vectors: Float32, factor: int, protected: int) -> Float32:
    """Keep about 1 / factor of a document's vectors.

    Of more than 2,048 vectors, neighbouring ones are clustered by as many as that.

    Args:
        vectors: float32 [n, dim], unit length.
        factor: at least 1; 1 changes nothing.
        protected: the first so many rows (markers) are kept as they are.
    Returns:
        float32 [protected + ceil((n - protected) / factor), dim], clusters by first appearance.
    """
    body = vectors[protected:]
    n_clusters = -(-len(body) // factor)
    if factor == 1 or n_clusters >= len(body):
        return vectors
    # Whole multiples of the factor, so that the parts' clusters are as many as those of the whole.
    step = max(1, MOST_TOGETHER // factor) * factor
    labels = np.zeros(len(body), np.int64)
    for start in range(0, len(body), step):
        part = body[start : start + step]
        labels[start : start + step] = start // factor + ward_labels(part, -(-len(part) // factor))
    sums = np.zeros((n_clusters, vectors.shape[1]), np.float32)
    np.add.at(sums, labels, body)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.concatenate([vectors[:protected], sums / np.maximum(norms, 1e-12)]).astype(np.float32)


def ward_labels(points: Float32, n_clusters: int) -> npt.NDArray[np.int64]:
    """Cluster number of each point, Ward linkage, numbered by first appearance.

    The closest pair is merged until n_clusters are left; distances follow the Lance-Williams formula.
    O(n^2) memory, O(n^2) vector operations.
    """
    n = len(points)
    squares = (points.astype(np.float64) ** 2).sum(1)
    distance = points.astype(np.float64) @ points.T.astype(np.float64)
    distance *= -2.0
    distance += squares[:, None] + squares
    np.maximum(distance, 0.0, out=distance)
    np.fill_diagonal(distance, np.inf)
    size, parent = np.ones(n), np.arange(n)
    nearest = distance.argmin(1)
    closest = distance[np.arange(n), nearest]
    for _ in range(n - n_clusters):
        a = int(closest.argmin())
        b = int(nearest[a])
        a, b = min(a, b), max(a, b)
        total = size[a] + size[b] + size
        merged = (
            (size[a] + size) * distance[a] + (size[b] + size) * distance[b] - size * distance[a, b]
        ) / total
        gone = ~np.isfinite(distance[a]) | ~np.isfinite(distance[b])
        merged[gone] = np.inf
        distance[a], distance[:, a] = merged, merged
        distance[b], distance[:, b] = np.inf, np.inf
        size[a] += size[b]
        parent[parent == b] = a
        closest[b] = np.inf
        for row in np.flatnonzero((nearest == a) | (nearest == b)):
            if np.isfinite(closest[row]) or row == a:
                nearest[row] = distance[row].argmin()
                closest[row] = distance[row, nearest[row]]
        nearest[a] = distance[a].argmin()
        closest[a] = distance[a, nearest[a]]
        better = distance[a] < closest
        nearest[better], closest[better] = a, distance[a][better]
    _, first, labels = np.unique(parent, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[labels]
