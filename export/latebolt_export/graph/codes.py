"""Rounds matrices to int8, in the range that an instruction set multiplies exactly, and tables to 4 bits.

AVX2 without VNNI multiplies uint8 activations with int8 weights by `vpmaddubsw`, which adds the products of
two neighbouring rows in 16 bits: 255 a + 255 b must stay below 32768, so |a| + |b| <= 128. Halving all
weights (the usual "reduced range") costs a whole bit; choosing each column's step so that its worst pair
fits costs a third of one, because large weights seldom meet. VNNI and ARM's dot products add in 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from latebolt.errors import InvalidInput

# What `isa` may be, and whether a graph for it keeps pairs of rows below the 16-bit bound. "auto" is a graph
# that every CPU computes alike.
ISAS = {"auto": True, "avx2": True, "avx512_vnni": False, "arm64": False}
EMBEDDINGS = ("int8", "int4")  # how the word table of an int8 graph may be kept
MOST, MOST_PAIR = 127, 128
_LEAST = 1e-12
BLOCK = 32  # weights of a row that share a step, at 4 bits
# Steps tried for a block, as shares of the one that reaches its largest weight exactly: cutting that one off
# is often less of an error than a coarser step for the other 31.
_REACHES = (1.0, 0.93, 0.86)


def check_isa(isa: str) -> None:
    """Raise InvalidInput unless it is one of `ISAS`."""
    if isa not in ISAS:
        raise InvalidInput(f'isa should be one of {", ".join(ISAS)}, got "{isa}".')


def check_embeddings(embeddings: str) -> None:
    """Raise InvalidInput unless it is one of `EMBEDDINGS`."""
    if embeddings not in EMBEDDINGS:
        raise InvalidInput(f'embeddings should be one of {", ".join(EMBEDDINGS)}, got "{embeddings}".')


def graph_isa(isa: str) -> str:
    """What the contract says: "" for a graph that every CPU computes alike."""
    return "" if isa == "auto" else isa


def by_column(weights: np.ndarray, pairs: bool) -> tuple[np.ndarray, np.ndarray]:
    """A MatMul's weight as symmetric codes with one step a column.

    Args:
        weights: float32 [rows, columns].
        pairs: keep |codes[2 k]| + |codes[2 k + 1]| within `MOST_PAIR`.
    Returns:
        int8 [rows, columns] within [-127, 127], float32 [columns].
    """
    scratch = np.abs(weights)
    reach = scratch.max(0) / MOST
    if pairs and len(weights) > 1:
        even = len(weights) // 2 * 2
        reach = np.maximum(reach, (scratch[0:even:2] + scratch[1:even:2]).max(0) / MOST_PAIR)
    step = np.maximum(reach, _LEAST).astype(np.float32)
    # In place: what the search for scales does a thousand times, new memory made take twice as long.
    codes = np.rint(np.divide(weights, step, out=scratch), out=scratch).astype(np.int8)
    if pairs:
        _trim(codes)
    return codes, step


def by_row(pieces: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A lookup table as symmetric codes with one step a row: int8 [rows, width], float32 [rows, 1].

    Args:
        pieces: the table in stretches of rows; a vocabulary's in one go would need three more of it.
    """
    codes, steps = [], []
    for piece in pieces:
        steps.append((np.maximum(np.abs(piece).max(1, keepdims=True), _LEAST) / MOST).astype(np.float32))
        codes.append(np.rint(piece / steps[-1]).astype(np.int8))
    return np.concatenate(codes), np.concatenate(steps)


def by_block(pieces: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A lookup table at 4 bits a weight with one step for `BLOCK` weights of a row.

    weight = (code - 8) * step. A table that was rounded so before (llama.cpp's q4_0: the largest weight is -8
    steps) keeps its weights exactly.

    Args:
        pieces: float32 [some rows, width], the table in stretches of rows; width a multiple of `BLOCK`.
    Returns:
        uint8 [rows, width / 2], whose byte j holds the code of weight j in its low half, and that of weight
        j + width / 2 in its high half; float16 [rows, width / BLOCK].
    """
    packed, steps = [], []
    for piece in pieces:
        rows, width = piece.shape
        blocks = np.asarray(piece, np.float32).reshape(rows, width // BLOCK, BLOCK)
        at = np.abs(blocks).argmax(2)[..., None]
        extreme = np.take_along_axis(blocks, at, 2)
        best = np.full(extreme.shape, np.inf, np.float32)
        codes = np.zeros(blocks.shape, np.uint8)
        chosen = np.zeros(extreme.shape, np.float16)
        for reach in _REACHES:
            step = (extreme * np.float32(-reach / 8)).astype(np.float16)
            whole = step.astype(np.float32)
            found = np.rint(np.divide(blocks, whole, out=np.zeros_like(blocks), where=whole != 0))
            found = np.clip(found, -8, 7)
            error = ((found * whole - blocks) ** 2).sum(2, keepdims=True)
            better = error < best
            best = np.where(better, error, best)
            codes = np.where(better, (found + 8).astype(np.uint8), codes)
            chosen = np.where(better, step, chosen)
        flat = codes.reshape(rows, width)
        packed.append(flat[:, : width // 2] | flat[:, width // 2 :] << 4)
        steps.append(chosen[..., 0])
    return np.concatenate(packed), np.concatenate(steps)


def _trim(codes: np.ndarray) -> None:
    """Where both of a pair were rounded up past the bound, take one off the larger, in place."""
    even = len(codes) // 2 * 2
    first, second = codes[0:even:2], codes[1:even:2]
    one, other = (np.abs(part).view(np.uint8) for part in (first, second))  # at most 127 each
    over, larger = one + other > MOST_PAIR, one >= other
    first -= np.sign(first) * (over & larger)
    second -= np.sign(second) * (over & ~larger)
