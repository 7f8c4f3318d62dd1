"""How residual codes and queries lie on a device, as pure functions of arrays.

A warp scores 16 document tokens at a time against 32 query tokens with integer tensor cores, which want of a
document token 32 dimensions in eight words that four threads hold. Which dimensions these are is free, as
long as the query has them in the same places: so every thread takes a quarter of a token's codes as they
stand in the file, side by side, and what its words become is what the query is put in order by.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.kernels.shapes import LEVEL_ZERO, N_LEVELS

QUARTERS = 4  # threads that share a document token
BLOCK = 32  # query tokens that are scored together
MOST = 32000  # of a centroid's score in 16 bits with a sign; a few are left for rounding
ROUNDING = 2.0**-24  # of a float32, at most
Words = npt.NDArray[np.uint32]


def padded_dim(dim: int, bits: int) -> int:
    """Dimensions that a token's codes take on the device: whole words for each of four threads."""
    whole = 128 // bits
    return -(-dim // whole) * whole


def place_codes(codes: npt.NDArray[np.uint8], dim: int, bits: int) -> npt.NDArray[np.uint8]:
    """Codes as they lie on the device: uint8 [n, padded_dim * bits / 8]; as in the file where that fits.

    Byte j of n = padded_dim * bits / 8 keeps byte j of the file's; those behind it are of no dimension.
    """
    n_bytes = padded_dim(dim, bits) * bits // 8
    if codes.shape[1] == n_bytes:
        return np.ascontiguousarray(codes)
    placed = np.zeros((len(codes), n_bytes), np.uint8)
    placed[:, : codes.shape[1]] = codes
    return placed


@functools.cache
def dimensions(dim: int, bits: int) -> npt.NDArray[np.int64]:
    """Which dimension each byte is that codes are unpacked to: int64 [4 threads, words, 4]; -1 for none.

    In the file byte j of n holds dimensions j, n + j, 2n + j, ... from its lowest bits up.
    """
    n_bytes, file_bytes = padded_dim(dim, bits) * bits // 8, dim * bits // 8
    # The dimension of each field of each byte of a thread's codes, fields from the lowest bits up.
    byte = np.arange(n_bytes)[:, None]
    field = np.arange(8 // bits)[None, :]
    of_field = np.where(byte < file_bytes, byte + field * file_bytes, -1)
    per_word = of_field.reshape(-1, 4, 8 // bits)  # word, byte, field
    found = []
    for word in per_word:
        # Nibbles of the word, low ones first: each holds 4 / bits fields, which are looked up in turn.
        nibbles = word.reshape(8, 4 // bits)
        for turn in range(4 // bits):
            found += [nibbles[:4, turn], nibbles[4:, turn]]
    return np.array(found, np.int64).reshape(QUARTERS, -1, 4)


def packed_levels(levels: npt.NDArray[np.uint8]) -> Words:
    """Uint32 [4]: what the levels of codes add, int8, four a word."""
    table = np.zeros(N_LEVELS, np.int8)
    table[: len(levels)] = levels.astype(np.int16) - LEVEL_ZERO
    return table.view("<u4").astype(np.uint32)


def query_of_column(n_tile: int, column: int) -> int:
    """The query token, within a block, of a column of a tile: thread t has tokens 8 t .. 8 t + 7."""
    return 8 * (column // 2) + 2 * n_tile + column % 2


class QueryBlocks(NamedTuple):
    """A query in blocks of 32 tokens as the kernels want them; rows that are none are zero.

    rows float32 [n_blocks, dim, 32]: the tokens themselves; words uint32 [n_blocks, 4 tiles, steps, 2, 32
    threads]: their int8 codes, of them times the dimensions' widths; coefs float32 [n_blocks, 32]: what an
    integer is multiplied by, in units; units float32 [n_blocks, 32]: of scores with centroids, which are
    whole numbers of up to MOST.
    """

    rows: Float32
    words: Words
    coefs: Float32
    units: Float32


def query_rows(query: Float32) -> Float32:
    """Float32 [n_blocks, dim, 32]: a query [n_query, dim] in blocks, padded with zeros."""
    n_query, dim = query.shape
    padded = np.zeros((max(-(-n_query // BLOCK), 1) * BLOCK, dim), np.float32)
    padded[:n_query] = query
    return np.ascontiguousarray(padded.reshape(-1, BLOCK, dim).transpose(0, 2, 1))


def query_blocks(
    query: Float32, spread: Float32, longest: float, bits: int, factors: Float32
) -> tuple[QueryBlocks, float]:
    """A query's blocks, and how far scores that they give may be from those of the CPU's kernel.

    Integers are the same. Apart are the centroids' scores, which have 16 bits here, and the order of sums.

    Args:
        query: float32 [n_query, dim]; spread: float32 [dim], each dimension's width.
        longest: length of the longest centroid; factors: float32 [N_FACTORS, 2].
    """
    n_query, dim = query.shape
    rows = query_rows(query)
    padded = np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(-1, dim)
    most = np.linalg.norm(padded.astype(np.float64), axis=1) * longest  # a centroid's score
    padded *= spread
    scale = np.abs(padded).max(axis=1, initial=0.0) / np.float32(127)
    codes = np.rint(padded / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
    units = np.where(most > 0, most / MOST, 1).astype(np.float32)  # any but 0 for a row of zeros
    words = np.stack([_words(block, dim, bits) for block in codes.reshape(-1, BLOCK, dim)])
    blocks = QueryBlocks(
        rows,
        words,
        (scale / units).astype(np.float32).reshape(-1, BLOCK),
        units.reshape(-1, BLOCK),
    )
    reach = scale * LEVEL_ZERO * np.abs(codes.astype(np.int32)).sum(axis=1)
    share, norm = np.abs(factors).max(axis=0).astype(np.float64)
    # Half a unit of a centroid's score, and a bit for the division; the roundings of two dot products with a
    # centroid, and on either side some of every query token's value and one for each that is summed.
    apart = share * (0.505 * units[:n_query].sum() + 2 * dim * ROUNDING * most.sum())
    apart += (16 + 2 * n_query) * ROUNDING * (share * most + norm * reach).sum()
    return blocks, float(apart)


def _words(codes: npt.NDArray[np.int8], dim: int, bits: int) -> Words:
    """The codes of 32 query tokens as operand b of each tile and step, for each thread."""
    where = dimensions(dim, bits)  # quarter, word, byte
    ordered = np.where(where >= 0, codes[:, where], 0).astype(np.int8)  # token, quarter, word, byte
    as_words = np.ascontiguousarray(ordered).view("<u4")[..., 0].astype(np.uint32)
    held = as_words[_TOKENS_OF_COLUMNS[:, _COLUMNS], _QUARTERS]  # tile, thread, word
    return np.ascontiguousarray(held.reshape(4, 32, -1, 2).transpose(0, 2, 3, 1))


_COLUMNS, _QUARTERS = np.divmod(np.arange(32), QUARTERS)  # of operand b, by thread
_TOKENS_OF_COLUMNS = np.array([[query_of_column(tile, column) for column in range(8)] for tile in range(4)])
