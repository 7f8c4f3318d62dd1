"""Token pooling: fewer vectors a document, by hierarchical clustering of its token vectors.

Source: Clavié, Chaffin and Adams, "Reducing the footprint of multi-vector retrieval with minimal
performance impact via token pooling", 2024: Ward linkage, clusters replaced by their normalised mean. There
the number of clusters is a share of the tokens. A fixed number, so that no document takes more than so much
space, is what MacAvaney, Mallia and Tonellotto train a model for in "Efficient constant-space multi-vector
retrieval", 2025; here the same clustering gives it of any model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Float64
from latebolt.checks import whole_number
from latebolt.errors import InvalidInput

# Tokens clustered together: their distances take 32 MB. Those of 8,192 tokens took 512 MB a thread, and a
# token's nearest ones mostly stand near it.
MOST_TOGETHER: Final = 2048
# The largest setting: no document has so many vectors.
MOST_POOLING: Final = 65_536
# Multiplications of a product that OpenBLAS still does in the thread that asks. Its own threads wait for work
# by spinning, which beside those that encode took ten times the processor time of all the rest here.
_ALONE: Final = 262_144


@dataclass(frozen=True)
class Pooling:
    """How many of a document's vectors are kept.

    Args:
        factor: one of about so many, at least 1; markers are kept beside.
        most: at most so many, markers among them; None for no such limit.
    """

    factor: int = 1
    most: int | None = None

    def __str__(self) -> str:
        parts = [f"by {self.factor}"] if self.factor > 1 else []
        parts += [] if self.most is None else [f"to at most {self.most} vectors a text"]
        return " and ".join(parts) or "none"

    def keeps(self, n: int) -> bool:
        """Whether n vectors that came out of pooling are all there were, as far as their number tells."""
        return self.factor == 1 and (self.most is None or n < self.most)


def check_pooling(pool_factor: int, max_vectors: int | None, least: int) -> Pooling:
    """The pooling asked for.

    Args:
        least: the fewest vectors that can be left of a document: its markers and one.
    Raises:
        InvalidInput: pool_factor is not in 1..65536, or max_vectors not in least..65536.
    """
    factor = whole_number(pool_factor, "pool_factor")
    if factor > MOST_POOLING:
        raise InvalidInput(f"pool_factor should be an int in 1..{MOST_POOLING}, got {factor}.")
    if max_vectors is None:
        return Pooling(factor)
    most = whole_number(max_vectors, "max_vectors")
    if not least <= most <= MOST_POOLING:
        raise InvalidInput(
            f"max_vectors should be an int in {least}..{MOST_POOLING} for this model, {least - 1} of them "
            f"for the markers of a document, got {most}."
        )
    return Pooling(factor, most)


def pool_tokens(vectors: Float32, factor: int, protected: int, most: int | None = None) -> Float32:
    """Keep about 1 / factor of a document's vectors, and no more than `most`.

    Of more than 2,048 vectors, neighbouring ones are clustered by as many as that.

    Args:
        vectors: float32 [n, dim], unit length.
        factor: at least 1; 1 changes nothing.
        protected: the first so many rows (markers) are kept as they are.
        most: more than `protected`; None for no limit.
    Returns:
        float32 [protected + ceil((n - protected) / factor), dim], or [most, dim] where that is less; clusters
        by first appearance.
    """
    body = vectors[protected:]
    n_clusters = -(-len(body) // factor)
    even = most is not None and n_clusters > most - protected
    if most is not None and even:
        n_clusters = most - protected
    if n_clusters >= len(body):
        return vectors
    parts = _even_parts(len(body), n_clusters) if even else _parts(len(body), factor)
    labels, first = np.zeros(len(body), np.int64), 0
    for rows, n in parts:
        labels[rows] = first + ward_labels(body[rows], n)
        first += n
    sums = np.zeros((n_clusters, vectors.shape[1]), np.float32)
    np.add.at(sums, labels, body)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.concatenate([vectors[:protected], sums / np.maximum(norms, 1e-12)]).astype(np.float32)


def _parts(n: int, factor: int) -> Iterator[tuple[slice, int]]:
    """Rows that are clustered together, and into how many, for one in `factor` of n."""
    # Whole multiples of the factor, so that the parts' clusters are as many as those of the whole.
    step = max(1, MOST_TOGETHER // factor) * factor
    for start in range(0, n, step):
        size = min(step, n - start)
        yield slice(start, start + size), -(-size // factor)


def _even_parts(n: int, n_clusters: int) -> Iterator[tuple[slice, int]]:
    """The same for n_clusters of n in all: parts of equal length, whose clusters are shared out alike.

    Of fewer clusters than parts each is a part by itself, whose length costs nothing.
    """
    n_parts = min(-(-n // MOST_TOGETHER), n_clusters)
    ends = [part * n // n_parts for part in range(n_parts + 1)]
    # One each, and of the others as many as of the other rows, so that none has more clusters than rows.
    others = [(end - part) * (n_clusters - n_parts) // (n - n_parts) for part, end in enumerate(ends)]
    for part in range(n_parts):
        yield slice(ends[part], ends[part + 1]), 1 + others[part + 1] - others[part]


def ward_labels(points: Float32, n_clusters: int) -> npt.NDArray[np.int64]:
    """Cluster number of each point, Ward linkage, numbered by first appearance.

    The closest pair is merged until n_clusters are left; distances follow the Lance-Williams formula.
    O(n^2) memory, O(n^2) vector operations.
    """
    n = len(points)
    if n_clusters == 1:
        return np.zeros(n, np.int64)
    distance = _squared_distances(points.astype(np.float64))
    np.fill_diagonal(distance, np.inf)
    size, parent = np.ones(n), np.arange(n)
    nearest = distance.argmin(1)
    closest = distance[np.arange(n), nearest]
    for _ in range(n - n_clusters):
        a = int(closest.argmin())
        b = int(nearest[a])
        a, b = min(a, b), max(a, b)
        total = size[a] + size[b] + size
        # Infinite at a, b and clusters that have gone, whose distances are.
        merged = (
            (size[a] + size) * distance[a] + (size[b] + size) * distance[b] - size * distance[a, b]
        ) / total
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


def _squared_distances(points: Float64) -> Float64:
    """Float64 [n, n], of each pair."""
    n, dim = points.shape
    squares = (points**2).sum(1)
    distance = np.empty((n, n))
    columns = np.ascontiguousarray(points.T)
    side = max(2, int((_ALONE // dim) ** 0.5))
    for i in range(0, n, side):
        for j in range(0, n, side):
            np.matmul(
                points[i : i + side], columns[:, j : j + side], out=distance[i : i + side, j : j + side]
            )
    distance *= -2.0
    distance += squares[:, None] + squares
    np.maximum(distance, 0.0, out=distance)
    return distance
