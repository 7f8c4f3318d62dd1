"""The nearest of very many centroids, looked for in two steps: among groups of them, then in the best groups.

A vector is compared with some thousand bytes' rows instead of all; what it is given depends on it alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt import threads
from latebolt.arrays import Float32, Int64
from latebolt.kernels import isa, native
from latebolt.kernels.maxsim import address, byte_products_a_ns, lanes
from latebolt.kernels.shapes import (
    BYTE_MOST,
    CODE_TILE,
    GROUP_BITS,
    GROUP_NONE,
    GROUP_PARTS,
    GROUPS_TRIED,
    LEVEL_MOST,
    LEVEL_ZERO,
    group_block,
)
from latebolt.kernels.targets import WIDTH

# Vectors looked at together: so many want each group that its centroids are read from near memory, and their
# own bytes stay there, too.
_TOGETHER = 1 << 12
_LAID = 1 << 16  # rows laid in blocks at a time: bounds the temporaries


class GroupedCentroids(NamedTuple):
    """Centroids as bytes in groups, for the instruction set of this process.

    levels uint8 [n_groups, dim], the groups' own vectors; starts int64 [n_groups + 1], blocks of each group;
    lanes int32 [n_blocks, dim / 4, block], four signed bytes each; biases int32 and members uint32
    [n_blocks * block], rows of centroids float32 [n, dim]; spread float32 [dim]. Bytes are of
    (centroid - mean) / spread, which ranks as the centroids do once vectors are multiplied by spread.
    """

    levels: npt.NDArray[np.uint8]
    starts: Int64
    lanes: npt.NDArray[np.int32]
    biases: npt.NDArray[np.int32]
    members: npt.NDArray[np.uint32]
    centroids: Float32
    spread: Float32


def centroid_bytes(centroids: Float32) -> tuple[npt.NDArray[np.int8], Float32, Float32]:
    """int8 [n, dim] of (centroid - mean) / spread; mean and spread, float32 [dim]."""
    mean = centroids.mean(axis=0)
    spread = np.maximum(np.abs(centroids - mean).max(axis=0), 1e-6).astype(np.float32)
    return np.rint((centroids - mean) / spread * BYTE_MOST).astype(np.int8), mean, spread


def grouped_centroids(centroids: Float32, groups: Float32, group_of: Int64) -> GroupedCentroids:
    """Centroids ready for `nearest_grouped`.

    Args:
        centroids: float32 [n >= 1, dim], dim a multiple of 4.
        groups: float32 [n_groups, dim], a multiple of CODE_TILE of them, GROUPS_TRIED to 2**GROUP_BITS.
        group_of: int64 [n, copies], the groups that each centroid is in; some groups may have none.
    Raises:
        ValueError: there are too few or too many groups.
    """
    n_groups = len(groups)
    if n_groups % CODE_TILE or not GROUPS_TRIED <= n_groups <= 1 << GROUP_BITS:
        raise ValueError(f"{n_groups} groups cannot be searched")
    centroids = np.ascontiguousarray(centroids, np.float32)
    codes, mean, spread = centroid_bytes(centroids)
    most = LEVEL_MOST - LEVEL_ZERO
    levels = np.clip(np.rint((groups - mean) / spread * most), -most, most) + LEVEL_ZERO
    copies = group_of.ravel()
    order = np.argsort(copies, kind="stable")  # within a group by number
    laid = lay_in_blocks(codes, np.bincount(copies, minlength=n_groups), order // group_of.shape[1])
    return GroupedCentroids(levels.astype(np.uint8), *laid, centroids, spread)


def lay_in_blocks(
    codes: npt.NDArray[np.int8], sizes: Int64, order: Int64 | None = None
) -> tuple[Int64, npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.uint32]]:
    """Rows of bytes with which vectors' rows of bytes, LEVEL_ZERO more than they are, are compared by groups.

    Args:
        codes: int8 [n, dim], dim a multiple of 4.
        sizes: int64 [n_groups], rows of each group; order: int64 [sizes.sum()], which they are, group after
            group. As they stand by default.
    Returns:
        (starts, lanes, biases, members), see `GroupedCentroids`.
    """
    dim, block = codes.shape[1], group_block(WIDTH[isa.active()])
    starts = np.concatenate([[0], np.cumsum(-(-sizes // block))]).astype(np.int64)
    moved = starts[:-1] * block - (np.cumsum(sizes) - sizes)
    places = np.repeat(moved, sizes) + np.arange(int(sizes.sum()))
    own = slice(None) if order is None else order
    members = np.zeros(int(starts[-1]) * block, np.uint32)
    members[places] = np.arange(len(codes)) if order is None else order
    biases = np.full(len(members), 2 * GROUP_NONE, np.int32)
    biases[places] = (-LEVEL_ZERO * codes.sum(axis=1, dtype=np.int32))[own]
    fours = np.zeros((len(members) // block, dim // 4, block), np.int32)
    # Some at a time: there may be millions of rows.
    numbers = np.ascontiguousarray(codes).view(np.int32)
    for at in range(0, len(places), _LAID):
        some = places[at : at + _LAID]
        rows = slice(at, at + _LAID) if order is None else order[at : at + _LAID]
        fours[some // block, :, some % block] = numbers[rows]
    return starts, fours, biases, members


def nearest_grouped(values: Float32, prepared: GroupedCentroids, n_threads: int | None = None) -> Int64:
    """A centroid with about the largest dot product with each vector.

    Bytes choose the GROUPS_TRIED best groups, and in them the best centroid of each of GROUP_PARTS parts;
    float32 settles between the SETTLED best of those. The exact nearest is missed where its group is none of
    the best, or centroids are nearly equal.

    Args:
        values: float32 [n, dim].
        prepared: see `grouped_centroids`.
    Returns:
        int64 [n].
    """
    values = np.ascontiguousarray(values, np.float32)
    found = np.empty(len(values), np.int64)
    dim = values.shape[1]
    kernel = native.kernel(f"nearest_grouped:{dim}")
    levels, starts, lanes_, biases, members, centroids, spread = prepared
    n_groups = len(levels)

    def work(first: int, last: int) -> None:
        most = min(_TOGETHER, last - first)
        rows = np.empty((most, dim), np.uint8)
        best = np.empty((most, 2 * GROUP_PARTS), np.int32)
        tried = np.empty((-(-most // lanes()) * lanes(), GROUPS_TRIED), np.int32)
        ends, listed = np.empty(n_groups + 1, np.int64), np.empty((most, GROUPS_TRIED), np.uint32)
        scratch = np.zeros((dim + 4 * n_groups) * lanes(), np.uint8)
        for start in range(first, last, _TOGETHER):
            kernel(
                address(values), address(spread), address(levels), n_groups, address(starts),
                address(lanes_), address(biases), address(members), address(centroids), address(rows),
                address(best), address(tried), address(ends), address(listed), address(scratch),
                address(found), start, min(start + _TOGETHER, last),
            )  # fmt: skip

    # As many are compared with it as have a block of a group to themselves.
    compared = n_groups + GROUPS_TRIED * len(members) / n_groups
    threads.run(np.arange(len(values) + 1), compared * dim / byte_products_a_ns(), work, n_threads)
    return found
