"""MaxSim against residual codes, which are unpacked a tile at a time and never decoded to vectors.

The program that most searches spend their time in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from latebolt.kernels.programs.parts import load_cell, load_f32, load_i64, load_u8, store_i64, sum_lanes_of
from latebolt.kernels.shapes import VECTORS, code_tile
from latebolt.kernels.targets import WIDTH
from latebolt.kernels.vector.byte_tiles import tile_u8
from latebolt.kernels.vector.instructions import LINE
from latebolt.kernels.vector.memory import fetch, fill_f32, store_f32
from latebolt.kernels.vector.residual_codes import unpack_codes


def make_maxsim_residual(
    isa: str, dim: int, bits: int, vectors: int = VECTORS, parts: int = 1
) -> Callable[..., None]:
    width, n_tile = WIDTH[isa], code_tile(vectors)
    lanes, n_bytes = width * vectors, dim * bits // 8
    tile = tile_u8(width, vectors, n_tile, dim, isa, parts)
    unpack = unpack_codes(dim, bits, isa)
    fill, sum_lanes = fill_f32(width, vectors), sum_lanes_of(lanes, parts)
    lowest, zero = np.float32(-np.inf), np.float32(0)

    def maxsim_residual(  # type: ignore[no-untyped-def]
        query, scales, biases, n_query, table, codes, cells, wide, norms, factors, weights,
        offsets, rows, scratch, out, first, last,
    ):  # fmt: skip
        """Query int8 [n_blocks][dim / 4][lanes][4] (of few tokens: see `vector.byte_tiles.tile_u8`), scales
        float32 and biases int32 [n_blocks][lanes], table float32 [n_centroids][n_blocks][lanes] (of few
        tokens a column for each all the same), codes u8 [n_tokens][dim * bits / 8], cells u16 (u32 when
        wide), norms u8 [n_tokens], factors float32 [N_FACTORS][2] of centroid and residual, weights u8
        [N_LEVELS], offsets, rows as in `maxsim`.

        scratch: n_tile row addresses (int64), n_tile factors of the centroid and as many of the residual
        (float32), n_tile * dim bytes, then n_blocks * lanes maxima (float32)."""
        n_blocks = (n_query + lanes - 1) // lanes
        tile_shares = scratch + 8 * n_tile
        tile_norms = tile_shares + 4 * n_tile
        plain = tile_norms + 4 * n_tile
        best = plain + n_tile * dim
        for i in range(first, last):
            doc = i if rows == 0 else load_i64(rows + 8 * i)
            start, stop = load_i64(offsets + 8 * doc), load_i64(offsets + 8 * (doc + 1))
            # The next document may stand anywhere: it is fetched while this one is scored.
            following = stop
            if rows != 0 and i + 1 < last:
                following = load_i64(offsets + 8 * load_i64(rows + 8 * (i + 1)))
            total = zero
            if start < stop:
                for block in range(n_blocks):
                    fill(best + 4 * block * lanes, lowest)
                at = start
                while at < stop:
                    ahead = following + at - start
                    for line in range(0, n_tile * n_bytes, LINE):
                        fetch(codes + ahead * n_bytes + line)
                    fetch(cells + (4 * ahead if wide != 0 else 2 * ahead))
                    fetch(norms + ahead)
                    if rows != 0 and at + 2 * n_tile <= stop:
                        # Of a document among many the centroids' products are far apart, too.
                        for j in range(n_tile, 2 * n_tile):
                            row = table + 4 * load_cell(cells, wide, at + j) * n_blocks * lanes
                            for line in range(0, 4 * lanes, LINE):
                                fetch(row + line)
                    for j in range(n_tile):
                        # Past the end the last token is scored again: a maximum may see it twice.
                        token = at + j if at + j < stop else stop - 1
                        unpack(codes + token * n_bytes, weights, plain + j * dim)
                        cell = load_cell(cells, wide, token)
                        store_i64(scratch + 8 * j, table + 4 * cell * n_blocks * lanes)
                        pair = factors + 8 * load_u8(norms + token)
                        store_f32(tile_shares + 4 * j, load_f32(pair))
                        store_f32(tile_norms + 4 * j, load_f32(pair + 4))
                    for block in range(n_blocks):
                        shift = 4 * block * lanes
                        if block > 0:
                            for j in range(n_tile):
                                store_i64(scratch + 8 * j, load_i64(scratch + 8 * j) + 4 * lanes)
                        tile(
                            query + block * dim * lanes, scales + shift, biases + shift,
                            plain, scratch, tile_shares, tile_norms, best + shift,
                        )  # fmt: skip
                    at += n_tile
                for block in range(n_blocks):
                    total += sum_lanes(best + 4 * block * lanes, n_query - block * lanes)
            store_f32(out + 4 * i, total)

    return maxsim_residual
