"""Kernels over the centroids of inverted lists, of which a codec's centroid may have several: how they are
learnt from a segment's codes, which list a token belongs to, and which are nearest to a query.

Such a centroid is int8: 127 times a unit vector, which costs a product 0.0023 (standard deviation).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt import threads
from latebolt.arrays import Float32, Int64
from latebolt.kernels import native
from latebolt.kernels.groups import lay_in_blocks
from latebolt.kernels.maxsim import address, lanes
from latebolt.kernels.shapes import CODE_TILE, GROUP_PARTS, LIST_STEPS

# Tokens whose lists are looked for together, those of one centroid after each other: its lists are read from
# near memory then, and the tokens' codes stay there, too.
_TOGETHER = 1 << 18
SCALE = 127  # of a unit vector's numbers as bytes
_NS_A_PRODUCT, _NS_A_LIST = 0.06, 10.0  # of a dimension, and beside it, on one thread: whether several pay


class StoredTokens(NamedTuple):
    """Tokens as a residual codec keeps them, and what their numbers mean.

    cells uint16 or uint32 [n]; codes uint8 [n, dim * bits / 8]; norms uint8 [n]; factors float32 [N_FACTORS,
    2]; weights float32 [2**bits]; spread float32 [dim]; centroids float32 [n_centroids, dim]. Arrays are
    C-contiguous and may be memory-mapped.
    """

    cells: npt.NDArray[np.unsignedinteger]
    codes: npt.NDArray[np.uint8]
    norms: npt.NDArray[np.uint8]
    factors: Float32
    weights: Float32
    spread: Float32
    centroids: Float32

    @property
    def shape(self) -> str:
        """As kernels' names have it."""
        return f"{len(self.spread)}x{len(self.weights).bit_length() - 1}"

    def addresses(self) -> tuple[int, ...]:
        """The kernels' first arguments."""
        return (
            address(self.cells), int(self.cells.dtype == np.uint32), address(self.codes), address(self.norms),
            address(self.factors), address(self.weights), address(self.spread), address(self.centroids),
        )  # fmt: skip


def decode(stored: StoredTokens, tokens: Int64, n_threads: int | None = None) -> Float32:
    """Float32 [len(tokens), dim]: what the codes of some tokens say."""
    tokens, dim = np.ascontiguousarray(tokens, np.int64), len(stored.spread)
    out = np.empty((len(tokens), dim), np.float32)
    kernel, before = native.kernel(f"decode_residual:{stored.shape}"), stored.addresses()

    def work(first: int, last: int) -> None:
        kernel(*before, address(tokens), address(out), first, last)

    threads.run(np.arange(len(tokens) + 1), dim, work, n_threads)
    return out


def cluster(
    values: Float32, ends: Int64, starts: Int64, rounds: int, n_threads: int | None = None
) -> npt.NDArray[np.int8]:
    """Spherical k-means within groups of vectors that stand together.

    It begins with vectors spread evenly over each group, so that the result is the same every time.

    Args:
        values: float32 [n, dim].
        ends: int64 [n_groups + 1], group g owns rows ends[g]:ends[g + 1] of values.
        starts: int64 [n_groups + 1], and gets rows starts[g]:starts[g + 1] of the result; no more than it
            owns, and none where it owns none.
        rounds: of assignment and mean.
    Returns:
        int8 [starts[-1], dim]: SCALE times unit vectors.
    """
    dim = values.shape[1]
    centres = np.empty((int(starts[-1]), dim), np.float32)
    sizes, n_centres = np.diff(ends), np.diff(starts)
    assert (n_centres <= sizes).all()
    kernel = native.kernel(f"cluster_rows:{dim}")

    def work(first: int, last: int) -> None:
        most = int(n_centres[first:last].max(initial=1))
        sums, counts = np.empty((most, dim), np.float32), np.empty(most, np.int64)
        kernel(
            address(values), address(ends), address(starts), address(centres), rounds, address(sums),
            address(counts), first, last,
        )  # fmt: skip

    products = np.concatenate([[0], np.cumsum(sizes * n_centres)])
    threads.run(products, rounds * dim * _NS_A_PRODUCT, work, n_threads)
    return np.rint(SCALE * np.clip(centres, -1, 1)).astype(np.int8)


def nearest_list(
    stored: StoredTokens,
    starts: Int64,
    rows: npt.NDArray[np.int8],
    out: npt.NDArray[np.uint32],
    n_threads: int | None = None,
) -> None:
    """The list that each token belongs to: of those of its centroid, the one with the largest product.

    Tokens are bytes there, 63 for their largest number, so that of nearly equal products another may be
    taken for the largest.

    Args:
        starts: int64 [n_centroids + 1], each centroid's first list.
        rows: int8 [starts[-1], dim], see `cluster`.
        out: uint32 [n], what is found; may be memory-mapped.
    """
    kernel, before = native.kernel(f"nearest_list:{stored.shape}"), stored.addresses()
    dim, n_cells = len(stored.spread), len(starts) - 1
    blocks, lanes_, biases, members = lay_in_blocks(rows, np.diff(starts))
    ones = np.ones(dim, np.float32)

    def work(first: int, last: int) -> None:
        ends, listed = np.empty(n_cells + 1, np.int64), np.empty(min(_TOGETHER, last - first), np.uint32)
        scratch = np.zeros(dim * (4 + lanes() + CODE_TILE) + 8 * CODE_TILE, np.uint8)
        best = np.empty((CODE_TILE, 2 * GROUP_PARTS), np.int32)
        for start in range(first, last, _TOGETHER):
            kernel(
                *before, n_cells, address(starts), address(blocks), address(lanes_), address(biases),
                address(members), address(ones), address(ends), address(listed), address(scratch),
                address(best), address(out), start, min(start + _TOGETHER, last),
            )  # fmt: skip

    threads.run(np.arange(len(out) + 1), dim, work, n_threads)


def choose_lists(
    query: Float32,
    ranges: Int64,
    ends: Int64,
    rows: npt.NDArray[np.int8],
    offsets: Int64,
    n: int,
    unit: float,
    n_threads: int | None = None,
) -> Int64:
    """The n lists nearest to each query token, of those that it looks at, and what they gain a document.

    A list gains by how much it is nearer than the nearest that is not visited. Products are told apart in
    LIST_STEPS steps between a token's least and largest.

    Args:
        query: float32 [n_query, dim].
        ranges: int64 [n, 2]: first and last + 1 row; ends: int64 [n_query + 1]: which of them each token
            looks at.
        rows: int8 [n_lists, dim], see `cluster`; may be memory-mapped.
        offsets: int64 [n_lists + 1], where each list begins.
        unit: above 0, the product that one gain stands for.
    Returns:
        int64 [n_visited, 4], as `kernels.lists.gather` wants them; gains are at least 1.
    """
    query, ranges = np.ascontiguousarray(query, np.float32), np.ascontiguousarray(ranges, np.int64)
    sizes = np.concatenate([[0], np.cumsum(ranges[:, 1] - ranges[:, 0])]).astype(np.int64)
    looked = sizes[ends]
    n_query, dim = query.shape
    n = min(n, int(np.diff(looked).max(initial=0)))
    out, found = np.empty((n_query, n, 4), np.int64), np.zeros(n_query, np.int64)
    step = np.array([unit * SCALE], np.float32)
    kernel = native.kernel(f"choose_lists:{dim}")

    def work(first: int, last: int) -> None:
        products = np.empty(int(np.diff(looked[first : last + 1]).max()), np.float32)
        counts = np.empty(LIST_STEPS, np.int64)
        kernel(
            address(query), address(ranges), address(ends), address(rows), address(offsets), n, address(step),
            address(products), address(counts), address(out), address(found), first, last,
        )  # fmt: skip

    threads.run(looked, _NS_A_LIST + dim * _NS_A_PRODUCT, work, n_threads)
    if (found == n).all():
        return out.reshape(-1, 4)
    return np.concatenate([each[:many] for each, many in zip(out, found.tolist(), strict=True)])
