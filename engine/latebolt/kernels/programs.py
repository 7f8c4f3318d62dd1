"""The kernels themselves, written for numba over addresses; compiled by `native.py`.

Each function scores documents first..last-1 of a store against one query and writes one float32 a
document. What it must compute is defined in `reference.py`; which arguments it takes is in its
docstring, addresses first. Query lanes: float32 [n_blocks][dim][lanes], padded with zeros; padded lanes
never score. `scratch` is float32 [lanes + TILE * dim], private to the calling thread. A name may carry
what is fixed when it is compiled, as in `maxsim_residual:128x2` (dim, bits). With `x1` behind it a block of
query lanes is one vector and not two, for queries that fit: half the work. A further `x2` or `x4` divides the
dimensions over so many lanes of each query token, for queries of few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from latebolt.kernels import vector
from latebolt.kernels.isa import WIDTH
from latebolt.kernels.shapes import (
    BYTE_GROUP,
    CENTROID_PARTS,
    CODE_TILE,
    LIST_BLOCK,
    N_ARGUMENTS,
    N_FACTORS,
    TILE,
    VECTORS,
    code_tile,
)

CELLS = 4  # centroids' rows of bytes folded at a time: the largest so far is read and written once for them
# Of fitting the width of a residual to its codes: at 2 bits the first adds 0.0002 of cosine, the second
# 0.00003, a third nothing.
ROUNDS = 2
# How much more an error of a vector's length counts, which changes all its scores one way, than one of its
# direction: at 1 bit 0 leaves the worst hundredth 0.028 off, 32 leaves 0.014, and the cosine stays the same.
LENGTH_COUNTS = np.float32(32)

load_f32, load_i64, load_u8 = (vector.load_scalar(kind) for kind in ("f32", "i64", "u8"))
load_u16, load_u32 = vector.load_scalar("u16"), vector.load_scalar("u32")
store_u8, store_u32, store_i64 = (vector.store_integer(kind) for kind in ("u8", "u32", "i64"))
store_f32, fetch = vector.store_f32, vector.fetch


def build(name: str, isa: str) -> tuple[Callable[..., None], int]:
    """The Python function to compile and its number of arguments."""
    family, _, suffix = name.partition(":")
    shape = [int(part) for part in suffix.split("x") if part]
    if shape:
        return _SHAPED[family](isa, *shape), N_ARGUMENTS[family]
    return _BUILDERS[family](isa), N_ARGUMENTS[family]


def _inline(function: Callable[..., Any]) -> Any:
    return njit(inline="always", error_model="numpy", fastmath={"reassoc", "contract"})(function)


def _sum_lanes(lanes: int, parts: int = 1) -> Any:
    """The sum over used query tokens of the largest of their `parts` lanes."""
    zero = np.float32(0)

    @_inline
    def sum_lanes(best: int, used: int) -> Any:
        total = zero
        for lane in range(lanes if used > lanes else used):
            most = load_f32(best + 4 * lane * parts)
            for part in range(1, parts):
                other = load_f32(best + 4 * (lane * parts + part))
                most = other if other > most else most
            total += most
        return total

    return sum_lanes


def _maxsim_float32(isa: str) -> Callable[..., None]:
    width = WIDTH[isa]
    lanes = width * VECTORS
    tile, single = vector.tile_f32(width, VECTORS, TILE), vector.tile_f32(width, VECTORS, 1)
    fill, sum_lanes = vector.fill_f32(width, VECTORS), _sum_lanes(lanes)
    lowest, zero = np.float32(-np.inf), np.float32(0)

    def maxsim_float32(query, n_query, values, offsets, rows, dim, scratch, out, first, last):  # type: ignore[no-untyped-def]
        """Query lanes, their number, float32 [n_tokens][dim], int64 offsets, which documents to score
        (int64, 0 = all), dim, scratch, out, range."""
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
                        single(q, values + 4 * t * dim, dim, scratch)
                        t += 1
                    else:
                        # The last tile overlaps the one before it: a maximum may see a token twice.
                        at = t if t < stop - TILE else stop - TILE
                        tile(q, values + 4 * at * dim, dim, scratch)
                        t = at + TILE
                total += sum_lanes(scratch, n_query - block * lanes)
                block += 1
            store_f32(out + 4 * i, total)

    return maxsim_float32


def _maxsim_float16(isa: str) -> Callable[..., None]:
    width = WIDTH[isa]
    lanes = width * VECTORS
    tile, single = vector.tile_f32(width, VECTORS, TILE), vector.tile_f32(width, VECTORS, 1)
    fill, sum_lanes, widen = vector.fill_f32(width, VECTORS), _sum_lanes(lanes), vector.widen_f16(isa)
    lowest, zero = np.float32(-np.inf), np.float32(0)

    def maxsim_float16(query, n_query, values, offsets, rows, dim, scratch, out, first, last):  # type: ignore[no-untyped-def]
        """As maxsim_float32, with float16 values."""
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
                        widen(values + 2 * t * dim, buffer, dim // 4)
                        single(q, buffer, dim, scratch)
                        t += 1
                    else:
                        at = t if t < stop - TILE else stop - TILE
                        widen(values + 2 * at * dim, buffer, TILE * dim // 4)
                        tile(q, buffer, dim, scratch)
                        t = at + TILE
                total += sum_lanes(scratch, n_query - block * lanes)
                block += 1
            store_f32(out + 4 * i, total)

    return maxsim_float16


def _maxsim_bytes(isa: str, dim: int) -> Callable[..., None]:
    width = WIDTH[isa]
    lanes = width * VECTORS
    tile = vector.tile_u8(width, VECTORS, CODE_TILE, dim, isa)
    fill, sum_lanes = vector.fill_f32(width, VECTORS), _sum_lanes(lanes)
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


def _maxsim_residual(
    isa: str, dim: int, bits: int, vectors: int = VECTORS, parts: int = 1
) -> Callable[..., None]:
    width, n_tile = WIDTH[isa], code_tile(vectors)
    lanes, n_bytes = width * vectors, dim * bits // 8
    tile = vector.tile_u8(width, vectors, n_tile, dim, isa, parts)
    unpack = vector.unpack_codes(dim, bits, isa)
    fill, sum_lanes = vector.fill_f32(width, vectors), _sum_lanes(lanes, parts)
    lowest, zero = np.float32(-np.inf), np.float32(0)

    def maxsim_residual(  # type: ignore[no-untyped-def]
        query, scales, biases, n_query, table, codes, cells, wide, norms, factors, weights,
        offsets, rows, scratch, out, first, last,
    ):  # fmt: skip
        """Query int8 [n_blocks][dim / 4][lanes][4] (of few tokens: see `vector.tile_u8`), scales float32 and
        biases int32 [n_blocks][lanes], table float32 [n_centroids][n_blocks][lanes] (of few tokens a column
        for each all the same), codes u8 [n_tokens][dim * bits / 8], cells u16 (u32 when
        wide), norms u8 [n_tokens], factors float32 [N_FACTORS][2] of centroid and residual, weights u8
        [N_LEVELS], offsets, rows as above.

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
                    for line in range(0, n_tile * n_bytes, vector.LINE):
                        fetch(codes + ahead * n_bytes + line)
                    fetch(cells + (4 * ahead if wide != 0 else 2 * ahead))
                    fetch(norms + ahead)
                    for j in range(n_tile):
                        # Past the end the last token is scored again: a maximum may see it twice.
                        token = at + j if at + j < stop else stop - 1
                        unpack(codes + token * n_bytes, weights, plain + j * dim)
                        cell = load_u32(cells + 4 * token) if wide != 0 else load_u16(cells + 2 * token)
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


def _encode_residual(isa: str, dim: int, bits: int) -> Callable[..., None]:
    n_bytes, n_edges = dim * bits // 8, 2**bits - 1
    zero, one = np.float32(0), np.float32(1)
    least = np.float32(1e-6)

    @_inline
    def weight_of(x: Any, edges: int, steps: int) -> Any:
        """The weight nearest to x: the least one, and each step up whose edge lies below."""
        weight = load_f32(steps)
        for e in range(n_edges):
            weight += load_f32(steps + 4 * (e + 1)) if x > load_f32(edges + 4 * e) else zero
        return weight

    def encode_residual(  # type: ignore[no-untyped-def]
        values, cells, centroids, spread, edges, steps, factors, pairs, codes, norms, scratch, first, last
    ):
        """Values float32 [n][dim], cells int64 [n], centroids float32 [n_centroids][dim], spread float32
        [dim], edges float32 [2**bits - 1] between weights, steps float32 [2**bits + 1], the least weight,
        from each to the next, and the unit of a residual's width; factors float32 [N_FACTORS][2] or 0; pairs
        float32 [n][2], the best factors of centroid and residual; codes u8 [n][dim * bits / 8] and, where
        there are factors, norms u8 [n].

        scratch: float32 [3][dim] and [N_FACTORS], u8 [dim]."""
        scaled = scratch
        centre = scaled + 4 * dim
        residual = centre + 4 * dim
        errors = residual + 4 * dim
        plain = errors + 4 * N_FACTORS
        for i in range(first, last):
            value, cell = values + 4 * i * dim, centroids + 4 * load_i64(cells + 8 * i) * dim
            square = zero
            for d in range(dim):
                c = load_f32(cell + 4 * d)
                r = load_f32(value + 4 * d) - c
                x = r / load_f32(spread + 4 * d)
                store_f32(centre + 4 * d, c)
                store_f32(residual + 4 * d, r)
                store_f32(scaled + 4 * d, x)
                square += x * x
            width = vector.sqrt_f32(square / np.float32(dim)) / load_f32(steps + 4 * (n_edges + 1))
            for _ in range(ROUNDS):
                inverse = one / (width if width > least else least)
                along, length = zero, zero
                for d in range(dim):
                    x = load_f32(scaled + 4 * d) * inverse
                    w = weight_of(x, edges, steps) * load_f32(spread + 4 * d)
                    along += load_f32(residual + 4 * d) * w
                    length += w * w
                width = along / length if length > zero else width
            inverse = one / (width if width > least else least)
            cc, cw, ww, vc, vw = zero, zero, zero, zero, zero
            for d in range(dim):
                x = load_f32(scaled + 4 * d) * inverse
                w = weight_of(x, edges, steps) * load_f32(spread + 4 * d)
                c = load_f32(centre + 4 * d)
                v = c + load_f32(residual + 4 * d)
                cc += c * c
                cw += c * w
                ww += w * w
                vc += v * c
                vw += v * w
            for d in range(dim):
                x = load_f32(scaled + 4 * d) * inverse
                code = 0
                for e in range(n_edges):
                    code += 1 if x > load_f32(edges + 4 * e) else 0
                store_u8(plain + d, code)
            for j in range(n_bytes):
                packed = 0
                for field in range(8 // bits):
                    packed |= load_u8(plain + field * n_bytes + j) << (bits * field)
                store_u8(codes + i * n_bytes + j, packed)
            # The direction of share * centroid + norm * weights that is nearest to the vector's, unit length.
            share, norm = one, zero
            area = cc * ww - cw * cw
            if area > least * cc * ww:
                share, norm = (vc * ww - vw * cw) / area, (vw * cc - vc * cw) / area
            size = share * share * cc + norm * norm * ww + np.float32(2) * share * norm * cw
            size = one / vector.sqrt_f32(size) if size > zero else one
            share *= size
            norm *= size
            store_f32(pairs + 8 * i, share)
            store_f32(pairs + 8 * i + 4, norm)
            if factors != 0:
                along_a, along_b = share * cc + norm * cw, share * cw + norm * ww
                for k in range(N_FACTORS):
                    a, b = share - load_f32(factors + 8 * k), norm - load_f32(factors + 8 * k + 4)
                    length = a * along_a + b * along_b
                    error = a * a * cc + b * b * ww + np.float32(2) * a * b * cw
                    store_f32(errors + 4 * k, error + LENGTH_COUNTS * length * length)
                best = load_f32(errors)
                for k in range(N_FACTORS):
                    error = load_f32(errors + 4 * k)
                    best = error if error < best else best
                k = 0
                while k < N_FACTORS - 1 and load_f32(errors + 4 * k) != best:
                    k += 1
                store_u8(norms + i, k)

    return encode_residual


def _nearest_centroid(isa: str, dim: int) -> Callable[..., None]:
    width = WIDTH[isa]
    lanes = width * VECTORS
    search = vector.argmax_parts(width, VECTORS, CODE_TILE, CENTROID_PARTS, dim, isa)

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
            for lane in range(lanes):
                i = block * lanes + lane
                if i < n_values:
                    row = values + 4 * i * dim
                    chosen = n_centroids
                    top = np.float32(-np.inf)
                    for part in range(CENTROID_PARTS):
                        c = load_u32(scratch + 4 * (part * lanes + lane))
                        c = c if c < n_centroids else n_centroids - 1
                        total = np.float32(0)
                        for d in range(dim):
                            total += load_f32(row + 4 * d) * load_f32(centroids + 4 * (c * dim + d))
                        if total > top or (total == top and c < chosen):
                            top = total
                            chosen = c
                    store_i64(out + 8 * i, chosen)

    return nearest_centroid


def _maxsim_centroids(isa: str, lanes: int) -> Callable[..., None]:
    fold, fold_one = vector.max_rows_u8(lanes, CELLS), vector.max_rows_u8(lanes, 1)
    zero = np.float32(0)

    @_inline
    def row_of(cells: int, wide: int, token: int) -> int:
        return load_u32(cells + 4 * token) if wide != 0 else load_u16(cells + 2 * token)

    def maxsim_centroids(  # type: ignore[no-untyped-def]
        table, scale, cells, wide, offsets, rows, scratch, out, first, last
    ):
        """Table u8 [n_centroids][lanes], scale float32 [2], cells u16 (u32 when wide), offsets, rows as
        above; out float32: scale[0] + scale[1] * the sum over lanes of the largest byte of each document, 0
        for one without tokens. scratch: u8 [lanes]."""
        base, step = load_f32(scale), load_f32(scale + 4)
        for i in range(first, last):
            doc = i if rows == 0 else load_i64(rows + 8 * i)
            start, stop = load_i64(offsets + 8 * doc), load_i64(offsets + 8 * (doc + 1))
            if start == stop:
                store_f32(out + 4 * i, zero)
                continue
            for lane in range(0, lanes, 8):
                store_i64(scratch + lane, 0)
            token = start
            while token + CELLS <= stop:
                some = (
                    row_of(cells, wide, token),
                    row_of(cells, wide, token + 1),
                    row_of(cells, wide, token + 2),
                    row_of(cells, wide, token + 3),
                )
                fold(table, some, scratch)
                token += CELLS
            while token < stop:
                fold_one(table, (row_of(cells, wide, token),), scratch)
                token += 1
            total = 0
            for lane in range(lanes):
                total += load_u8(scratch + lane)
            store_f32(out + 4 * i, base + step * np.float32(total))

    return maxsim_centroids


def _fill_lists(isa: str) -> Callable[..., None]:
    def fill_lists(cells, wide, offsets, seen, places, low, high, out, first, last):  # type: ignore[no-untyped-def]
        """Cells u16 (u32 when wide), offsets; seen int64 [high - low], the last document met in each cell of
        low..high-1 plus one, 0 at first; places int64 [high - low], where the cell's next entry goes, moved
        on; out u32, 0 to count only; documents first..last-1."""
        for doc in range(first, last):
            for token in range(load_i64(offsets + 8 * doc), load_i64(offsets + 8 * (doc + 1))):
                cell = load_u32(cells + 4 * token) if wide != 0 else load_u16(cells + 2 * token)
                if low <= cell < high:
                    shift = 8 * (cell - low)
                    if load_i64(seen + shift) != doc + 1:
                        store_i64(seen + shift, doc + 1)
                        place = load_i64(places + shift)
                        store_i64(places + shift, place + 1)
                        if out != 0:
                            store_u32(out + 4 * place, doc)

    return fill_lists


def _gather_lists(isa: str) -> Callable[..., None]:
    def gather_lists(  # type: ignore[no-untyped-def]
        lists, probes, n_probes, allowed, n_documents, scratch, counts, shift, out, first, last
    ):
        """Lists u32; probes int64 [n_probes][4]: first and last + 1 position in lists, gain, number of the
        query token from 1 up, ascending, gains of one token descending; allowed u8 [n_documents] or 0 for
        all; out float32 [n_documents], the sum of gains; counts int64, how many sums above 0 there are, by
        sum >> shift. Blocks first..last-1 of LIST_BLOCK documents.

        scratch: int64 [n_probes] positions, int64 [LIST_BLOCK] sums with the token last added below."""
        sums = scratch + 8 * n_probes
        for p in range(n_probes):
            low, high = load_i64(probes + 32 * p), load_i64(probes + 32 * p + 8)
            while low < high:
                middle = (low + high) >> 1
                if load_u32(lists + 4 * middle) < first * LIST_BLOCK:
                    low = middle + 1
                else:
                    high = middle
            store_i64(scratch + 8 * p, low)
        for block in range(first, last):
            start = block * LIST_BLOCK
            stop = start + LIST_BLOCK if start + LIST_BLOCK < n_documents else n_documents
            for i in range(stop - start):
                store_i64(sums + 8 * i, 0)
            for p in range(n_probes):
                place, end = load_i64(scratch + 8 * p), load_i64(probes + 32 * p + 8)
                gain, token = load_i64(probes + 32 * p + 16), load_i64(probes + 32 * p + 24)
                while place < end:
                    doc = load_u32(lists + 4 * place)
                    if doc >= stop:
                        break
                    # A damaged list may go back; its sums must not be written elsewhere.
                    old = load_i64(sums + 8 * (doc - start)) if doc >= start else token
                    if old & 0xFFFF != token:
                        store_i64(sums + 8 * (doc - start), ((old >> 16) + gain) << 16 | token)
                    place += 1
                store_i64(scratch + 8 * p, place)
            for i in range(stop - start):
                total = load_i64(sums + 8 * i) >> 16
                if total > 0:
                    if allowed == 0 or load_u8(allowed + start + i) != 0:
                        at = counts + 8 * (total >> shift)
                        store_i64(at, load_i64(at) + 1)
                    else:
                        total = 0
                store_f32(out + 4 * (start + i), np.float32(total))

    return gather_lists


def _byte_table(isa: str) -> Callable[..., None]:
    to_bytes = vector.to_bytes(BYTE_GROUP)

    def byte_table(dots, n_groups, least, scales, out, width, first, last):  # type: ignore[no-untyped-def]
        """Dots float32 [n][BYTE_GROUP * n_groups], least float32 [1], scales float32 [BYTE_GROUP * n_groups],
        out u8 [n][width]: (dot - least) * scale, cut off; rows first..last-1."""
        low = load_f32(least)
        for row in range(first, last):
            for group in range(n_groups):
                at = 4 * BYTE_GROUP * group
                values, bytes_ = dots + 4 * BYTE_GROUP * row * n_groups, out + row * width
                to_bytes(values + at, low, scales + at, bytes_ + BYTE_GROUP * group)

    return byte_table


def _score_table(isa: str, dim: int, vectors: int = VECTORS) -> Callable[..., None]:
    lanes, n_tile = WIDTH[isa] * vectors, TILE * VECTORS // vectors
    # A width known here makes the rows of a tile constants apart; else their addresses take more registers
    # than there are.
    products = vector.products_f32(WIDTH[isa], vectors, n_tile, dim)
    single = vector.products_f32(WIDTH[isa], vectors, 1, dim)

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


_BUILDERS: dict[str, Callable[[str], Callable[..., None]]] = {
    "maxsim_float32": _maxsim_float32,
    "maxsim_float16": _maxsim_float16,
    "byte_table": _byte_table,
    "fill_lists": _fill_lists,
    "gather_lists": _gather_lists,
}

_SHAPED: dict[str, Callable[..., Callable[..., None]]] = {
    "maxsim_bytes": _maxsim_bytes,  # dim
    "maxsim_residual": _maxsim_residual,  # dim, bits, vectors of query lanes, parts of the dimensions
    "score_table": _score_table,  # dim, vectors of query lanes where it is not VECTORS
    "encode_residual": _encode_residual,  # dim, bits
    "nearest_centroid": _nearest_centroid,  # dim
    "maxsim_centroids": _maxsim_centroids,  # lanes, a multiple of 8
}
