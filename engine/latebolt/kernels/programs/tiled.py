"""MaxSim and the nearest centroid by AMX's tiles: the same kernels as in `maxsim_residual`, `maxsim` and
`centroids`, with their arguments, for a CPU that multiplies 16 document tokens with a query at once.

A product of tiles takes a hundred cycles from its operands to its sums, so three tokens' tiles are at work at
a time: codes of one are unpacked while those before are multiplied and sums of the ones before them folded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from latebolt.kernels.programs.centroids import settled_by_floats
from latebolt.kernels.programs.parts import (
    inline,
    load_cell,
    load_i32,
    load_i64,
    load_u32,
    store_i64,
    store_u32,
    sum_lanes_of,
)
from latebolt.kernels.shapes import CENTROID_PARTS, TILE_BYTES, TILE_ROWS, TILED_HELD, VECTORS
from latebolt.kernels.targets import WIDTH
from latebolt.kernels.vector.instructions import LINE
from latebolt.kernels.vector.memory import fetch, fill_f32, store_f32
from latebolt.kernels.vector.residual_codes import unpack_codes
from latebolt.kernels.vector.tile_scores import fold_best, fold_bytes, fold_codes
from latebolt.kernels.vector.tiles import Layout, configure, hold_query, products, release

# Where things stand in `scratch`, from the next address that a line of memory begins at: see
# `shapes.scratch_bytes`.
_SUMS = LINE


def _begin(layout: Layout) -> Any:
    """Cuts the tiles, writes what each lane's sums begin with, and says whether the tiles have room for the
    whole query, which then is in them."""
    cut, hold, holds, lanes = configure(layout), hold_query(layout), layout.holds_query(), layout.lanes

    @inline
    def begin(base: int, query: int, biases: int, starts: int, n_blocks: int) -> bool:
        for lane in range(n_blocks * lanes):
            store_u32(starts + 4 * lane, -load_i32(biases + 4 * lane))
        cut(base)
        keeps = holds and n_blocks == 1
        if keeps:
            hold(query)
        return keeps

    return begin


def make_maxsim_residual(
    isa: str, dim: int, bits: int, vectors: int = VECTORS, parts: int = 1
) -> Callable[..., None]:
    if parts != 1:
        raise ValueError(f"tiles have a lane a query token, not {parts}")
    lanes, n_bytes, layout = WIDTH[isa] * vectors, dim * bits // 8, Layout(vectors, dim)
    begin, held, read = _begin(layout), products(layout, layout.holds_query()), products(layout, False)
    unpack, fold = unpack_codes(dim, bits, isa), fold_codes(vectors)
    fill, sum_lanes = fill_f32(WIDTH[isa], vectors), sum_lanes_of(lanes)
    lowest, zero = np.float32(-np.inf), np.float32(0)
    n_sums, n_plain, n_rows, held_mask = vectors * TILE_BYTES, TILE_ROWS * dim, 8 * TILE_ROWS, TILED_HELD - 1

    def maxsim_residual(  # type: ignore[no-untyped-def]
        query, scales, biases, n_query, table, codes, cells, wide, norms, factors, weights,
        offsets, rows, scratch, out, first, last,
    ):  # fmt: skip
        """As `maxsim_residual.make_maxsim_residual`'s, of whole query tokens a lane. scratch: see
        `shapes.scratch_bytes`."""
        n_blocks = (n_query + lanes - 1) // lanes
        base = (scratch + LINE - 1) & -LINE
        sums = base + _SUMS  # of two tiles' tokens in turn, and of two blocks of a longer query
        plain = sums + 4 * n_sums  # unpacked codes of TILED_HELD tiles
        row_of = plain + TILED_HELD * n_plain  # addresses of their centroids' products
        starts = row_of + TILED_HELD * n_rows  # what sums begin with
        best = starts + 4 * n_blocks * lanes
        keeps = begin(base, query, biases, starts, n_blocks)
        # A tile of tokens is unpacked, multiplied a step later, and folded two steps later. Of each it is
        # known where its tokens begin, how many there are, their document, and whether they are its last.
        step = 0
        i, at, start, stop, following = first - 1, 0, 0, 0, 0
        new_token, new_count, new_doc, new_ends = 0, 0, 0, False
        mid_token, mid_count, mid_doc, mid_ends = 0, 0, 0, False
        old_token, old_count, old_doc, old_ends, begins = 0, 0, 0, False, True
        while True:
            # The next tile: of this document, or of the next one that has tokens.
            while at >= stop and i + 1 < last:
                i += 1
                doc = i if rows == 0 else load_i64(rows + 8 * i)
                start, stop = load_i64(offsets + 8 * doc), load_i64(offsets + 8 * (doc + 1))
                at = start
                # The next document may stand anywhere: it is fetched while this one is scored.
                following = stop
                if rows != 0 and i + 1 < last:
                    following = load_i64(offsets + 8 * load_i64(rows + 8 * (i + 1)))
                if start == stop or n_blocks == 0:
                    store_f32(out + 4 * i, zero)
                    at = stop
            old_token, old_count, old_doc, old_ends = mid_token, mid_count, mid_doc, mid_ends
            mid_token, mid_count, mid_doc, mid_ends = new_token, new_count, new_doc, new_ends
            new_count = 0
            if at < stop:
                new_token, new_doc = at, i
                new_count = stop - at if stop - at < TILE_ROWS else TILE_ROWS
                at += new_count
                new_ends = at == stop
            elif mid_count == 0 and old_count == 0:
                break
            if mid_count > 0:
                rows_ = plain + (step - 1 & held_mask) * n_plain
                place = sums + (step - 1 & 1) * n_sums
                if keeps:
                    held(query, starts, rows_, place)
                else:
                    read(query, starts, rows_, place)
            if new_count > 0:
                ahead = following + new_token - start
                for line in range(0, TILE_ROWS * n_bytes, LINE):
                    fetch(codes + ahead * n_bytes + line)
                fetch(cells + (4 * ahead if wide != 0 else 2 * ahead))
                fetch(norms + ahead)
                rows_, where = plain + (step & held_mask) * n_plain, row_of + (step & held_mask) * n_rows
                for j in range(new_count):
                    unpack(codes + (new_token + j) * n_bytes, weights, rows_ + j * dim)
                    row = table + 4 * load_cell(cells, wide, new_token + j) * n_blocks * lanes
                    store_i64(where + 8 * j, row)
                    for line in range(0, 4 * lanes, LINE):
                        fetch(row + line)
            if old_count > 0:
                if begins:
                    for block in range(n_blocks):
                        fill(best + 4 * block * lanes, lowest)
                where = row_of + (step - 2 & held_mask) * n_rows
                place = sums + (step - 2 & 1) * n_sums
                for block in range(n_blocks):
                    next_place = sums + (2 + (block & 1)) * n_sums
                    if block + 1 < n_blocks:
                        shift = 4 * (block + 1) * lanes
                        rows_ = plain + (step - 2 & held_mask) * n_plain
                        read(query + (block + 1) * dim * lanes, starts + shift, rows_, next_place)
                    shift = 4 * block * lanes
                    if block > 0:
                        for j in range(old_count):
                            store_i64(where + 8 * j, load_i64(where + 8 * j) + 4 * lanes)
                    fold(place, scales + shift, where, norms + old_token, factors, old_count, best + shift)
                    place = next_place
                begins = old_ends
                if old_ends:
                    total = zero
                    for block in range(n_blocks):
                        total += sum_lanes(best + 4 * block * lanes, n_query - block * lanes)
                    store_f32(out + 4 * old_doc, total)
            step += 1
        release()

    return maxsim_residual


def make_maxsim_bytes(isa: str, dim: int) -> Callable[..., None]:
    lanes, layout = WIDTH[isa] * VECTORS, Layout(VECTORS, dim)
    begin, fold = _begin(layout), fold_bytes(VECTORS)
    held, read = products(layout, layout.holds_query()), products(layout, False)
    fill, sum_lanes = fill_f32(WIDTH[isa], VECTORS), sum_lanes_of(lanes)
    lowest, zero = np.float32(-np.inf), np.float32(0)
    n_sums = VECTORS * TILE_BYTES

    def maxsim_bytes(  # type: ignore[no-untyped-def]
        query, scales, biases, n_query, values, token_scales, offsets, rows, scratch, out, first, last
    ):
        """As `maxsim.make_maxsim_bytes`'s. scratch: see `shapes.scratch_bytes`."""
        n_blocks = (n_query + lanes - 1) // lanes
        base = (scratch + LINE - 1) & -LINE
        sums = base + _SUMS  # of two tiles' tokens in turn
        few = sums + 4 * n_sums  # fewer tokens than a tile has rows
        starts = few + TILE_ROWS * dim
        best = starts + 4 * n_blocks * lanes
        keeps = begin(base, query, biases, starts, n_blocks)
        for i in range(first, last):
            doc = i if rows == 0 else load_i64(rows + 8 * i)
            start, stop = load_i64(offsets + 8 * doc), load_i64(offsets + 8 * (doc + 1))
            source, end = values + start * dim, stop - start
            if 0 < end < TILE_ROWS:
                for d in range(0, end * dim, 4):
                    store_u32(few + d, load_u32(source + d))
                source = few
            total = zero
            block = 0
            while block * lanes < n_query and end > 0:
                shift, lanes_of = 4 * block * lanes, query + block * dim * lanes
                fill(best, lowest)
                # The last tile overlaps the one before it: a maximum may see a token twice.
                old_at, old_count, t, step = 0, 0, 0, 0
                while t < end or old_count > 0:
                    at = t if t < end - TILE_ROWS or end < TILE_ROWS else end - TILE_ROWS
                    if t < end:
                        place = sums + (step & 1) * n_sums
                        if keeps:
                            held(lanes_of, starts + shift, source + at * dim, place)
                        else:
                            read(lanes_of, starts + shift, source + at * dim, place)
                    if old_count > 0:
                        place = sums + (step - 1 & 1) * n_sums
                        factors = token_scales + 4 * (start + old_at)
                        fold(place, scales + shift, factors, old_count, best)
                    old_at = at
                    old_count = 0 if t >= end else (end if end < TILE_ROWS else TILE_ROWS)
                    t += TILE_ROWS
                    step += 1
                total += sum_lanes(best, n_query - block * lanes)
                block += 1
            store_f32(out + 4 * i, total)
        release()

    return maxsim_bytes


def make_nearest_centroid(isa: str, dim: int) -> Callable[..., None]:
    lanes, layout = WIDTH[isa] * VECTORS, Layout(VECTORS, dim)
    begin, hold, holds = configure(layout), hold_query(layout), layout.holds_query()
    multiply, fold = products(layout, holds), fold_best(VECTORS, CENTROID_PARTS)
    settle = settled_by_floats(dim, lanes)
    n_sums, least = VECTORS * TILE_BYTES, -(2**31)

    def nearest_centroid(  # type: ignore[no-untyped-def]
        codes, values, levels, centroids, n_rounds, n_centroids, scratch, out, n_values, first, last
    ):
        """As `centroids.make_nearest_centroid`'s, with n_rounds * CENTROID_PARTS a multiple of 16. scratch:
        see `shapes.scratch_bytes`."""
        base = (scratch + LINE - 1) & -LINE
        sums = base + _SUMS  # of two tiles in turn
        nothing = sums + 2 * n_sums
        best = nothing + 4 * lanes
        found = best + 4 * lanes * CENTROID_PARTS
        n_tiles = n_rounds * CENTROID_PARTS // TILE_ROWS
        for lane in range(lanes):
            store_u32(nothing + 4 * lane, 0)
        begin(base)
        for block in range(first, last):
            query = codes + block * lanes * dim
            for slot in range(CENTROID_PARTS * lanes):
                store_u32(best + 4 * slot, least)
                store_u32(found + 4 * slot, 0)
            if holds:
                hold(query)
            multiply(query, nothing, levels, sums)
            for tile in range(n_tiles):
                if tile + 1 < n_tiles:
                    place = sums + (tile + 1 & 1) * n_sums
                    multiply(query, nothing, levels + (tile + 1) * TILE_ROWS * dim, place)
                fold(sums + (tile & 1) * n_sums, tile * TILE_ROWS, best, found)
            settle(found, block, values, centroids, n_centroids, n_values, out)
        release()

    return nearest_centroid
