"""One round of spherical k-means, on the CPU: which vectors chose each centroid, and where it moves.

Knows nothing of how the nearest centroid is found, nor of how many rounds there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from latebolt.arrays import Float32, Int64


def sums_of(
    blocks: Iterable[Float32], nearest: Callable[[Float32], Int64], like: Float32
) -> tuple[Float32, Int64]:
    """Of the vectors that are nearest to each centroid their sum, float32 [k, dim], and number, int64 [k].

    Args:
        blocks: float32 [some, dim] each.
        nearest: int64, the centroid of each vector of a block.
        like: float32 [k, dim], as the sums will be.
    """
    sums = np.zeros(like.shape, np.float32)
    counts = np.zeros(len(like), np.int64)
    for block in blocks:
        cell = nearest(block)
        order = np.argsort(cell, kind="stable")
        used, first = np.unique(cell[order], return_index=True)
        sums[used] += np.add.reduceat(block[order], first, axis=0)
        counts += np.bincount(cell, minlength=len(like))
    return sums, counts


def moved(sums: Float32, counts: Int64, spare: Callable[[int], Float32]) -> Float32:
    """Float32 [k, dim]: the directions of the sums [k, dim], which it may write to.

    Args:
        counts: int64 [k]; a centroid nobody chose starts again from one of `spare(how many)`.
    """
    empty = np.flatnonzero(counts == 0)
    sums[empty] = spare(len(empty))
    directions: Float32 = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return directions
