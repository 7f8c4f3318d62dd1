"""Kernels over centroids: the nearest one of each vector, and MaxSim through centroids alone.

Both look at bytes first: bytes find the candidates that exact arithmetic then settles.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt import threads
from latebolt.arrays import Float32, Int64
from latebolt.kernels import names, native
from latebolt.kernels.maxsim import address, byte_lanes, byte_products_a_ns, lanes, run_rows
from latebolt.kernels.shapes import (
    BYTE_GROUP,
    CENTROID_PARTS,
    LEVEL_MOST,
    LEVEL_ZERO,
    TILE_ROWS,
    scratch_bytes,
)

_NS_A_ROW, _NS_A_DOT, _NS_A_CELL = 0.5, 0.2, 2.0  # about, on one thread: they decide whether several pay
_GROUP = 64  # centroids at most whose best one is looked at first
_QUANTISED = 1 << 13  # vectors made bytes at a time: bounds the temporaries


class CentroidLevels(NamedTuple):
    """Centroids as bytes 0..127, padded to whole rounds and tiles by repeating the last one.

    levels uint8 [n_rounds * CENTROID_PARTS, dim] of (centroid - mean) / spread, which ranks as the centroids
    do once vectors are multiplied by spread; centroids float32 [n, dim]; spread float32 [dim].
    """

    levels: npt.NDArray[np.uint8]
    centroids: Float32
    spread: Float32


def centroid_levels(centroids: Float32) -> CentroidLevels:
    """Centroids ready for `nearest`.

    Args:
        centroids: float32 [n >= 1, dim], dim a multiple of 4.
    """
    centroids = np.ascontiguousarray(centroids, np.float32)
    centred = centroids - centroids.mean(axis=0)
    # Each dimension uses its whole range of bytes; one scale for all would round narrow ones to nothing.
    spread = np.maximum(np.abs(centred).max(axis=0), 1e-6).astype(np.float32)
    levels = (np.rint(centred / spread * (LEVEL_MOST - LEVEL_ZERO)) + LEVEL_ZERO).astype(np.uint8)
    padding = -len(levels) % math.lcm(CENTROID_PARTS, TILE_ROWS)
    levels = np.concatenate([levels, np.repeat(levels[-1:], padding, axis=0)])
    return CentroidLevels(levels, centroids, spread)


def nearest(values: Float32, prepared: CentroidLevels, n_threads: int | None = None) -> Int64:
    """The centroid with the largest dot product with each vector.

    Bytes choose the best centroid of each eighth (rows i = t mod 8), float32 settles between the eight; the
    answer differs from the exact one only where two centroids of one eighth are nearly equal.

    Args:
        values: float32 [n, dim].
        prepared: see `centroid_levels`.
    Returns:
        int64 [n].
    """
    values = np.ascontiguousarray(values, np.float32)
    found = np.empty(len(values), np.int64)
    dim = values.shape[1]
    kernel = native.kernel(f"nearest_centroid:{dim}")
    levels, centroids, spread = prepared

    def work(first: int, last: int) -> None:
        scratch = np.empty(scratch_bytes(dim, lanes()) // 4, np.int32)
        for start in range(first * lanes(), last * lanes(), _QUANTISED):
            part = values[start : min(start + _QUANTISED, last * lanes())]
            n_blocks, n_rounds = -(-len(part) // lanes()), len(levels) // CENTROID_PARTS
            codes = byte_lanes(part * spread)
            kernel(
                address(codes), address(part), address(levels), address(centroids), n_rounds,
                len(centroids), address(scratch), address(found[start:]), len(part), 0, n_blocks,
            )  # fmt: skip

    n_blocks = -(-len(values) // lanes())
    # A block costs as much as scoring its vectors against every centroid.
    block_ns = lanes() * len(centroids) * dim / byte_products_a_ns()
    threads.run(np.arange(n_blocks + 1), block_ns, work, n_threads)
    return found


class CentroidScores(NamedTuple):
    """Query . centroid as bytes: dot = low + step * byte.

    table uint8 [n_centroids, columns], see `names.centroid_columns`; padded columns are 0.
    """

    table: npt.NDArray[np.uint8]
    low: float
    step: float
    n_query: int


def centroid_scores(
    dots: Float32, n_query: int | None = None, n_threads: int | None = None
) -> CentroidScores:
    """The byte table of a query's dot products with the centroids, which span low .. low + 255 * step.

    Args:
        dots: float32 [n_centroids, n_query], which may be padded with zeros behind the query's own columns.
        n_query: how many are its own; all by default.
    """
    n_query = dots.shape[1] if n_query is None else n_query
    if dots.shape[1] % BYTE_GROUP:
        dots = np.pad(dots, ((0, 0), (0, -dots.shape[1] % BYTE_GROUP)))
    low, high = (float(dots.min()), float(dots.max())) if dots.size else (0.0, 1.0)
    step = max(high - low, 1e-9) / 255
    dots = np.ascontiguousarray(dots, np.float32)
    n_padded = dots.shape[1]
    table = np.zeros((len(dots), names.centroid_columns(n_padded)), np.uint8)
    scales = np.zeros(n_padded, np.float32)
    scales[:n_query] = 1 / step
    least = np.array([low - step / 2], np.float32)  # rounds, as bytes are cut off
    kernel = native.kernel("byte_table")

    def work(first: int, last: int) -> None:
        kernel(
            address(dots), n_padded // BYTE_GROUP, address(least), address(scales), address(table),
            table.shape[1], first, last,
        )  # fmt: skip

    threads.run(np.arange(len(dots) + 1), _NS_A_DOT * n_padded, work, n_threads)
    return CentroidScores(table, low, step, n_query)


def nearest_cells(scores: CentroidScores, n: int, n_threads: int | None = None) -> tuple[Int64, Int64]:
    """The n centroids (all, if there are fewer) with the largest bytes for each query token.

    Returns:
        (cells, bytes), int64 [n_query, n]; bytes descending, equal ones by cell.
    """
    table, n_query = scores.table, scores.n_query
    n_cells = len(table)
    n = min(n, n_cells)
    # Groups are strides, so that one pass over the table finds the best of each. There are about as many
    # groups as members of those that have to be looked through.
    group = min(max(math.isqrt(n_cells // max(n, 1)), 1), _GROUP)
    n_groups = min(n_cells, max(n, -(-n_cells // group)))
    whole = n_cells // max(n_groups, 1)
    best = table[: whole * n_groups].reshape(whole, n_groups, -1).max(axis=0)
    rest = n_cells - whole * n_groups
    best[:rest] = np.maximum(best[:rest], table[whole * n_groups :])
    cells, found = np.empty((n_query, n), np.int64), np.empty((n_query, n), np.int64)
    kernel = native.kernel("nearest_cells")

    def work(first: int, last: int) -> None:
        counts, scratch = np.empty(257, np.int64), np.empty(n_groups + 2 * n_cells, np.uint32)
        kernel(
            address(table), table.shape[1], address(best), n_groups, n_cells, n, address(counts),
            address(scratch), address(cells), address(found), first, last,
        )  # fmt: skip

    column_ns = _NS_A_CELL * (n_groups + n * whole)
    threads.run(np.arange(n_query + 1), column_ns, work, n_threads)
    return cells, found


def maxsim_centroids(
    scores: CentroidScores,
    cells: npt.NDArray[np.unsignedinteger],
    offsets: Int64,
    rows: Int64 | None = None,
    n_threads: int | None = None,
) -> Float32:
    """MaxSim with every token replaced by its centroid: what candidates are ranked by.

    Args:
        scores: see `centroid_scores`.
        cells: uint16 or uint32 [n_tokens].
        offsets: int64 [n_docs + 1]; rows: int64, the documents to score, None for all.
    Returns:
        float32 [n_docs] (or one per row); a document without tokens scores 0.
    """
    kernel = native.kernel(f"maxsim_centroids:{scores.table.shape[1]}")
    scale = np.array([scores.low * scores.n_query, scores.step], np.float32)
    before = (address(scores.table), address(scale), address(cells), int(cells.dtype == np.uint32))
    width = scores.table.shape[1]
    return run_rows(kernel, before, offsets, rows, (), width, _NS_A_ROW * width / 32, n_threads)
