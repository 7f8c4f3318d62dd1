"""Programs over the centroids of inverted lists: learning them, the nearest one of a token, and a query's
products with some.

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
    load_i64,
    load_u8,
    store_i64,
    store_u32,
)
from latebolt.kernels.targets import WIDTH
from latebolt.kernels.vector.conversions import sqrt_f32
from latebolt.kernels.vector.dots import add_to, dot
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
    n_bytes, decode, product = dim * bits // 8, _decode_of(dim, bits), dot(WIDTH[isa], dim, "i8")

    def nearest_list(  # type: ignore[no-untyped-def]
        cells, wide, codes, norms, factors, weights, spread, centroids, starts, rows, value, out, first, last
    ):
        """Tokens as in `decode_residual`; starts int64 [n_centroids + 1], first row of each centroid; rows
        int8 [starts[-1]][dim]; out u32 [n], of each token the nearest row of its centroid's, the first of
        equals; tokens first..last-1. scratch: value float32 [dim]."""
        for token in range(first, last):
            cell = load_cell(cells, wide, token)
            begin, end = load_i64(starts + 8 * cell), load_i64(starts + 8 * (cell + 1))
            chosen = begin
            if end - begin > 1:
                pair = factors + 8 * load_u8(norms + token)
                decode(codes + token * n_bytes, centroids + 4 * dim * cell, pair, weights, spread, value)
                top = np.float32(-np.inf)
                for row in range(begin, end):
                    total = product(value, rows + row * dim)
                    if total > top:
                        top = total
                        chosen = row
            store_u32(out + 4 * token, chosen)

    return nearest_list


def make_score_lists(isa: str, dim: int) -> Callable[..., None]:
    product = dot(WIDTH[isa], dim, "i8")

    def score_lists(query, ranges, places, rows, out, first, last):  # type: ignore[no-untyped-def]
        """Query float32 [n_query][dim]; ranges int64 [n][3]: query token, first and last + 1 row; places
        int64 [n], where in out the range's first product stands; rows int8 [n_rows][dim]; out float32, 127
        times the products; ranges first..last-1."""
        for i in range(first, last):
            value = query + 4 * dim * load_i64(ranges + 24 * i)
            begin, end = load_i64(ranges + 24 * i + 8), load_i64(ranges + 24 * i + 16)
            place = out + 4 * load_i64(places + 8 * i)
            for row in range(begin, end):
                store_f32(place + 4 * (row - begin), product(value, rows + row * dim))

    return score_lists
