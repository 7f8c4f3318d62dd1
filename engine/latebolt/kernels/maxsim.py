"""MaxSim of one query against many documents: checks the arrays once, then runs the compiled kernels.

score(query, document) = sum over query tokens of the largest dot product with any document token
(equation 3 of Khattab and Zaharia, "ColBERT", SIGIR 2020); a document without tokens scores 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt import threads
from latebolt.errors import InvalidInput
from latebolt.kernels import isa, native

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

MAX_QUERY_TOKENS = 8192
_VECTORS, _TILE = 2, 6  # as in programs.py, which a warm start does not import


class ResidualArrays(NamedTuple):
    """Token vectors as residual codes; see `codec.residual` for their meaning.

    codes uint8 [n_tokens, dim * bits / 8]; cells uint16 or uint32 [n_tokens]; norms uint8 [n_tokens];
    norm_table float32 [256]; centroids float32 [n_centroids, dim]; table float32 [256, 8 / bits].
    """

    codes: npt.NDArray[np.uint8]
    cells: npt.NDArray[np.unsignedinteger]
    norms: npt.NDArray[np.uint8]
    norm_table: Float32
    centroids: Float32
    table: Float32


def address(array: npt.NDArray[np.generic]) -> int:
    """Where a C-contiguous array's data begins."""
    return int(array.__array_interface__["data"][0])


def query_lanes(query: npt.ArrayLike, dim: int) -> tuple[Float32, int]:
    """Query tokens as the kernels want them, and how many there are.

    Args:
        query: float32 [n_query, dim], finite.
    Returns:
        float32 [n_blocks, dim, lanes], padded with zeros; n_query.
    Raises:
        InvalidInput: the width is not `dim`, a value is NaN or infinite, or there are too many tokens.
    """
    matrix = np.asarray(query, dtype=np.float32)
    if matrix.ndim != 2 or matrix.shape[1] != dim:
        raise InvalidInput(f"the query should be [n_query, {dim}], got shape {matrix.shape}.")
    if len(matrix) > MAX_QUERY_TOKENS:
        raise InvalidInput(f"the query should have at most {MAX_QUERY_TOKENS} tokens, got {len(matrix)}.")
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise InvalidInput(f"the query's token {row} has a value that is not finite.")
    lanes = isa.WIDTH[isa.active()] * _VECTORS
    blocks = -(-len(matrix) // lanes)
    padded = np.zeros((blocks * lanes, dim), np.float32)
    padded[: len(matrix)] = matrix
    return np.ascontiguousarray(padded.reshape(blocks, lanes, dim).transpose(0, 2, 1)), len(matrix)


def _run(
    kernel: Callable[..., None],
    before: tuple[int, ...],
    offsets: Int64,
    rows: Int64 | None,
    dim: int,
    n_threads: int | None,
) -> Float32:
    """Score `rows` (all documents for None) with kernel(*before, offsets, rows, dim, scratch, out, a, b)."""
    lengths = np.diff(offsets)
    if rows is not None:
        rows = np.ascontiguousarray(rows, np.int64)
        lengths = lengths[rows]
    out = np.zeros(len(lengths), np.float32)
    lanes = isa.WIDTH[isa.active()] * _VECTORS

    def work(first: int, last: int) -> None:
        scratch = np.empty(lanes + _TILE * dim, np.float32)
        kernel(
            *before, address(offsets), 0 if rows is None else address(rows), dim,
            address(scratch), address(out), first, last,
        )  # fmt: skip

    threads.run(lengths, work, n_threads)
    return out


def maxsim_arrays(
    query: npt.ArrayLike,
    values: npt.NDArray[np.floating],
    offsets: Int64,
    rows: Int64 | None = None,
    n_threads: int | None = None,
) -> Float32:
    """MaxSim against float32 or float16 token vectors.

    Args:
        query: float32 [n_query, dim], finite.
        values: float32 or float16 [n_tokens, dim], C-contiguous, dim a multiple of 4; may be memory-mapped.
        offsets: int64 [n_docs + 1], document i owns rows offsets[i]:offsets[i + 1].
        rows: int64, the documents to score; None for all.
    Returns:
        float32 [n_docs] (or one per row asked for).
    Raises:
        InvalidInput: a shape, dtype or value that does not fit.
    """
    dim = values.shape[1]
    if dim % 4:
        raise InvalidInput(f"token vectors should have a width that is a multiple of 4, got {dim}.")
    lanes, n_query = query_lanes(query, dim)
    name = {np.dtype(np.float32): "maxsim_float32", np.dtype(np.float16): "maxsim_float16"}[values.dtype]
    before = (address(lanes), n_query, address(values))
    return _run(native.kernel(name), before, offsets, rows, dim, n_threads)


def maxsim_int8(
    query: npt.ArrayLike,
    values: npt.NDArray[np.int8],
    scales: Float32,
    offsets: Int64,
    rows: Int64 | None = None,
    n_threads: int | None = None,
) -> Float32:
    """MaxSim against int8 token vectors with one scale a token.

    Args:
        query: float32 [n_query, dim], finite.
        values: int8 [n_tokens, dim]; scales: float32 [n_tokens]; vector = values * scale.
        offsets, rows, returns, raises: as `maxsim_arrays`.
    """
    dim = values.shape[1]
    lanes, n_query = query_lanes(query, dim)
    before = (address(lanes), n_query, address(values), address(scales))
    return _run(native.kernel("maxsim_int8"), before, offsets, rows, dim, n_threads)


def maxsim_residual(
    query: npt.ArrayLike,
    store: ResidualArrays,
    bits: int,
    offsets: Int64,
    rows: Int64 | None = None,
    n_threads: int | None = None,
) -> Float32:
    """MaxSim against residual codes, without writing the decoded vectors to memory.

    Args:
        query: float32 [n_query, dim], finite.
        store: see `ResidualArrays`; arrays are C-contiguous and may be memory-mapped.
        bits: 1, 2 or 4 a dimension.
        offsets, rows, returns, raises: as `maxsim_arrays`.
    """
    dim = store.centroids.shape[1]
    lanes, n_query = query_lanes(query, dim)
    wide = int(store.cells.dtype == np.uint32)
    before = (
        address(lanes), n_query, address(store.codes), address(store.cells), wide, address(store.norms),
        address(store.norm_table), address(store.centroids), address(store.table), bits,
    )  # fmt: skip
    return _run(native.kernel("maxsim_residual"), before, offsets, rows, dim, n_threads)


def warm(n_threads: int | None = None) -> dict[str, bool]:
    """Load every kernel; says for each whether its machine code came from the cache."""
    from latebolt.kernels.signatures import N_ARGUMENTS

    return {name: native.object_code(name, isa.active())[1] for name in N_ARGUMENTS}
