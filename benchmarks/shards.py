"""What do shards cost on one machine? The whole index beside shard sets of it in one process.

Documents are those of the standard library, as often as is wanted, each time under other ids. Answers of each
set are compared with those of the index before anything is timed: exhaustive ones and those of bm25 to the
bit, in hybrid and late the share of the top ten. p50 is of single queries, queries/s of as many callers as
there are threads. Then what split and join take.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from harness import arguments, read_stdlib, record
from latebolt import Encoder, Index
from latebolt.sharding import ShardedIndex, join, split

SHARDS = (1, 2, 4)
MODES = ("late", "bm25", "hybrid")
COPIES, QUERIES = 12, 200
Search = Callable[..., Any]


def build(folder: Path, encoder: Encoder, n_documents: int, copies: int) -> tuple[Index, list[str]]:
    """The index, and queries: first sentences of documents."""
    some = list(read_stdlib())[:n_documents]
    index = Index.create(folder / "index", encoder)
    texts = [each.text for each in some]
    vectors = encoder.encode_documents(texts)
    for copy in range(copies):
        index.add_vectors([f"{each.id}#{copy}" for each in some], vectors, texts)
    index.compact()
    return index, [text.partition("\n")[2].partition(". ")[0][:120] or text[:120] for text in texts]


def compare(index: Index, sharded: ShardedIndex, queries: list[str]) -> dict[str, float]:
    """Share of the index's top ten that a set finds, by mode. Where both score everything, all of it."""
    for query in queries[:20]:
        for settings in ({"exhaustive": True}, {"mode": "bm25"}, {"exhaustive": True, "mode": "hybrid"}):
            want, got = index.search(query, **settings), list(sharded.search(query, **settings))
            assert got == want, f"{query!r} {settings}: {got[:3]} and not {want[:3]}"
    shares = {}
    for mode in MODES:
        found = []
        for query in queries[:40]:
            want = {hit.id for hit in index.search(query, mode=mode)}
            got = {hit.id for hit in sharded.search(query, mode=mode)}
            found.append(len(want & got) / max(len(want), 1))
        shares[mode] = float(np.mean(found))
    return shares


def timed(search: Search, queries: list[str], threads: int) -> tuple[float, float, float]:
    """(p50 ms, p95 ms, queries a second)."""
    times = []
    for query in queries:
        start = time.perf_counter()
        search(query)
        times.append(1e3 * (time.perf_counter() - start))
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as callers:
        list(callers.map(search, queries))
    rate = len(queries) / (time.perf_counter() - start)
    return float(np.percentile(times, 50)), float(np.percentile(times, 95)), rate


def rows_of(
    what: str, index: Index | ShardedIndex, queries: list[str], threads: int, shares: dict[str, float]
) -> list[dict[str, Any]]:
    """A row a mode."""
    rows = []
    for mode in MODES:
        index.search(queries[0], mode=mode)

        def search(query: str, mode: Any = mode) -> Any:
            return index.search(query, mode=mode)

        p50, p95, rate = timed(search, queries, threads)
        rows.append(
            {"what": what, "mode": mode, "p50_ms": p50, "p95_ms": p95, "queries_s": rate}
            | {"of the top ten": shares.get(mode, 1.0)}
        )
    return rows


def main() -> None:
    """The index, then each set."""
    given = arguments(__doc__)
    n_documents, copies, n_queries = (150, 1, 5) if given.quick else (2000, COPIES, QUERIES)
    encoder = Encoder.load("starter", threads=given.threads)
    rows: list[dict[str, Any]] = []
    folder = Path(tempfile.mkdtemp(prefix="latebolt-shards-"))
    try:
        index, all_queries = build(folder, encoder, n_documents, copies)
        queries = all_queries[:: max(len(all_queries) // n_queries, 1)][:n_queries]
        info = index.info()
        size = {"documents": info["documents"], "tokens": info["tokens"]}
        rows += [row | size for row in rows_of("one index", index, queries, given.threads, {})]
        for n in SHARDS:
            place = folder / f"shards-{n}"
            start = time.perf_counter()
            made = split(folder / "index", place, n)
            seconds = time.perf_counter() - start
            with ShardedIndex.open(place, encoder, threads=given.threads) as sharded:
                shares = compare(index, sharded, queries)
                rows += [
                    row | size
                    for row in rows_of(f"{n} local shards", sharded, queries, given.threads, shares)
                ]
            rows.append({"what": f"split into {n}", "seconds": seconds, "MB": made.bytes / 1e6} | size)
        start = time.perf_counter()
        made = join(folder / f"shards-{SHARDS[-1]}", folder / "joined")
        rows.append(
            {"what": f"join of {SHARDS[-1]}", "seconds": time.perf_counter() - start, "MB": made.bytes / 1e6}
            | size
        )
        index.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    record("shards", rows, quick=given.quick)


if __name__ == "__main__":
    main()
