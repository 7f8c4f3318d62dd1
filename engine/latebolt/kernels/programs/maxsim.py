"""MaxSim against whole vectors: float32, float16, or one byte a dimension.

A document of fewer tokens than a tile is scored token by token, or padded with its last one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from latebolt.kernels.programs.parts import inline, load_f32, load_i64, store_i64, sum_lanes_of
from latebolt.kernels.shapes import CODE_TILE, TILE, VECTORS
from latebolt.kernels.targets import WIDTH
from latebolt.kernels.vector.byte_tiles import tile_u8
from latebolt.kernels.vector.conversions import widen_f16
from latebolt.kernels.vector.float_tiles import tile_f32
from latebolt.kernels.vector.memory import fill_f32, store_f32


def make_maxsim_float32(isa: str) -> Callable[..., None]:
    @inline
    def where_they_stand(values: int, token: int, count: int, dim: int, buffer: int) -> int:
        return values + 4 * token * dim

    return _maxsim_floats(isa, where_they_stand)


def make_maxsim_float16(isa: str) -> Callable[..., None]:
    widen = widen_f16(isa)

    @inline
    def widened(values: int, token: int, count: int, dim: int, buffer: int) -> int:
        widen(values + 2 * token * dim, buffer, count * dim // 4)
        return buffer

    return _maxsim_floats(isa, widened)


def _maxsim_floats(isa: str, read: Any) -> Callable[..., None]:
    """MaxSim with float32 dot products.

    Args:
        read: (values, token, count, dim, buffer) -> where `count` tokens stand as float32; that may be the
            buffer.
    """
    width = WIDTH[isa]
    lanes = width * VECTORS
    tile, single = tile_f32(width, VECTORS, TILE), tile_f32(width, VECTORS, 1)
    fill, sum_lanes = fill_f32(width, VECTORS), sum_lanes_of(lanes)
    lowest, zero = np.float32(-np.inf), np.float32(0)

    def maxsim_floats(query, n_query, values, offsets, rows, dim, scratch, out, first, last):  # type: ignore[no-untyped-def]
        """Query lanes, their number, float32 or float16 [n_tokens][dim], int64 offsets, which documents to
        score (int64, 0 = all), dim, scratch, out, range. scratch: float32 [lanes + TILE * dim]."""
        buffer = scratch + 4 * lanes
        for i in range(first, last):
            doc = i if rows == 0 else load_i64(rows + 8 * i)
            start, stop = load_i64(offsets + 8 * doc), load_i64(offsets + 8 * (doc + 1))
            total = zero
            block = 0
            while block * lanes < n_query and start < stop:
                q = query + 4 * block * dim * lanes
                fill(scratch, lowest)
                t = start
                while t < stop:
                    if stop - start < TILE:
                        single(q, read(values, t, 1, dim, buffer), dim, scratch)
                        t += 1
                    else:
                        # The last tile overlaps the one before it: a maximum may see a token twice.
                        at = t if t < stop - TILE else stop - TILE
                        tile(q, read(values, at, TILE, dim, buffer), dim, scratch)
                        t = at + TILE
                total += sum_lanes(scratch, n_query - block * lanes)
                block += 1
            store_f32(out + 4 * i, total)

    return maxsim_floats


def make_maxsim_bytes(isa: str, dim: int) -> Callable[..., None]:
    width = WIDTH[isa]
    lanes = width * VECTORS
    tile = tile_u8(width, VECTORS, CODE_TILE, dim, isa)
    fill, sum_lanes = fill_f32(width, VECTORS), sum_lanes_of(lanes)
    lowest, zero = np.float32(-np.inf), np.float32(0)

    def maxsim_bytes(  # type: ignore[no-untyped-def]
        query, scales, biases, n_query, values, token_scales, offsets, rows, scratch, out, first, last
    ):
        """Query int8 [n_blocks][dim / 4][lanes][4], scales float32 and biases int32 [n_blocks][lanes], values
        u8 [n_tokens][dim], token_scales float32 [n_tokens], offsets, rows as above.

        scratch: CODE_TILE addresses (int64), CODE_TILE scales (float32), CODE_TILE * dim bytes, lanes zeros
        (float32), lanes maxima (float32)."""
        few_scales = scratch + 8 * CODE_TILE
        few = few_scales + 4 * CODE_TILE
        nothing = few + CODE_TILE * dim
        best = nothing + 4 * lanes
        fill(nothing, zero)
        for j in range(CODE_TILE):
            store_i64(scratch + 8 * j, nothing)
        for i in range(first, last):
            doc = i if rows == 0 else load_i64(rows + 8 * i)
            start, stop = load_i64(offsets + 8 * doc), load_i64(offsets + 8 * (doc + 1))
            source, source_scales, end = values + start * dim, token_scales + 4 * start, stop - start
            if start < stop and end < CODE_TILE:
                for j in range(CODE_TILE):
                    token = start + (j if j < end else end - 1)
                    for d in range(0, dim, 4):
                        store_f32(few + j * dim + d, load_f32(values + token * dim + d))
                    store_f32(few_scales + 4 * j, load_f32(token_scales + 4 * token))
                source, source_scales, end = few, few_scales, CODE_TILE
            total = zero
            block = 0
            while block * lanes < n_query and start < stop:
                shift = 4 * block * lanes
                fill(best, lowest)
                t = 0
                while t < end:
                    at = t if t < end - CODE_TILE else end - CODE_TILE
                    tile(
                        query + block * dim * lanes, scales + shift, biases + shift,
                        source + at * dim, scratch, nothing, source_scales + 4 * at, best,
                    )  # fmt: skip
                    t = at + CODE_TILE
                total += sum_lanes(best, n_query - block * lanes)
                block += 1
            store_f32(out + 4 * i, total)

    return maxsim_bytes
