"""What does token pooling cost in nDCG@10, and what does it save, beside fewer bits?

Documents of real collections are encoded once by the starter at 128 dimensions, and their vectors pooled from
there: one of about 2, 3 or 4 (`pool_factor`), or at most so many a document (`max_vectors`), each kept at 4,
2 and 1 bits a dimension and as float32. Every document is scored exactly: the index's search plays no part.
Differences are against all vectors at the same bits, with a 95 % interval of a paired bootstrap over queries;
two codecs of one kind differ by some 0.002 (codec.py). Bytes a document are those of codes. Time to pool is
processor time a document, on one thread. Before it counts, a few documents prove that vectors pooled from
encodings, those of `encode_documents` and those an index keeps are the same. A plot stands beside the record.
Needs the collections at LATEBOLT_DATA and `pip install 'latebolt[eval]'`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness import RESULTS, arguments, data_folder, record
from latebolt import Encoder, Index
from latebolt.caches import cache_folder
from latebolt.evaluate import Collection, late_run, measure_queries, read_collection
from latebolt.evaluate.cache import Encodings
from latebolt.evaluate.statistics import paired_differences

MEASURE = "nDCG@10"
COLLECTIONS = ("squad", "cosqa", "pubmedqa")  # the starter reads English
QUERIES = 1000
DIM = 128
BITS = (32, 4, 2, 1)
# pool_factor and max_vectors; the first is what the others are compared with.
POOLINGS: tuple[tuple[int, int | None], ...] = (
    (1, None),
    (2, None),
    (3, None),
    (4, None),
    (1, 128),
    (1, 64),
    (1, 32),
    (1, 16),
)
QUICK_POOLINGS = ((1, None), (2, None), (1, 12))


def named(factor: int, most: int | None) -> str:
    """A pooling for people."""
    if most is not None:
        return f"at most {most}"
    return "every vector" if factor == 1 else f"one of {factor}"


def check_alike(encoder: Encoder, texts: list[str]) -> None:
    """Raise AssertionError unless pooled encodings are what `encode_documents` and an index pool."""
    whole = encoder.encode_documents(texts)
    for factor, most in POOLINGS[1:]:
        pooled = encoder.pooled(whole, factor, most)
        again = encoder.encode_documents(texts, pool_factor=factor, max_vectors=most)
        assert np.array_equal(pooled.values, again.values)
        with tempfile.TemporaryDirectory() as folder:
            index = Index.create(Path(folder) / "i", encoder, 16, pool_factor=factor, max_vectors=most)
            index.add(texts)
            kept = np.concatenate([block.token_vectors().values for block in index.iter_documents()])
            assert np.array_equal(kept, pooled.values.astype(np.float16).astype(np.float32))
            index.close()


def rows_of(
    name: str, collection: Collection, encoder: Encoder, encodings: Encodings, quick: bool
) -> Iterator[dict[str, Any]]:
    """A row for every pooling and number of bits."""
    texts = list(collection.documents.values())
    documents = encodings.encode(encoder, texts, "document", show_progress=True)
    queries = encodings.encode(encoder, list(collection.queries.values()), "query")
    exact: dict[int, dict[str, float]] = {}
    for factor, most in QUICK_POOLINGS if quick else POOLINGS:
        start = time.thread_time()
        kept = encoder.pooled(documents, factor, most)
        pool_ms = 1e3 * (time.thread_time() - start) / len(texts)
        for bits in (32, 2) if quick else BITS:
            run, size = late_run(collection, queries, kept, bits)
            values = measure_queries(run, collection.qrels)[MEASURE]
            row: dict[str, Any] = {
                "collection": name,
                "documents": len(texts),
                "queries": len(collection.queries),
                "kept": named(factor, most),
                "pool_factor": factor,
                "max_vectors": most,
                "bits": bits,
                "vectors_a_document": kept.n_tokens / len(texts),
                "bytes_a_document": size * kept.n_tokens / len(texts),
                MEASURE: float(np.mean(list(values.values()))),
                "pool_ms": pool_ms,
            }
            whole = exact.setdefault(bits, values)
            if whole is not values:
                change = np.array([[values[query] - whole[query]] for query in values], np.float64)
                [found] = paired_differences(change)
                row |= {"difference": found.mean, "low": found.low, "high": found.high}
            yield row


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """nDCG@10 over bytes a document: a line a pooling through its bits, of each collection."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["collection"] for row in rows))
    figure, axes = pyplot.subplots(
        1, len(names), figsize=(4.2 * len(names), 3.6), layout="constrained", squeeze=False
    )
    for panel, name in zip(axes[0], names, strict=True):
        some = [row for row in rows if row["collection"] == name and row["bits"] != 32]
        for kept in dict.fromkeys(row["kept"] for row in some):
            line = sorted((row["bytes_a_document"], row[MEASURE]) for row in some if row["kept"] == kept)
            style = "--" if kept.startswith("at most") else "-"
            panel.semilogx(*zip(*line, strict=True), style, marker="o", markersize=4, label=kept)
        panel.set(title=name, xlabel="bytes a document (4, 2, 1 bits)", ylabel=MEASURE)
    axes[0][-1].legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Every collection in turn."""
    given = arguments(__doc__, queries=QUERIES)
    rows: list[dict[str, Any]] = []
    with Encoder.load("starter", "int8", DIM, threads=given.threads) as encoder:
        for name in ("pubmedqa",) if given.quick else COLLECTIONS:
            collection = read_collection(data_folder() / name)
            if not rows:
                check_alike(encoder, list(collection.documents.values())[: 4 if given.quick else 12])
            collection = collection.with_queries(20 if given.quick else given.queries)
            encodings = Encodings(None if given.quick else cache_folder("eval"))
            rows += rows_of(name, collection, encoder, encodings, given.quick)
    record("pooling", rows, ("ir-measures",), given.quick)
    if given.quick:
        with tempfile.TemporaryDirectory() as folder:
            plot(rows, Path(folder) / "pooling.svg")
    else:
        plot(rows, RESULTS / "pooling.svg")


if __name__ == "__main__":
    main()
