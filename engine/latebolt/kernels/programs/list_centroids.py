"""Programs over the centroids of inverted lists: learning them, the nearest one of a token, and the
lists nearest to a query.

A codec's centroid may have several lists, each with a centroid of its own in bytes: 127 times a unit vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from latebolt.kernels.programs.parts import (
    inline,
    load_cell,
    load_f32,
    load_i32,
    load_i64,
    load_u8,
    load_u32,
    store_i64,
    store_u32,
)
from latebolt.kernels.shapes import (
    CODE_TILE,
    GROUP_NONE,
    GROUP_PARTS,
    LIST_STEPS,
    MOST_GAIN,
    VECTORS,
    group_block,
)
from latebolt.kernels.targets import WIDTH
from latebolt.kernels.vector.conversions import sqrt_f32
from latebolt.kernels.vector.dots import add_to, dot
from latebolt.kernels.vector.group_tiles import best_of_group, to_codes
from latebolt.kernels.vector.memory import store_f32


def _decode_of(dim: int, bits: int) -> Any:
    """Writes what a token's codes say, float32 [dim], at an address."""
    n_bytes, mask = dim * bits // 8, 2**bits - 1

    @inline
    def decode(code: int, centroid: int, pair: int, weights: int, spread: int, out: int) -> None:
        share, norm = load_f32(pair), load_f32(pair + 4)
        for field in range(8 // bits):
            for j in range(n_bytes):
                d = 4 * (field * n_bytes + j)
                weight = load_f32(weights + 4 * (load_u8(code + j) >> (bits * field) & mask))
                value = share * load_f32(centroid + d) + norm * weight * load_f32(spread + d)
                store_f32(out + d, value)

    return decode


def make_decode_residual(isa: str, dim: int, bits: int) -> Callable[..., None]:
    n_bytes, decode = dim * bits // 8, _decode_of(dim, bits)

    def decode_residual(  # type: ignore[no-untyped-def]
        cells, wide, codes, norms, factors, weights, spread, centroids, tokens, out, first, last
    ):
        """Cells u16 (u32 when wide), codes u8 [n][dim * bits / 8] and norms u8 of tokens; factors float32
        [N_FACTORS][2], weights float32 [2**bits], spread float32 [dim], centroids float32 [n_centroids][dim];
        tokens int64 [m], which of them; out float32 [m][dim]; first..last-1 of these."""
        for i in range(first, last):
            token = load_i64(tokens + 8 * i)
            centroid = centroids + 4 * dim * load_cell(cells, wide, token)
            pair = factors + 8 * load_u8(norms + token)
            decode(codes + token * n_bytes, centroid, pair, weights, spread, out + 4 * i * dim)

    return decode_residual


def make_cluster_rows(isa: str, dim: int) -> Callable[..., None]:
    zero, one, least = np.float32(0), np.float32(1), np.float32(1e-12)
    product, add = dot(WIDTH[isa], dim, "f32"), add_to(WIDTH[isa], dim)

    @inline
    def nearest(value: int, centres: int, begin: int, end: int) -> int:
        chosen, top = begin, np.float32(-np.inf)
        for c in range(begin, end):
            total = product(value, centres + 4 * c * dim)
            if total > top:
                top = total
                chosen = c
        return chosen

    def cluster_rows(values, ends, starts, centres, rounds, sums, counts, first, last):  # type: ignore[no-untyped-def]
        """Values float32 [n][dim], of group g rows ends[g]..ends[g + 1] - 1; centres float32 [m][dim], of
        group g rows starts[g]..starts[g + 1] - 1, made here: spherical k-means in `rounds`, which begins
        with rows spread evenly over the group's; ends and starts int64. Groups first..last-1, each with at
        least as many rows as centres. A centre that no row is nearest to stays where it is.

        scratch: sums float32 [most centres of a group][dim], counts int64 [the same]."""
        for group in range(first, last):
            begin, end = load_i64(starts + 8 * group), load_i64(starts + 8 * (group + 1))
            low, high = load_i64(ends + 8 * group), load_i64(ends + 8 * (group + 1))
            for c in range(begin, end):
                row = low + (2 * (c - begin) + 1) * (high - low) // (2 * (end - begin))
                for d in range(dim):
                    store_f32(centres + 4 * (c * dim + d), load_f32(values + 4 * (row * dim + d)))
            for _ in range(rounds):
                for c in range(end - begin):
                    store_i64(counts + 8 * c, 0)
                    for d in range(dim):
                        store_f32(sums + 4 * (c * dim + d), zero)
                for row in range(low, high):
                    value = values + 4 * row * dim
                    c = nearest(value, centres, begin, end) - begin
                    store_i64(counts + 8 * c, load_i64(counts + 8 * c) + 1)
                    add(sums + 4 * c * dim, value)
                for c in range(end - begin):
                    if load_i64(counts + 8 * c) > 0:
                        square = zero
                        for d in range(dim):
                            x = load_f32(sums + 4 * (c * dim + d))
                            square += x * x
                        inverse = one / sqrt_f32(square if square > least else least)
                        for d in range(dim):
                            x = load_f32(sums + 4 * (c * dim + d)) * inverse
                            store_f32(centres + 4 * ((begin + c) * dim + d), x)

    return cluster_rows


def make_nearest_list(isa: str, dim: int, bits: int) -> Callable[..., None]:
    n_bytes, decode, width = dim * bits // 8, _decode_of(dim, bits), WIDTH[isa]
    block, n_lanes = group_block(width), width * VECTORS
    codes_of, search = to_codes(dim, n_lanes), best_of_group(width, CODE_TILE, dim, isa)
    best_bytes = 8 * GROUP_PARTS

    def nearest_list(  # type: ignore[no-untyped-def]
        cells, wide, codes, norms, factors, weights, spread, centroids, n_cells, starts, blocks, lanes,
        biases, members, ones, ends, listed, scratch, best, out, first, last,
    ):  # fmt: skip
        """Tokens as in `decode_residual`; starts int64 [n_cells + 1], first row of each centroid; of its
        rows' blocks, blocks[c] to blocks[c + 1] - 1 of int64 [n_cells + 1], lanes, biases and members as in
        `nearest_grouped`; ones float32 [dim]. Out u32 [n]: of each token the nearest row of its centroid's,
        the first of equals; tokens first..last-1, whose centroids are below n_cells.

        scratch: ends int64 [n_cells + 1]; listed u32 [last - first]; float32 [dim], int8 [dim][lanes],
        int64 [CODE_TILE] and u8 [CODE_TILE][dim]; best int32 [CODE_TILE][2][GROUP_PARTS]."""
        value, lane = scratch, scratch + 4 * dim
        bests = lane + dim * n_lanes
        tile = bests + 8 * CODE_TILE
        for cell in range(n_cells + 1):
            store_i64(ends + 8 * cell, 0)
        for token in range(first, last):
            place = ends + 8 * (load_cell(cells, wide, token) + 1)
            store_i64(place, load_i64(place) + 1)
        for cell in range(1, n_cells + 1):
            store_i64(ends + 8 * cell, load_i64(ends + 8 * cell) + load_i64(ends + 8 * (cell - 1)))
        # Filled, ends[c] is where the tokens of c end; before, where they begin.
        for token in range(first, last):
            place = ends + 8 * load_cell(cells, wide, token)
            at = load_i64(place)
            store_u32(listed + 4 * at, token - first)
            store_i64(place, at + 1)
        for t in range(CODE_TILE):
            store_i64(bests + 8 * t, best + t * best_bytes)
        at = 0
        for cell in range(n_cells):
            end, row = load_i64(ends + 8 * cell), load_i64(starts + 8 * cell)
            start = load_i64(blocks + 8 * cell)
            n_blocks = load_i64(blocks + 8 * (cell + 1)) - start
            if load_i64(starts + 8 * (cell + 1)) - row <= 1:
                for i in range(at, end):
                    store_u32(out + 4 * (first + load_u32(listed + 4 * i)), row)
                at = end
            while at < end:
                here = end - at if end - at < CODE_TILE else CODE_TILE
                for t in range(here):
                    token = first + load_u32(listed + 4 * (at + t))
                    pair = factors + 8 * load_u8(norms + token)
                    decode(codes + token * n_bytes, centroids + 4 * dim * cell, pair, weights, spread, value)
                    codes_of(value, ones, lane, tile + t * dim)
                for t in range(CODE_TILE):
                    for part in range(GROUP_PARTS):
                        store_u32(best + t * best_bytes + 4 * part, GROUP_NONE)
                search(
                    tile, bests, lanes + start * block * dim, biases + 4 * start * block,
                    members + 4 * start * block, n_blocks,
                )  # fmt: skip
                for t in range(here):
                    top, chosen = GROUP_NONE, row
                    for part in range(GROUP_PARTS):
                        total = load_i32(best + t * best_bytes + 4 * part)
                        number = load_u32(best + t * best_bytes + 4 * (GROUP_PARTS + part))
                        if total > top or (total == top > GROUP_NONE and number < chosen):
                            top = total
                            chosen = number
                    store_u32(out + 4 * (first + load_u32(listed + 4 * (at + t))), chosen)
                at += here

    return nearest_list


def _step_of(value: Any, least: Any, scale: Any) -> int:
    """Which of LIST_STEPS steps a product is in; the first, too, for one that is not a number."""
    at = (value - least) * scale
    at = at if at > np.float32(0) else np.float32(0)
    return np.int64(at if at < np.float32(LIST_STEPS - 1) else np.float32(LIST_STEPS - 1))


def make_choose_lists(isa: str, dim: int) -> Callable[..., None]:
    product, step_of = dot(WIDTH[isa], dim, "i8"), inline(_step_of)
    half, zero, one = np.float32(0.5), np.float32(0), np.float32(1)
    steps, most_gain = np.float32(LIST_STEPS - 1), np.float32(MOST_GAIN)

    def choose_lists(  # type: ignore[no-untyped-def]
        query, ranges, ends, rows, offsets, wanted, unit, products, counts, out, found, first, last
    ):
        """Query float32 [n_query][dim]; ranges int64 [n][2], first and last + 1 row; ends int64
        [n_query + 1], which of them each token looks at; rows int8 [n_rows][dim]; offsets int64 [n_rows + 1],
        where the list of each begins; unit float32 [1], what a gain counts in, times 127. Out int64
        [n_query][wanted][4]: of each of the `wanted` lists (or all) with the largest products, these falling,
        where it begins and ends, its gain and the token's number from 1 up; found int64 [n_query], how many.
        Tokens first..last-1.

        Products are told apart in LIST_STEPS steps between a token's least and largest. scratch: products
        float32, of all rows of a token; counts int64 [LIST_STEPS]."""
        for token in range(first, last):
            value = query + 4 * dim * token
            low, high = load_i64(ends + 8 * token), load_i64(ends + 8 * (token + 1))
            n = 0
            least, largest = np.float32(np.inf), np.float32(-np.inf)
            for i in range(low, high):
                for row in range(load_i64(ranges + 16 * i), load_i64(ranges + 16 * i + 8)):
                    total = product(value, rows + row * dim)
                    least = total if total < least else least
                    largest = total if total > largest else largest
                    store_f32(products + 4 * n, total)
                    n += 1
            for step in range(LIST_STEPS):
                store_i64(counts + 8 * step, 0)
            span = largest - least
            scale = steps / span if span > zero else zero
            for i in range(n):
                place = counts + 8 * step_of(load_f32(products + 4 * i), least, scale)
                store_i64(place, load_i64(place) + 1)
            # From numbers in each step to places in the result, down to the step of the nearest list that is
            # not visited. Where all are, what is not seen is taken to be farther than all.
            passed, lowest, taken = -1, least if least < zero else zero, 0
            for i in range(LIST_STEPS):
                step = LIST_STEPS - 1 - i
                here = load_i64(counts + 8 * step)
                store_i64(counts + 8 * step, taken)
                taken += here
                if taken > wanted and passed < 0:
                    passed = step
            away = zero if passed >= 0 else (least - lowest) / load_f32(unit) + one
            seen = passed if passed >= 0 else 0
            a_step = span / (steps * load_f32(unit))
            at = 0
            for i in range(low, high):
                for row in range(load_i64(ranges + 16 * i), load_i64(ranges + 16 * i + 8)):
                    step = step_of(load_f32(products + 4 * at), least, scale)
                    at += 1
                    place = load_i64(counts + 8 * step)
                    if place < wanted:
                        store_i64(counts + 8 * step, place + 1)
                        mine = out + 32 * (token * wanted + place)
                        gain = np.float32(step - seen) * a_step + away + half
                        gain = gain if gain > one else one
                        store_i64(mine, load_i64(offsets + 8 * row))
                        store_i64(mine + 8, load_i64(offsets + 8 * row + 8))
                        store_i64(mine + 16, np.int64(gain if gain < most_gain else most_gain))
                        store_i64(mine + 24, token + 1)
            store_i64(found + 8 * token, n if n < wanted else wanted)

    return choose_lists
