"""What compiled kernels and their callers have to agree on: arguments, blocks, tiles and sizes of tables.

Without numba, which a warm start must not import. Most of it is compiled into kernels, so any change of this
file makes another cache of machine code (`compiled.cache_key`) and every library built ahead outdated.
"""

from __future__ import annotations

N_ARGUMENTS = {  # 64-bit integers that each kernel takes
    "maxsim_float32": 10,
    "maxsim_float16": 10,
    "byte_table": 8,
    "nearest_cells": 12,
    "fill_lists": 10,
    "gather_lists": 12,
    # These are compiled for a shape, which stands behind a colon in the kernel's name.
    "score_table": 6,  # dim: score_table:128; x1 for short queries
    "maxsim_bytes": 12,  # dim: maxsim_bytes:128
    "maxsim_residual": 17,  # dim, bits: maxsim_residual:128x2; x1, x1x2, x1x4 for short queries
    "encode_residual": 13,  # dim, bits: encode_residual:128x2
    "nearest_centroid": 11,  # dim: nearest_centroid:128
    "nearest_grouped": 18,  # dim: nearest_grouped:128
    "choose_lists": 13,  # dim: choose_lists:128
    "nearest_list": 22,  # dim, bits: nearest_list:128x2
    "decode_residual": 12,  # dim, bits: decode_residual:128x2
    "cluster_rows": 9,  # dim: cluster_rows:128
    "maxsim_centroids": 10,  # columns of the table: maxsim_centroids:32
}

MAX_QUERY_TOKENS = 8192

VECTORS = 2  # vector registers of query lanes
TILE = 6  # document tokens a tile: 12 accumulators, enough to keep two multiply-add units busy
TILE_ROWS, TILE_BYTES = 16, 1024  # document tokens a tile of AMX, and its size
TILED_HELD = 4  # tiles' unpacked codes that are held until their sums are folded, a power of two
CODE_TILE = 4  # of residual codes: 8 integer accumulators and as many registers for the rest

BYTE_MOST = 127  # of signed bytes, either way
LEVEL_MOST = 127  # levels are 0..127 so that AVX2's 16-bit pair sums cannot overflow
LEVEL_ZERO = 64  # the level that adds nothing
N_LEVELS = 16  # of the table that codes of at most 4 bits are looked up in
N_FACTORS = 256  # pairs of factors of a residual codec, numbered by a byte

# Candidates that bytes leave to floats: 4 find the nearest centroid of 99.2 %, 8 of 99.6 %.
CENTROID_PARTS = 8

GROUPS_TRIED = 12  # groups of centroids that a vector's nearest one is looked for in
GROUP_BITS = 10  # of a group's number
GROUP_PARTS = 16  # bytes find the best centroid of each part of what is looked at
GROUP_NONE = -(1 << 29)  # below every dot product of bytes: what a part has in which nothing was found
SETTLED = 4  # of those, which floats settle between

BYTE_GROUP = 8  # dot products that `byte_table` turns into bytes at once

LIST_STEPS = 1 << 11  # that a query token's products with lists' centroids are told apart in
MOST_GAIN = 1 << 15  # of a document from a list; a step is mostly a 255th of what there is

LIST_BLOCK = 1 << 17  # documents whose sums stand in a cache near the core together


def scratch_bytes(dim: int, columns: int) -> int:
    """Scratch that is enough for any kernel over bytes: of vectors of `dim` dimensions, and of a query,
    padded to so many columns, or of a block of vectors whose nearest centroid is looked for.

    In tiles, which take most: a line more, for where the next one begins, and one for how tiles are cut;
    sums; unpacked codes and their centroids' rows' addresses; what sums begin with, and the largest so far.
    """
    sums = 4 * VECTORS * TILE_BYTES
    held = TILED_HELD * TILE_ROWS * (dim + 8)
    return 2 * 64 + sums + held + 2 * 4 * columns * (1 + CENTROID_PARTS)


def code_tile(vectors: int) -> int:
    """Tokens of residual codes a tile, for so many vector registers of query lanes: the sums stay as many."""
    return CODE_TILE * VECTORS // vectors


def group_block(width: int) -> int:
    """Centroids of a group that lie in lanes together, at `width` float32 lanes a vector: whole parts."""
    return max(VECTORS * width, GROUP_PARTS)


def group_shift(dim: int) -> int:
    """Lowest bits of a dot product of bytes that do not count where it shares 32 bits with a number."""
    return max(0, (BYTE_MOST * LEVEL_MOST * dim).bit_length() - (31 - GROUP_BITS))
