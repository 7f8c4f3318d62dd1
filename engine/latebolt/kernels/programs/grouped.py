"""The program of the two-level search for the nearest centroid among many: groups first, then theirs.

What is found for a vector depends on nothing but the vector: not on its company, nor on how it is cut.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from latebolt.kernels.programs.parts import (
    load_f32,
    load_i32,
    load_i64,
    load_u32,
    store_i64,
    store_u32,
)
from latebolt.kernels.shapes import (
    CODE_TILE,
    GROUP_BITS,
    GROUP_NONE,
    GROUP_PARTS,
    GROUPS_TRIED,
    SETTLED,
    VECTORS,
    group_block,
)
from latebolt.kernels.targets import WIDTH
from latebolt.kernels.vector.group_tiles import best_of_group, best_rows, dots, to_codes
from latebolt.kernels.vector.instructions import LINE
from latebolt.kernels.vector.memory import fetch

AHEAD = 8  # vectors whose candidates are fetched before they are looked at
NOBODY = 0xFFFFFFFF


def make_nearest_grouped(isa: str, dim: int) -> Callable[..., None]:
    width = WIDTH[isa]
    n_lanes, block = width * VECTORS, group_block(width)
    codes_of = to_codes(dim, n_lanes)
    score = dots(width, VECTORS, CODE_TILE, dim, isa)
    choose = best_rows(width, VECTORS, GROUPS_TRIED, dim)
    search = best_of_group(width, CODE_TILE, dim, isa)
    last_group = (1 << GROUP_BITS) - 1
    best_bytes = 8 * GROUP_PARTS
    highest, none = (1 << 63) - 1, GROUP_NONE << 32

    def nearest_grouped(  # type: ignore[no-untyped-def]
        values, spread, groups, n_groups, starts, lanes, biases, members, centroids, rows, best, tried, ends,
        listed, scratch, out, first, last,
    ):  # fmt: skip
        """Values float32 [..][dim], spread float32 [dim]; groups u8 [n_groups][dim]; of each group's blocks,
        starts[g] to starts[g + 1] - 1 of int64 [n_groups + 1]: lanes int8 [n_blocks][dim / 4][block][4],
        biases int32 [n_blocks][block], members u32 [n_blocks][block], rows of the float32 centroids
        [..][dim]; out int64, of vectors first..last-1 of values. See `shapes.group_block`.

        For n = last - first vectors, rows u8 [n][dim], best int32 [n][2][GROUP_PARTS], tried int32 [whole
        blocks of n][GROUPS_TRIED][lanes], ends int64 [n_groups + 1], listed u32 [n][GROUPS_TRIED]; scratch:
        int8 [dim][lanes] and int32 [n_groups][lanes], in whose beginning rows of a tile lie, too."""
        n = last - first
        totals = scratch + dim * n_lanes
        for g in range(n_groups + 1):
            store_i64(ends + 8 * g, 0)
        for begin in range(0, n, n_lanes):
            here = n - begin if n - begin < n_lanes else n_lanes
            for lane in range(here):
                i = begin + lane
                codes_of(values + 4 * (first + i) * dim, spread, scratch + 4 * lane, rows + i * dim)
            score(scratch, groups, n_groups // CODE_TILE, totals)
            found = tried + 4 * begin * GROUPS_TRIED
            choose(totals, n_groups, found)
            for lane in range(here):
                for p in range(GROUPS_TRIED):
                    g = last_group - (load_u32(found + 4 * (p * n_lanes + lane)) & last_group)
                    store_i64(ends + 8 * (g + 1), load_i64(ends + 8 * (g + 1)) + 1)
                for part in range(GROUP_PARTS):
                    store_u32(best + (begin + lane) * best_bytes + 4 * part, GROUP_NONE)
        for g in range(1, n_groups + 1):
            store_i64(ends + 8 * g, load_i64(ends + 8 * g) + load_i64(ends + 8 * (g - 1)))
        # Filled, ends[g] is where the list of g ends; before, where it begins.
        for i in range(n):
            found = tried + 4 * (i // n_lanes * n_lanes * GROUPS_TRIED + i % n_lanes)
            for p in range(GROUPS_TRIED):
                place = ends + 8 * (last_group - (load_u32(found + 4 * p * n_lanes) & last_group))
                at = load_i64(place)
                store_u32(listed + 4 * at, i)
                store_i64(place, at + 1)
        bests, tile = scratch, scratch + 8 * CODE_TILE
        at = 0
        for g in range(n_groups):
            end, start = load_i64(ends + 8 * g), load_i64(starts + 8 * g)
            n_blocks = load_i64(starts + 8 * (g + 1)) - start
            while at < end:
                if n_blocks > 0:
                    for t in range(CODE_TILE):
                        i = load_u32(listed + 4 * (at + t if at + t < end else end - 1))
                        store_i64(bests + 8 * t, best + i * best_bytes)
                        for d in range(0, dim, 4):
                            store_u32(tile + t * dim + d, load_u32(rows + i * dim + d))
                    search(
                        tile, bests, lanes + start * block * dim, biases + 4 * start * block,
                        members + 4 * start * block, n_blocks,
                    )  # fmt: skip
                at += CODE_TILE
            at = end
        for begin in range(0, n, AHEAD):
            stop = begin + AHEAD if begin + AHEAD < n else n
            for i in range(begin, stop):
                mine, keys = best + i * best_bytes, scratch
                for part in range(GROUP_PARTS):
                    total = load_i32(mine + 4 * part)
                    number = load_u32(mine + 4 * (GROUP_PARTS + part))
                    # The larger, the better; of equals the lowest number; the same one twice is one key.
                    store_i64(keys + 8 * part, (total << 32) - number)
                before = highest
                for s in range(SETTLED):
                    most = none
                    for part in range(GROUP_PARTS):
                        key = load_i64(keys + 8 * part)
                        key = key if key < before else none
                        most = key if key > most else most
                    before = most
                    number = -most & 0xFFFFFFFF
                    store_u32(mine + 4 * s, number if most > none else NOBODY)
                    if most > none:
                        for line in range(0, 4 * dim, LINE):
                            fetch(centroids + 4 * number * dim + line)
            for i in range(begin, stop):
                row = values + 4 * (first + i) * dim
                chosen = 0
                top = np.float32(-np.inf)
                for s in range(SETTLED):
                    number = load_u32(best + i * best_bytes + 4 * s)
                    if number != NOBODY:
                        exact = np.float32(0)
                        for d in range(dim):
                            exact += load_f32(row + 4 * d) * load_f32(centroids + 4 * (number * dim + d))
                        if exact > top or (exact == top and number < chosen):
                            top = exact
                            chosen = number
                store_i64(out + 8 * (first + i), chosen)

    return nearest_grouped
