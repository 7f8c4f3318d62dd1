"""Programs over centroids: a query's products with them as floats and as bytes, the nearest one of a vector,
and MaxSim through centroids alone.

Bytes find candidates, floats settle between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from latebolt.kernels.programs.parts import (
    inline,
    load_cell,
    load_f32,
    load_i64,
    load_u8,
    load_u32,
    store_i64,
    store_u32,
)
from latebolt.kernels.shapes import BYTE_GROUP, CENTROID_PARTS, CODE_TILE, TILE, VECTORS
from latebolt.kernels.targets import WIDTH
from latebolt.kernels.vector.byte_tiles import argmax_parts
from latebolt.kernels.vector.conversions import to_bytes
from latebolt.kernels.vector.float_tiles import products_f32
from latebolt.kernels.vector.instructions import LINE
from latebolt.kernels.vector.maxima import max_rows_u8
from latebolt.kernels.vector.memory import fetch, store_f32

CELLS = 4  # centroids' rows of bytes folded at a time: the largest so far is read and written once for them
# Of documents among many: how many ahead cells are asked for, and how many bytes of each document's.
AHEAD, FETCHED = 4, 256


def make_score_table(isa: str, dim: int, vectors: int = VECTORS) -> Callable[..., None]:
    lanes, n_tile = WIDTH[isa] * vectors, TILE * VECTORS // vectors
    # A width known here makes the rows of a tile constants apart; else their addresses take more registers
    # than there are.
    products = products_f32(WIDTH[isa], vectors, n_tile, dim)
    single = products_f32(WIDTH[isa], vectors, 1, dim)

    def score_table(query, n_blocks, rows, out, first, last):  # type: ignore[no-untyped-def]
        """Query lanes, their blocks, rows float32 [n][dim], out float32 [n][n_blocks][lanes], range."""
        stride = n_blocks * lanes
        for block in range(n_blocks):
            q, place = query + 4 * block * dim * lanes, out + 4 * block * lanes
            row = first
            while row + n_tile <= last:
                products(q, rows + 4 * row * dim, place + 4 * row * stride, stride)
                row += n_tile
            while row < last:
                single(q, rows + 4 * row * dim, place + 4 * row * stride, stride)
                row += 1

    return score_table


def make_byte_table(isa: str) -> Callable[..., None]:
    convert = to_bytes(BYTE_GROUP)

    def byte_table(dots, n_groups, least, scales, out, width, first, last):  # type: ignore[no-untyped-def]
        """Dots float32 [n][BYTE_GROUP * n_groups], least float32 [1], scales float32 [BYTE_GROUP * n_groups],
        out u8 [n][width]: (dot - least) * scale, cut off; rows first..last-1."""
        low = load_f32(least)
        for row in range(first, last):
            for group in range(n_groups):
                at = 4 * BYTE_GROUP * group
                values, bytes_ = dots + 4 * BYTE_GROUP * row * n_groups, out + row * width
                convert(values + at, low, scales + at, bytes_ + BYTE_GROUP * group)

    return byte_table


def make_nearest_cells(isa: str) -> Callable[..., None]:
    def nearest_cells(  # type: ignore[no-untyped-def]
        table, width, best, n_groups, n_cells, wanted, counts, groups, cells, found, first, last
    ):
        """Table u8 [n_cells][width]; best u8 [n_groups][width], the largest byte of each group, of which
        g has cells g, g + n_groups, ..; wanted at most n_groups. Cells and found int64 [n_query][wanted]: of
        each column the cells with the largest bytes and these, falling, equal ones by cell; columns
        first..last-1.

        The wanted cells stand in the groups whose best is at least the wanted best of these. scratch: counts
        int64 [257]; groups u32 [n_groups + 2 * n_cells]."""
        numbers = groups + 4 * n_groups
        for column in range(first, last):
            for byte in range(257):
                store_i64(counts + 8 * byte, 0)
            for g in range(n_groups):
                place = counts + 8 * load_u8(best + g * width + column)
                store_i64(place, load_i64(place) + 1)
            least, reached = 255, load_i64(counts + 8 * 255)
            while reached < wanted and least > 0:
                least -= 1
                reached += load_i64(counts + 8 * least)
            n_chosen = 0
            for g in range(n_groups):
                store_u32(groups + 4 * n_chosen, g)
                n_chosen += 1 if load_u8(best + g * width + column) >= least else 0
            for byte in range(257):
                store_i64(counts + 8 * byte, 0)
            n = 0
            base = 0
            while base < n_cells:
                for i in range(n_chosen):
                    cell = base + load_u32(groups + 4 * i)
                    if cell < n_cells:
                        byte = load_u8(table + cell * width + column)
                        if byte >= least:
                            store_u32(numbers + 8 * n, cell)
                            store_u32(numbers + 8 * n + 4, byte)
                            store_i64(counts + 8 * byte, load_i64(counts + 8 * byte) + 1)
                            n += 1
                base += n_groups
            taken = 0
            for i in range(256):
                place = counts + 8 * (255 - i)
                here = load_i64(place)
                store_i64(place, taken)
                taken += here
            for i in range(n):
                byte = load_u32(numbers + 8 * i + 4)
                place = load_i64(counts + 8 * byte)
                store_i64(counts + 8 * byte, place + 1)
                if place < wanted:
                    store_i64(cells + 8 * (column * wanted + place), load_u32(numbers + 8 * i))
                    store_i64(found + 8 * (column * wanted + place), byte)

    return nearest_cells


def settled_by_floats(dim: int, lanes: int) -> Any:
    """Writes the nearest centroid of each of a block's vectors: the best of those that bytes have found,
    int32 [CENTROID_PARTS][lanes] at `found`."""

    @inline
    def settle(
        found: int, block: int, values: int, centroids: int, n_centroids: int, n_values: int, out: int
    ) -> None:
        for lane in range(lanes):
            i = block * lanes + lane
            if i < n_values:
                row = values + 4 * i * dim
                chosen = n_centroids
                top = np.float32(-np.inf)
                for part in range(CENTROID_PARTS):
                    c = load_u32(found + 4 * (part * lanes + lane))
                    c = c if c < n_centroids else n_centroids - 1
                    total = np.float32(0)
                    for d in range(dim):
                        total += load_f32(row + 4 * d) * load_f32(centroids + 4 * (c * dim + d))
                    if total > top or (total == top and c < chosen):
                        top = total
                        chosen = c
                # Of a vector that is not a number no product is the largest.
                store_i64(out + 8 * i, chosen if chosen < n_centroids else n_centroids - 1)

    return settle


def make_nearest_centroid(isa: str, dim: int) -> Callable[..., None]:
    width = WIDTH[isa]
    lanes = width * VECTORS
    search = argmax_parts(width, VECTORS, CODE_TILE, CENTROID_PARTS, dim, isa)
    settle = settled_by_floats(dim, lanes)

    def nearest_centroid(  # type: ignore[no-untyped-def]
        codes, values, levels, centroids, n_rounds, n_centroids, scratch, out, n_values, first, last
    ):
        """Codes int8 [n_blocks][dim / 4][lanes][4] of the float32 values [n_values][dim]; levels u8
        [n_rounds * CENTROID_PARTS][dim] of the float32 centroids [n_centroids][dim]; out int64 [n_values];
        blocks first..last-1. scratch: int32 [CENTROID_PARTS][lanes]. Rows of levels past the last centroid
        repeat it.

        Bytes find the best centroid of each part, floats settle between the parts."""
        for block in range(first, last):
            search(codes + block * lanes * dim, levels, n_rounds, scratch)
            settle(scratch, block, values, centroids, n_centroids, n_values, out)

    return nearest_centroid


def make_maxsim_centroids(isa: str, lanes: int) -> Callable[..., None]:
    fold, fold_one = max_rows_u8(lanes, CELLS), max_rows_u8(lanes, 1)
    zero = np.float32(0)

    def maxsim_centroids(  # type: ignore[no-untyped-def]
        table, scale, cells, wide, offsets, rows, scratch, out, first, last
    ):
        """Table u8 [n_centroids][lanes], scale float32 [2], cells u16 (u32 when wide), offsets, rows as
        in `maxsim`; out float32: scale[0] + scale[1] * the sum over lanes of the largest byte of each
        document, 0 for one without tokens. scratch: u8 [lanes]."""
        base, step = load_f32(scale), load_f32(scale + 4)
        for i in range(first, last):
            doc = i if rows == 0 else load_i64(rows + 8 * i)
            if rows != 0 and i + 2 * AHEAD < last:
                # Documents may stand anywhere, and so do the places where each begins.
                fetch(offsets + 8 * load_i64(rows + 8 * (i + 2 * AHEAD)))
                ahead = load_i64(offsets + 8 * load_i64(rows + 8 * (i + AHEAD)))
                for line in range(0, FETCHED, LINE):
                    fetch(cells + (4 * ahead if wide != 0 else 2 * ahead) + line)
            start, stop = load_i64(offsets + 8 * doc), load_i64(offsets + 8 * (doc + 1))
            if start == stop:
                store_f32(out + 4 * i, zero)
                continue
            for lane in range(0, lanes, 8):
                store_i64(scratch + lane, 0)
            token = start
            while token + CELLS <= stop:
                some = (
                    load_cell(cells, wide, token),
                    load_cell(cells, wide, token + 1),
                    load_cell(cells, wide, token + 2),
                    load_cell(cells, wide, token + 3),
                )
                fold(table, some, scratch)
                token += CELLS
            while token < stop:
                fold_one(table, (load_cell(cells, wide, token),), scratch)
                token += 1
            total = 0
            for lane in range(lanes):
                total += load_u8(scratch + lane)
            store_f32(out + 4 * i, base + step * np.float32(total))

    return maxsim_centroids
