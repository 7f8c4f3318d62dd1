"""MaxSim of blocks of 32 query tokens with documents as residual codes that live on the device.

A warp has a document. It takes 16 tokens at a time, unpacks their codes to bytes and multiplies them with the
query's by integer tensor cores; maxima stay in registers. Codes, cells and factors are read and unpacked once
for up to four blocks of 32 query tokens, of one query or of several.

What 16 tokens of 128 dimensions and 2 bits take with 32 query tokens, in instructions of a warp as ptxas 12.9
makes them for sm_90: 237, of them 16 products of matrices, 36 for unpacking, and 96 from sums to maxima (for
each of 512 two conversions to float32, two multiplications, one with an addition, and a maximum). Of memory
560 bytes are read, of the second-level cache, which holds the centroids' scores, 1 KiB. docs/gpu.md says what
that is on an H200. 4-byte dot products (dp4a) would be 512 instructions for the products alone.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import cuda, float32, int64, uint32, uint64

from latebolt.gpu.kernels.instructions import FIELDS, UNPACK, four, group_max, halves, mma, quad_sum, words
from latebolt.kernels.shapes import N_FACTORS

_TOKENS = 16  # a tile


@functools.cache
def maxsim_residual(dim: int, bits: int, n_blocks: int) -> Any:
    """The kernel for documents of so many (padded) dimensions and bits, and so many blocks of query tokens.

    Its arguments: codes int64 (of a multiple of 64 bits a thread; uint32 otherwise), flat, as
    `layout.place_codes` has them; cells uint16 or uint32 and norms uint8 [n_tokens]; factors float32
    [N_FACTORS, 2]; levels uint32 [4]; query uint32 [n_blocks * 4 * steps * 2 * 32], coefs float32
    [n_blocks * 32] and units float32 [n_blocks, 32], see `layout.QueryBlocks`; table uint32
    [n_blocks * n_centroids * 16], pairs of 16 bits, and n_centroids; offsets int64 [n_docs + 1]; mask uint32
    [n_docs / 32], bits of the documents to score, lowest first, of no length for all; out float32
    [n_blocks, n_docs]: sums over each block's query tokens, -inf for a document that the mask leaves out, 0
    for one without tokens.
    """
    steps = dim // 32
    n_words = dim * bits // 128  # of codes, a thread and token
    paired = n_words % 2 == 0
    loads, code = (n_words // 2, int64) if paired else (n_words, uint32)
    n_raw = 2 * loads
    fields, unpack = FIELDS[bits], UNPACK[bits]
    n_unpacked, n_held, n_tokens = 2 * steps, 8 * n_blocks, 32 * n_blocks
    n_both = 2 * n_unpacked
    n_operands = n_blocks * 8 * steps * 32
    n_factors = N_FACTORS
    lowest, zero, nothing = np.float32(-np.inf), np.float32(0), np.int32(0)
    alone = n_blocks == 1  # the query stays in registers
    n_held_words = 8 * steps if alone else 1

    @cuda.jit
    def kernel(
        codes,
        cells,
        norms,
        factors,
        levels,
        query,
        coefs,
        units,
        table,
        n_centroids,
        offsets,
        mask,
        out,
    ):
        pairs = cuda.shared.array((n_factors, 2), float32)
        operands = cuda.shared.array(n_operands, uint32)
        coef = cuda.shared.array(n_tokens, float32)
        thread = cuda.threadIdx.x
        lane, group, quarter = thread % 32, thread % 32 // 4, thread % 4
        for i in range(thread, n_factors, cuda.blockDim.x):
            pairs[i, 0], pairs[i, 1] = factors[i, 0], factors[i, 1]
        for i in range(thread, n_operands, cuda.blockDim.x):
            operands[i] = query[i]
        for i in range(thread, n_tokens, cuda.blockDim.x):
            coef[i] = coefs[i]
        cuda.syncthreads()
        held = cuda.local.array(n_held_words, uint32)
        if alone:
            for i in range(n_held_words):
                held[i] = operands[i * 32 + lane]
        best = cuda.local.array(n_held, float32)
        raw = cuda.local.array(n_raw, code)  # of the tile that comes next
        here = cuda.local.array(n_raw, code)
        bytes_of = cuda.local.array(n_both, uint32)
        a, b, c, d = levels[0], levels[1], levels[2], levels[3]
        n_docs = out.shape[1]
        warps = cuda.gridDim.x * (cuda.blockDim.x // 32)
        ready = -1  # the document whose first tile is in `raw`
        cell = other_cell = norm = other_norm = 0
        for doc in range(cuda.blockIdx.x * (cuda.blockDim.x // 32) + thread // 32, n_docs, warps):
            if mask.shape[0] > 0 and (mask[doc // 32] >> (doc % 32)) & 1 == 0:
                if lane < n_blocks:
                    out[lane, doc] = lowest
                continue
            start, stop = offsets[doc], offsets[doc + 1]
            following = doc + warps
            then_start, then_stop = start, start
            if following < n_docs:
                then_start, then_stop = offsets[following], offsets[following + 1]
            for i in range(n_held):
                best[i] = lowest
            if ready != doc and start < stop:
                token, other = min(start + group, stop - 1), min(start + group + 8, stop - 1)
                for i in range(loads):
                    raw[i] = codes[uint64((token * 4 + quarter) * loads + i)]
                    raw[loads + i] = codes[uint64((other * 4 + quarter) * loads + i)]
                cell, other_cell, norm, other_norm = (
                    cells[uint64(token)],
                    cells[uint64(other)],
                    norms[uint64(token)],
                    norms[uint64(other)],
                )
            for at in range(start, stop, _TOKENS):
                for i in range(n_raw):
                    here[i] = raw[i]
                this_cell, this_other_cell = cell, other_cell
                share, width = pairs[uint64(norm), 0], pairs[uint64(norm), 1]
                other_share, other_width = pairs[uint64(other_norm), 0], pairs[uint64(other_norm), 1]
                # What comes next is fetched while this is scored: the document's next tile, or the first one
                # of the warp's next document. Past the end the last token is scored again: a maximum may see
                # it twice.
                next_at, next_stop = at + _TOKENS, stop
                if next_at >= stop and then_start < then_stop:
                    next_at, next_stop = then_start, then_stop
                    ready = following
                token, other = min(next_at + group, next_stop - 1), min(next_at + group + 8, next_stop - 1)
                for i in range(loads):
                    raw[i] = codes[uint64((token * 4 + quarter) * loads + i)]
                    raw[loads + i] = codes[uint64((other * 4 + quarter) * loads + i)]
                cell, other_cell, norm, other_norm = (
                    cells[uint64(token)],
                    cells[uint64(other)],
                    norms[uint64(token)],
                    norms[uint64(other)],
                )
                for side in range(2):
                    for i in range(loads):
                        to = side * n_unpacked + i * n_unpacked // loads
                        if paired:
                            low, high = words(here[side * loads + i])
                            found = unpack(low, a, b, c, d)
                            for j in range(fields):
                                bytes_of[to + j] = found[j]
                            found = unpack(high, a, b, c, d)
                            for j in range(fields):
                                bytes_of[to + fields + j] = found[j]
                        else:
                            found = unpack(here[side * loads + i], a, b, c, d)
                            for j in range(fields):
                                bytes_of[to + j] = found[j]
                for block in range(n_blocks):
                    here_scores = four(table, (block * n_centroids + this_cell) * 16 + 4 * quarter)
                    other_scores = four(table, (block * n_centroids + this_other_cell) * 16 + 4 * quarter)
                    for tile in range(4):
                        held_at, place = block * 8 + 2 * tile, block * 32 + 8 * quarter + 2 * tile
                        c0, c1, c2, c3 = nothing, nothing, nothing, nothing
                        for step in range(steps):
                            if alone:
                                b0 = held[(tile * steps + step) * 2]
                                b1 = held[(tile * steps + step) * 2 + 1]
                            else:
                                where = ((block * 4 + tile) * steps + step) * 64 + lane
                                b0, b1 = operands[where], operands[where + 32]
                            c0, c1, c2, c3 = mma(
                                bytes_of[2 * step], bytes_of[n_unpacked + 2 * step],
                                bytes_of[2 * step + 1], bytes_of[n_unpacked + 2 * step + 1],
                                b0, b1, c0, c1, c2, c3,
                            )  # fmt: skip
                        near, far = halves(here_scores[tile])
                        other_near, other_far = halves(other_scores[tile])
                        near = share * near + width * (coef[place] * float32(c0))
                        far = share * far + width * (coef[place + 1] * float32(c1))
                        other_near = other_share * other_near + other_width * (coef[place] * float32(c2))
                        other_far = other_share * other_far + other_width * (coef[place + 1] * float32(c3))
                        best[held_at] = max(best[held_at], max(near, other_near))
                        best[held_at + 1] = max(best[held_at + 1], max(far, other_far))
            for block in range(n_blocks):
                total = zero
                for i in range(8):
                    most = group_max(best[block * 8 + i])
                    total += units[block, 8 * quarter + i] * most
                total = quad_sum(total)
                if lane == 0:
                    out[block, doc] = total if start < stop else zero

    return kernel
