"""What do words add to late interaction? nDCG@10 and time by mode, beside other ways to fuse and to count.

One index a collection and model, 2 bits. `reciprocal rank` fuses the same two rankings by rank (k 60,
100 documents each); FTS5 is SQLite's own BM25 with its tokenizer, with and without its English stemmer; bm25s
is the baseline of quality.py, with English stop words. `starter` reads English: on jsquad and drcd its late
rows are what a wrong model gives; `multilingual` is asked on one collection a language. Needs the collections
at LATEBOLT_DATA and `pip install 'latebolt[eval]'`.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness import arguments, data_folder, record
from latebolt import Encoder, Index
from latebolt.evaluate import DEPTH, Collection, bm25_run, measure, read_collection

COLLECTIONS = "squad,cosqa,pubmedqa,jsquad,drcd"
MODELS = ("starter", "multilingual")
OF_LANGUAGES = {"squad", "jsquad", "drcd"}
QUERIES = 1000
Run = dict[str, dict[str, float]]


def timed(collection: Collection, search: Callable[[str], dict[str, float]]) -> tuple[Run, float]:
    """The ranking of every query, and the median milliseconds of one."""
    run, times = {}, []
    for name, text in collection.queries.items():
        start = time.perf_counter()
        run[name] = search(text)
        times.append(1e3 * (time.perf_counter() - start))
    return run, float(np.median(times))


def by_rank(late: Run, words: Run) -> Run:
    """Reciprocal rank fusion."""
    fused: Run = {}
    for query in late:
        scores = fused.setdefault(query, {})
        for ranking in (late[query], words[query]):
            for rank, document in enumerate(sorted(ranking, key=lambda d: -ranking[d]), start=1):
                scores[document] = scores.get(document, 0.0) + 1 / (60 + rank)
    return fused


def fts5(collection: Collection, tokenizer: str) -> tuple[Run, float]:
    """SQLite's bm25() over the same texts, the query's words joined by OR."""
    database = sqlite3.connect(":memory:")
    database.execute(f"CREATE VIRTUAL TABLE f USING fts5(text, content='', tokenize='{tokenizer}')")
    names = list(collection.documents)
    database.executemany(
        "INSERT INTO f (rowid, text) VALUES (?, ?)", enumerate(collection.documents.values())
    )
    statement = f"SELECT rowid, bm25(f) FROM f WHERE f MATCH ? ORDER BY 2 LIMIT {DEPTH}"

    def search(query: str) -> dict[str, float]:
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query))
        return {names[row]: -score for row, score in database.execute(statement, (words,))}

    return timed(collection, search)


def compare(collection: Collection, model: str, encoder: Encoder, folder: Path) -> list[dict[str, Any]]:
    """One row a way to search; ways that need no model only once, beside the first."""
    index = Index.create(folder / collection.name, encoder, bits=2)
    index.add(list(collection.documents.values()), ids=list(collection.documents))

    def search(mode: Any) -> tuple[Run, float]:
        return timed(collection, lambda q: {h.id: h.score for h in index.search(q, DEPTH, mode=mode)})

    found: dict[str, tuple[Run, float | None]] = {mode: search(mode) for mode in ("late", "bm25", "hybrid")}
    found["reciprocal rank"] = by_rank(found["late"][0], found["bm25"][0]), None
    if model == MODELS[0]:
        found["FTS5 unicode61"] = fts5(collection, "unicode61 remove_diacritics 2")
        found["FTS5 porter"] = fts5(collection, "porter unicode61 remove_diacritics 2")
        found["bm25s"] = bm25_run(collection), None
    rows = []
    for way, (run, ms) in found.items():
        scored = {query: ranking or {"nothing": 0.0} for query, ranking in run.items()}
        base = {"collection": collection.name, "queries": len(run), "model": model, "way": way}
        rows.append({**base, **measure(scored, collection.qrels), "median_ms": ms})
    return rows


def main() -> None:
    """Every collection in turn."""
    given = arguments(__doc__, collections=COLLECTIONS)
    root = data_folder()
    rows = []
    for model in MODELS[: 1 if given.quick else None]:
        encoder = Encoder.load(model, threads=given.threads)
        for name in given.collections.split(",")[: 1 if given.quick else None]:
            if model != MODELS[0] and name not in OF_LANGUAGES:
                continue
            collection = read_collection(root / name).with_queries(20 if given.quick else QUERIES)
            with tempfile.TemporaryDirectory() as folder:
                rows += compare(collection, model, encoder, Path(folder))
    record("hybrid", rows, ("ir-measures", "bm25s"), given.quick)


if __name__ == "__main__":
    main()
