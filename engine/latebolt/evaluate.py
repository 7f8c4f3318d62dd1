"""Retrieval quality of a model on a collection in BEIR layout, by precision, width and bits.

Metrics come from ir-measures and the baseline from bm25s; every document is scored exactly, so what is
measured is the vectors and the codec, not a search's shortcuts.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from latebolt.codec.residual import ResidualCodec
from latebolt.codec.restore import untrained
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput, RuntimeUnavailable
from latebolt.kernels.maxsim import maxsim_arrays
from latebolt.values import TokenVectors

DEPTH = 100  # hits looked at a query
MEASURES = ("nDCG@10", "R@10", "R@100", "RR@10")
_SAMPLE = 196_608


@dataclass(frozen=True)
class Collection:
    """Documents, queries and judgements: qrels[query id][document id] = grade."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def read_collection(folder: str | Path) -> Collection:
    """A collection in BEIR layout: corpus.jsonl, queries.jsonl (or .gz), qrels.tsv or qrels/test.tsv.

    Only queries with a judgement are kept.

    Raises:
        InvalidInput: a file is missing or a line is not what it should be; names the place.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidInput(f"{root}: there is no such folder.")
    documents, queries = (dict(_records(root, name)) for name in ("corpus", "queries"))
    path = next((p for p in (root / "qrels.tsv", root / "qrels" / "test.tsv") if p.exists()), None)
    if path is None:
        raise InvalidInput(f"{root}: should have qrels.tsv or qrels/test.tsv.")
    qrels: dict[str, dict[str, int]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for n, row in enumerate(csv.reader(file, delimiter="\t"), start=1):
            if n == 1 and row[:1] == ["query-id"]:
                continue
            try:
                query, document, grade = row
                qrels.setdefault(query, {})[document] = int(grade)
            except ValueError as error:
                raise InvalidInput(f"{path}:{n}: should be query, document and grade, got {row}.") from error
    queries = {name: text for name, text in queries.items() if name in qrels}
    if not queries:
        raise InvalidInput(f"{path}: judges none of the queries in {root}.")
    return Collection(root.name, documents, queries, qrels)


def _records(root: Path, name: str) -> Iterator[tuple[str, str]]:
    path = next((p for p in (root / f"{name}.jsonl", root / f"{name}.jsonl.gz") if p.exists()), None)
    if path is None:
        raise InvalidInput(f"{root}: should have {name}.jsonl or {name}.jsonl.gz.")
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for n, line in enumerate(file, start=1):
            try:
                record = msgspec.json.decode(line)
                title = record.get("title") or ""
                yield record["_id"], f"{title} {record['text']}".strip()
            except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
                raise InvalidInput(f'{path}:{n}: should be an object with "_id" and "text".') from error


def ranking_of(scores: npt.NDArray[np.float32], names: Sequence[str], depth: int = DEPTH) -> dict[str, float]:
    """The best `depth` documents and their scores, ties by position."""
    best = np.argsort(-scores, kind="stable")[:depth]
    return {names[i]: float(scores[i]) for i in best}


def measure(run: dict[str, dict[str, float]], qrels: dict[str, dict[str, int]]) -> dict[str, float]:
    """Each of `MEASURES`, averaged over the queries.

    Raises:
        RuntimeUnavailable: ir-measures is not installed.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise RuntimeUnavailable(
            "ir-measures is not installed. Run \"pip install 'latebolt[eval]'\"."
        ) from error
    measures = [ir_measures.parse_measure(name) for name in MEASURES]
    judged = {query: qrels[query] for query in run}
    found = ir_measures.calc_aggregate(measures, judged, run)
    return {str(measure): float(value) for measure, value in found.items()}


def bm25_run(collection: Collection) -> dict[str, dict[str, float]]:
    """BM25 with its usual settings (bm25s: lucene, k1 1.5, b 0.75, English stop words)."""
    try:
        import bm25s
    except ImportError as error:
        raise RuntimeUnavailable("bm25s is not installed. Run \"pip install 'latebolt[eval]'\".") from error
    names = list(collection.documents)
    retriever = bm25s.BM25()
    retriever.index(
        bm25s.tokenize(list(collection.documents.values()), stopwords="en", show_progress=False),
        show_progress=False,
    )
    tokens = bm25s.tokenize(list(collection.queries.values()), stopwords="en", show_progress=False)
    found, scores = retriever.retrieve(tokens, k=min(DEPTH, len(names)), show_progress=False)
    return {
        query: {names[i]: float(s) for i, s in zip(found[n], scores[n], strict=True)}
        for n, query in enumerate(collection.queries)
    }


def late_run(
    collection: Collection, queries: TokenVectors, documents: TokenVectors, bits: int
) -> tuple[dict[str, dict[str, float]], float]:
    """MaxSim over every document at so many bits (32 = exact); and bytes a token."""
    names = list(collection.documents)
    if bits == 32:

        def score(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            return maxsim_arrays(matrix, documents.values, documents.offsets)

        size = 4.0 * documents.dim
    else:
        codec = (
            untrained(documents.dim, bits)
            if bits >= 8
            else ResidualCodec.train(_sample(documents), bits, documents.n_tokens)
        )
        columns = codec.encode(documents.values)

        def score(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            return codec.scorer(matrix).exact(columns, documents.offsets)

        size = codec.bytes_per_token()
    run = {
        query: ranking_of(score(matrix), names)
        for query, matrix in zip(collection.queries, queries, strict=True)
    }
    return run, size


def _sample(documents: TokenVectors) -> npt.NDArray[np.float32]:
    if documents.n_tokens <= _SAMPLE:
        return documents.values
    rows = np.random.default_rng(0).choice(documents.n_tokens, _SAMPLE, replace=False)
    return documents.values[np.sort(rows)]


def evaluate(
    folder: str | Path,
    model: str = "starter",
    precisions: Sequence[str] = ("int8",),
    dims: Sequence[int] | None = None,
    bits: Sequence[int] = (32, 2),
    threads: int | None = None,
    max_queries: int | None = None,
    show_progress: bool = False,
) -> list[dict[str, Any]]:
    """One row a combination: collection, model, precision, dim, bits, bytes a token and the measures.

    The first row is the BM25 baseline.

    Args:
        folder: a collection in BEIR layout.
        bits: 1, 2, 4, 8, 16, or 32 for exact float32 vectors.
        max_queries: only so many queries, evenly spread over the collection.
    """
    collection = read_collection(folder)
    if max_queries is not None:
        # Evenly spread: neighbouring queries often ask about one document.
        step = max(1, len(collection.queries) // max_queries)
        some = dict(list(collection.queries.items())[::step][:max_queries])
        collection = Collection(collection.name, collection.documents, some, collection.qrels)
    base = {"collection": collection.name, "documents": len(collection.documents)}
    base |= {"queries": len(collection.queries)}
    rows = [{**base, "model": "BM25", **measure(bm25_run(collection), collection.qrels)}]
    for precision in precisions:
        widths = dims or [head.dim for head in Encoder.load(model, precision, threads=threads).contract.heads]
        for dim in widths:
            encoder = Encoder.load(model, precision, dim, threads=threads)
            queries = encoder.encode_queries(list(collection.queries.values()))
            documents = encoder.encode_documents(list(collection.documents.values()), show_progress)
            for width in bits:
                run, size = late_run(collection, queries, documents, width)
                row = {"model": model, "precision": precision, "dim": dim, "bits": width}
                rows.append({**base, **row, "bytes_per_token": size, **measure(run, collection.qrels)})
    return rows
