"""How the nearest of some centroids is looked for: of a few among all, of many by way of groups of them.

A group holds centroids that lie near each other. Each is in several groups, so that one between two of them
is found from either. All of it follows from the centroids and is made again wherever vectors are encoded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Final

import numpy as np

from latebolt.arrays import Float32, Int64
from latebolt.codec import lloyd
from latebolt.kernels.centroids import centroid_levels, nearest
from latebolt.kernels.groups import GroupedCentroids, grouped_centroids, nearest_grouped
from latebolt.kernels.maxsim import score_table
from latebolt.kernels.shapes import CODE_TILE, GROUP_BITS, GROUPS_TRIED

Nearest = Callable[[Float32], Int64]

MANY: Final = 16384  # centroids from which on groups pay (benchmarks/kmeans.py compares)
COPIES: Final = 3  # groups that each centroid is in
_ROUNDS, _POINTS_A_GROUP = 4, 24  # of the groups' k-means: more change nothing that counts
_BLOCK = 4096  # centroids whose products with all groups are there at a time
_STEP = 32  # groups are a multiple of it, as the kernels want them


def search(centroids: Float32) -> Nearest:
    """What finds the centroid of float32 [k >= 1, dim] with the largest dot product with each vector.

    From MANY on it misses the very nearest for about one vector in a hundred, and takes another that is
    nearly as good; below, see `kernels.centroids.nearest`.
    """
    if len(centroids) < MANY:
        levels = centroid_levels(centroids)
        return lambda values: nearest(values, levels)
    groups = grouped(centroids)
    return lambda values: nearest_grouped(values, groups)


def grouped(centroids: Float32, seed: int = 0) -> GroupedCentroids:
    """Centroids in about 3 * sqrt(k) groups.

    Args:
        centroids: float32 [k, dim], as many as there are groups or more.
    """
    n = min(round(3 * math.sqrt(len(centroids)) / _STEP) * _STEP, 1 << GROUP_BITS)
    centroids = np.ascontiguousarray(centroids, np.float32)
    groups = _groups(centroids, max(n, _STEP), np.random.default_rng(seed))
    best = _best_groups(centroids, groups)
    # Of groups that nobody is in, enough alike could be all that is looked at.
    used, numbers = np.unique(best, return_inverse=True)
    padding = max(-len(used) % CODE_TILE, GROUPS_TRIED - len(used))
    groups = groups[np.concatenate([used, np.repeat(used[-1:], padding)])]
    return grouped_centroids(centroids, groups, numbers.reshape(best.shape))


def _groups(centroids: Float32, n: int, rng: np.random.Generator) -> Float32:
    """Float32 [n, dim], by k-means on a part of the centroids."""
    points = centroids
    if len(points) > n * _POINTS_A_GROUP:
        points = points[np.sort(rng.choice(len(points), n * _POINTS_A_GROUP, replace=False))]
    groups = points[np.sort(rng.choice(len(points), n, replace=len(points) < n))]
    for _ in range(_ROUNDS):
        find = functools.partial(nearest, prepared=centroid_levels(groups))
        sums, counts = lloyd.sums_of([points], find, groups)
        groups = lloyd.moved(sums, counts, lambda some: points[rng.choice(len(points), some)])
    return groups


def _best_groups(centroids: Float32, groups: Float32) -> Int64:
    """Int64 [k, COPIES]: the groups with the largest dot products with each centroid, the best first.

    Not by NumPy's matrix product, whose last bits depend on the number of threads.
    """
    found = np.empty((len(centroids), COPIES), np.int64)
    for start in range(0, len(centroids), _BLOCK):
        dots = score_table(groups, centroids[start : start + _BLOCK])
        rows = np.arange(len(dots))
        for copy in range(COPIES):
            best = dots.argmax(axis=1)
            found[start + rows, copy] = best
            dots[rows, best] = -np.inf
    return found
