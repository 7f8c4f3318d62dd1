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
from latebolt.arrays import Float32, Int64
from latebolt.errors import InvalidInput
from latebolt.kernels import isa, names, native
from latebolt.kernels.shapes import LEVEL_ZERO, MAX_QUERY_TOKENS, TILE, VECTORS, scratch_bytes
from latebolt.kernels.targets import WIDTH

# About, on one thread with AVX-512; these decide whether several threads pay.
_FLOAT_PRODUCTS_A_NS, _BYTE_PRODUCTS_A_NS, _IN_TILES_A_NS = 128, 400, 1500
_NS_A_CODE = 6  # of reading and unpacking a token's codes
_BYTES_A_NS = 12  # that a thread reads of what is in no cache of its own


def byte_products_a_ns() -> int:
    """Products of bytes that one thread makes, about."""
    return _IN_TILES_A_NS if isa.in_tiles() else _BYTE_PRODUCTS_A_NS


class ResidualArrays(NamedTuple):
    """Token vectors as residual codes; see `codec.residual_codec` for their meaning.

    codes uint8 [n_tokens, dim * bits / 8]; cells uint16 or uint32 [n_tokens]; norms uint8 [n_tokens], rows of
    factors float32 [N_FACTORS, 2]: what the centroid and the residual are multiplied by; levels uint8
    [N_LEVELS], 0..127, the first 2**bits used: a code adds (levels[code] - LEVEL_ZERO) times its dimension's
    spread.
    """

    codes: npt.NDArray[np.uint8]
    cells: npt.NDArray[np.unsignedinteger]
    norms: npt.NDArray[np.uint8]
    factors: Float32
    levels: npt.NDArray[np.uint8]


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
    padded, n_query = _padded_query(query, dim)
    blocks = padded.reshape(-1, lanes(), dim)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1)), n_query


def lanes(vectors: int = VECTORS) -> int:
    """Query tokens a block of so many vectors holds."""
    return WIDTH[isa.active()] * vectors


def _vectors(n_padded: int) -> int:
    """Vectors that a block of a padded query has: one where all of it fits in one."""
    return 1 if n_padded == lanes(1) else VECTORS


def _padded_query(query: npt.ArrayLike, dim: int, narrow: bool = False) -> tuple[Float32, int]:
    """The checked query with zero rows up to whole blocks, and how many rows are its own.

    narrow: a short query may have a block of one vector.
    """
    matrix = checked_query(query, dim)
    block = lanes(1) if narrow and len(matrix) <= lanes(1) else lanes()
    padded = np.zeros((-(-len(matrix) // block) * block, dim), np.float32)
    padded[: len(matrix)] = matrix
    return padded, len(matrix)


def checked_query(query: npt.ArrayLike, dim: int) -> Float32:
    """A query's token vectors, float32 [n_query, dim].

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
    return matrix


class QuantisedQuery(NamedTuple):
    """A query as the residual kernel wants it; padded rows are zero.

    codes int8 [n_blocks, dim / 4, lanes, 4], -127..127; scales float32 and biases int32 [n_blocks * lanes]:
    row . (levels - LEVEL_ZERO) = scales * (codes . levels - biases). Of few tokens, lane q * parts + p has
    token q: codes [1, dim / 4 / parts, lanes, 4], see `vector.byte_tiles.tile_u8`.
    """

    codes: npt.NDArray[np.int8]
    scales: Float32
    biases: npt.NDArray[np.int32]


def quantise_query(padded: Float32, parts: int = 1) -> QuantisedQuery:
    """One scale a token, its largest value at 127; `parts` lanes for each of the first `lanes / parts`."""
    padded = padded[: len(padded) // parts]
    scale = np.abs(padded).max(axis=1, initial=0.0) / np.float32(127)
    codes = np.rint(padded / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
    biases = LEVEL_ZERO * codes.astype(np.int32).sum(axis=1, dtype=np.int32)
    scale = scale.astype(np.float32)
    if parts > 1:
        grouped = codes.reshape(len(padded), -1, parts, 4).transpose(1, 0, 2, 3)
        codes = np.ascontiguousarray(grouped.reshape(1, len(grouped), -1, 4))
        return QuantisedQuery(codes, scale.repeat(parts), biases.repeat(parts))
    return QuantisedQuery(_into_lanes(codes, lanes(_vectors(len(padded)))), scale, biases)


def byte_lanes(values: Float32) -> npt.NDArray[np.int8]:
    """Vectors as int8 [n_blocks, dim / 4, lanes, 4], the largest value of each at 127; zero rows pad."""
    scale = np.maximum(np.abs(values).max(axis=1, initial=0.0, keepdims=True), 1e-30) / np.float32(127)
    codes = np.zeros((-(-len(values) // lanes()) * lanes(), values.shape[1]), np.int8)
    codes[: len(values)] = np.rint(values / scale)
    return _into_lanes(codes, lanes())


def _into_lanes(codes: npt.NDArray[np.int8], block: int) -> npt.NDArray[np.int8]:
    grouped = codes.reshape(-1, block, codes.shape[1] // 4, 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grouped)


def run_rows(
    kernel: Callable[..., None],
    before: tuple[int, ...],
    offsets: Int64,
    rows: Int64 | None,
    after: tuple[int, ...],
    scratch_bytes: int,
    ns_a_token: float,
    n_threads: int | None,
) -> Float32:
    """Score `rows` (all for None): kernel(*before, offsets, rows, *after, scratch, out, first, last).

    ns_a_token: about how long a document token takes, which decides whether several threads pay.
    """
    if rows is None:
        ends = offsets
    else:  # a few of very many: nothing here may take time for every document
        rows = np.ascontiguousarray(rows, np.int64)
        ends = np.concatenate([[0], np.cumsum(offsets[rows + 1] - offsets[rows])])
    out = np.zeros(len(ends) - 1, np.float32)

    def work(first: int, last: int) -> None:
        scratch = np.empty(scratch_bytes // 8 + 1, np.int64)
        kernel(
            *before, address(offsets), 0 if rows is None else address(rows), *after,
            address(scratch), address(out), first, last,
        )  # fmt: skip

    threads.run(ends, ns_a_token, work, n_threads)
    return out


def _run_floats(
    name: str,
    query: Float32,
    n_query: int,
    values: npt.NDArray[np.floating],
    offsets: Int64,
    rows: Int64 | None,
    n_threads: int | None,
) -> Float32:
    """The kernels that score float32 query lanes against whole vectors."""
    dim = query.shape[1]
    before = (address(query), n_query, address(values))
    scratch_bytes = 4 * (lanes() + TILE * dim)
    cost = n_query * dim / _FLOAT_PRODUCTS_A_NS
    return run_rows(native.kernel(name), before, offsets, rows, (dim,), scratch_bytes, cost, n_threads)


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
    query_, n_query = query_lanes(query, dim)
    name = {np.dtype(np.float32): "maxsim_float32", np.dtype(np.float16): "maxsim_float16"}[values.dtype]
    return _run_floats(name, query_, n_query, values, offsets, rows, n_threads)


def maxsim_bytes(
    query: npt.ArrayLike,
    values: npt.NDArray[np.uint8],
    scales: Float32,
    offsets: Int64,
    rows: Int64 | None = None,
    n_threads: int | None = None,
) -> Float32:
    """MaxSim against token vectors of one byte a dimension and one scale a token.

    Args:
        query: float32 [n_query, dim], finite; rounded to int8.
        values: uint8 [n_tokens, dim], 0..127; scales: float32 [n_tokens];
            vector = (values - LEVEL_ZERO) * scale.
        offsets, rows, returns, raises: as `maxsim_arrays`.
    """
    dim = values.shape[1]
    padded, n_query = _padded_query(query, dim)
    codes, query_scales, biases = quantise_query(padded)
    before = (
        address(codes), address(query_scales), address(biases), n_query, address(values), address(scales),
    )  # fmt: skip
    needed = scratch_bytes(dim, len(padded))
    kernel = native.kernel(f"maxsim_bytes:{dim}")
    cost = n_query * dim / byte_products_a_ns()
    return run_rows(kernel, before, offsets, rows, (), needed, cost, n_threads)


class ResidualQuery(NamedTuple):
    """A query prepared once for all stores of one codec: int8 rows, and float32 table [n_centroids, padded]
    of its dot products with the centroids, the first n_query columns being its own."""

    quantised: QuantisedQuery
    table: Float32
    n_query: int


def residual_query(
    query: npt.ArrayLike, centroids: Float32, spread: Float32, n_threads: int | None = None
) -> ResidualQuery:
    """Prepare a query.

    Args:
        query: float32 [n_query, dim], finite.
        centroids: float32 [n_centroids, dim]; spread: float32 [dim], each dimension's width.
    Raises:
        InvalidInput: the query's width or a value does not fit.
    """
    padded, n_query = _padded_query(query, centroids.shape[1], narrow=True)
    table = score_table(padded, centroids, n_threads)
    parts = names.residual_parts(n_query, centroids.shape[1], isa.active())
    return ResidualQuery(quantise_query(padded * spread, parts), table, n_query)


def score_table(padded: Float32, rows: Float32, n_threads: int | None = None) -> Float32:
    """Float32 [n_rows, n_padded]: dot products of rows [n_rows, dim] with padded query tokens.

    Not NumPy's matrix product: its threads wait for each other, which takes milliseconds on a busy machine.
    """
    blocks = padded.reshape(-1, lanes(_vectors(len(padded))), padded.shape[1])
    query = np.ascontiguousarray(blocks.transpose(0, 2, 1))
    out = np.empty((len(rows), len(padded)), np.float32)
    kernel = native.kernel(names.score_table(rows.shape[1], _vectors(len(padded))))

    def work(first: int, last: int) -> None:
        kernel(address(query), len(blocks), address(rows), address(out), first, last)

    cost = rows.shape[1] * max(len(padded) / _FLOAT_PRODUCTS_A_NS, 4 / _BYTES_A_NS)
    threads.run(np.arange(len(rows) + 1), cost, work, n_threads)
    return out


def maxsim_residual(
    query: ResidualQuery,
    store: ResidualArrays,
    bits: int,
    offsets: Int64,
    rows: Int64 | None = None,
    n_threads: int | None = None,
) -> Float32:
    """MaxSim against residual codes, without decoding them.

    score = share * (centroid . q) + norm * scale * (dot(levels[codes], int8(q * spread)) - bias) for each
    token and query row q, (share, norm) = factors[norms]; the dot product is exact in int32, so every
    instruction set gives the same integers.

    Args:
        query: see `residual_query`; rounded to int8 where it meets the codes.
        store: see `ResidualArrays`; arrays are C-contiguous and may be memory-mapped.
        bits: 1, 2 or 4 a dimension.
        offsets, rows, returns, raises: as `maxsim_arrays`.
    """
    (codes, scales, biases), table, n_query = query
    dim = store.codes.shape[1] * 8 // bits
    parts = dim // (4 * codes.shape[1])
    before = (
        address(codes), address(scales), address(biases), n_query, address(table),
        address(store.codes), address(store.cells), int(store.cells.dtype == np.uint32), address(store.norms),
        address(store.factors), address(store.levels),
    )  # fmt: skip
    vectors = _vectors(table.shape[1])
    needed = scratch_bytes(dim, table.shape[1])
    kernel = native.kernel(names.residual_kernel(dim, bits, vectors, parts))
    cost = _NS_A_CODE + table.shape[1] // parts * dim / byte_products_a_ns()
    return run_rows(kernel, before, offsets, rows, (), needed, cost, n_threads)
