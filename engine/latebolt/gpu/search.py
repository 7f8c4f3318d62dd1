"""Exhaustive search on GPUs: scores all documents of resident segments, gives those that may be the best.

Scores of the device differ from the CPU's by rounding, and by how much at most is known. So the device
gives every document that could be among the k best by the CPU's kernels, a few more than k, and these say
which are: hits, their order, their scores and their ties are those of an exhaustive search on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from latebolt.arrays import Float32, Int64
from latebolt.gpu import layout
from latebolt.gpu.cuda import Gpu
from latebolt.gpu.resident import GROUPS, OnDevice, Queries, Resident, Space, Wanted, Wishes, most_blocks

Rows = dict[str, list[Int64]]


def candidates(resident: Resident, queries: Queries, wishes: Wishes, k: int) -> Rows:
    """Rows that may be among the k best of their segment, ascending, by segment and query.

    Args:
        queries: float32 [n_query >= 1, dim] each.
        wishes: of which resident segments, and which rows of them.
        k: documents wanted.
    """

    def work(gpu: Gpu) -> Rows:
        mine = [each for name, each in resident.segments.items() if each.gpu is gpu and name in wishes]
        if not mine:
            return {}
        with gpu.at_work("a search"):
            space = resident.space(gpu, max(each.n_docs for each in mine))
            return {each.name: _search(space, each, queries, wishes[each.name], k) for each in mine}

    if len(resident.gpus) == 1 or any(gpu.simulated for gpu in resident.gpus):
        found = [work(gpu) for gpu in resident.gpus]
    else:
        with ThreadPoolExecutor(len(resident.gpus), thread_name_prefix="latebolt-gpu") as workers:
            found = list(workers.map(work, resident.gpus))
    return {name: rows for each in found for name, rows in each.items()}


class _Block(NamedTuple):
    """A block of a query: the query's position, its own in that, whether it begins or ends it."""

    query: int
    number: int
    first: bool
    last: bool


def launches(n_blocks: Sequence[int], most: int) -> Iterator[list[_Block]]:
    """Blocks of queries, in order, as many together as one pass serves.

    Args:
        n_blocks: of each query, at least one.
    """
    some: list[_Block] = []
    for query, count in enumerate(n_blocks):
        for number in range(count):
            some.append(_Block(query, number, number == 0, number == count - 1))
            if len(some) == most:
                yield some
                some = []
    if some:
        yield some


def _search(space: Space, segment: OnDevice, queries: Queries, wanted: Wanted, k: int) -> list[Int64]:
    if segment.n_docs == 0:
        return [np.zeros(0, np.int64) for _ in queries]
    scorer = _Residual(segment, queries) if segment.codec is not None else _Whole(segment, queries)
    mask = segment.mask(wanted.rows, wanted.key)
    found: list[Int64] = []
    for some in launches(scorer.n_blocks, scorer.most):
        parts = scorer.run(space, some, mask)
        at = 0
        while at < len(some):
            query = some[at].query
            count = sum(block.query == query for block in some)
            _add_up(space, segment.n_docs, parts, at, count, some[at].first)
            at += count
            if some[at - 1].last:
                found.append(_best(space, segment.n_docs, scorer.apart[query], wanted, k))
    return found


def _add_up(space: Space, n_docs: int, parts: Any, first: int, count: int, fresh: bool) -> None:
    from latebolt.gpu.kernels.select import sum_blocks

    maxima = space.maxima[: min(GROUPS, n_docs)]
    sum_blocks[space.gpu.grid(-(-len(maxima) // 32))](
        parts, first, count, 1 if fresh else 0, space.totals[:n_docs], maxima
    )


def _best(space: Space, n_docs: int, apart: float, wanted: Wanted, k: int) -> Int64:
    """Rows that may be among the k best documents, ascending."""
    maxima: Float32 = space.maxima[: min(GROUPS, n_docs)].copy_to_host()
    groups = k
    while True:
        least = kth(maxima, groups)
        rows, scores = _at_least(space, n_docs, below(least - 2 * apart))
        if wanted.firsts is None or least == -np.inf:
            return rows
        if len(np.unique(wanted.firsts(rows[scores >= np.float32(least)]))) >= k:
            return rows
        groups *= 2  # the best groups have passages of the same documents


def kth(maxima: Float32, k: int) -> float:
    """The k-th largest; -inf where there are fewer."""
    if k > len(maxima):
        return -np.inf
    return float(np.partition(maxima, len(maxima) - k)[len(maxima) - k])


def below(value: float) -> np.float32:
    """A float32 that is not above the value."""
    if value == -np.inf:
        return np.float32(-np.inf)
    return np.float32(np.nextafter(np.float32(value), np.float32(-np.inf)))


def _at_least(space: Space, n_docs: int, least: np.float32) -> tuple[Int64, Float32]:
    """Rows that score so much, ascending, and their scores."""
    from latebolt.gpu.kernels.select import select

    counter = space.gpu.put(np.zeros(1, np.int32))
    select[space.gpu.grid(-(-n_docs // 32))](space.totals[:n_docs], least, counter, space.rows, space.scores)
    n = int(counter.copy_to_host()[0])
    rows, scores = space.rows[:n].copy_to_host(), space.scores[:n].copy_to_host()
    order = np.argsort(rows)
    return rows[order].astype(np.int64), scores[order]


class _Residual:
    """Scores blocks of query tokens with a segment's residual codes."""

    def __init__(self, segment: OnDevice, queries: Queries) -> None:
        codec = segment.codec
        assert codec is not None
        self._segment, self._codec = segment, codec
        of = codec.codec
        prepared = [
            layout.query_blocks(query, of.spread, codec.longest, of.bits, of.factors) for query in queries
        ]
        self._blocks = [blocks for blocks, _ in prepared]
        self.apart = [apart for _, apart in prepared]
        self.n_blocks = [len(blocks.rows) for blocks in self._blocks]
        self.most = most_blocks(segment.padded)

    def run(self, space: Space, some: Sequence[_Block], mask: Any) -> Any:
        """Float32 [len(some) or more, n_docs] on the device."""
        from latebolt.gpu.kernels.maxsim_residual import maxsim_residual
        from latebolt.gpu.kernels.select import centroid_units

        gpu, segment, codec = space.gpu, self._segment, self._codec
        size = 1 << (len(some) - 1).bit_length()  # so that there are three kernels and not four
        whole = [*some, *[some[0]] * (size - len(some))]
        rows, words, coefs, units = (
            gpu.put(np.stack([getattr(self._blocks[block.query], field)[block.number] for block in whole]))
            for field in layout.QueryBlocks._fields
        )
        n_centroids = len(codec.codec.centroids)
        table = gpu.empty((size, n_centroids, 16), np.uint32)
        blocks, threads = gpu.grid(-(-n_centroids * 16 // 32))
        centroid_units[(blocks, size), threads](codec.centroids, rows, units, table)
        parts = space.parts(size, segment.n_docs)
        maxsim_residual(segment.padded, codec.codec.bits, size)[gpu.grid(segment.n_docs)](
            segment.codes, segment.cells, segment.norms, codec.factors, codec.levels,
            words.reshape(-1), coefs.reshape(-1), units, table.reshape(-1), n_centroids,
            segment.offsets, mask, parts,
        )  # fmt: skip
        return parts


class _Whole:
    """Scores blocks of query tokens with a segment's float16 vectors."""

    def __init__(self, segment: OnDevice, queries: Queries) -> None:
        self._segment = segment
        self._rows = [layout.query_rows(query) for query in queries]
        self.n_blocks = [len(rows) for rows in self._rows]
        self.most = most_blocks(128)
        lengths = [np.abs(query.astype(np.float64)).sum(axis=1) * segment.largest for query in queries]
        self.apart = [float(2 * (segment.dim + len(of)) * layout.ROUNDING * of.sum()) for of in lengths]

    def run(self, space: Space, some: Sequence[_Block], mask: Any) -> Any:
        """Float32 [len(some), n_docs] on the device."""
        from latebolt.gpu.kernels.maxsim_float import maxsim_float

        gpu, segment = space.gpu, self._segment
        rows = gpu.put(np.stack([self._rows[block.query][block.number] for block in some]))
        parts = space.parts(len(some), segment.n_docs)
        blocks, threads = gpu.grid(segment.n_docs)
        maxsim_float[(blocks, len(some)), threads](rows, segment.values, segment.offsets, mask, parts)
        return parts
