"""The run: encodes a collection, scores every document for every query, for each combination asked for.

Every document is scored exactly, so what is measured is the vectors and the codec, not a search's shortcuts.
The vectors of one width are held in memory as float32.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.codec.base import BITS
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.codec.restore import untrained
from latebolt.encoder import model_folder
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput
from latebolt.evaluate.baseline import bm25_run
from latebolt.evaluate.cache import Encodings
from latebolt.evaluate.collection import Collection, read_collection
from latebolt.evaluate.measures import Run, measure_queries, ranking_of
from latebolt.evaluate.passages import Encoded, encoded
from latebolt.index.documents.passages import Cutting, check_cutting
from latebolt.kernels.maxsim import maxsim_arrays
from latebolt.progress import progress_bar
from latebolt.values import TokenVectors

_SAMPLE = 196_608
_TIMED_QUERIES = 32
_SHOWN = 3  # best documents of a query that are kept, for the report


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The combinations asked for; all of each with all of the others.

    Args:
        dims: widths; None for every head of each model.
        bits: 1, 2, 4, 8, 16, or 32 for exact float32 vectors.
        pools: pool factors of documents; 1 keeps every vector.
        passage_tokens: documents count by their best passage of so many tokens, cut as `Index.create` says;
            None: a document is what the model reads of it.
        late_chunking: beside passages that are encoded by themselves, those encoded within the text around
            them.
    Raises:
        InvalidInput: an empty list, or bits, a factor or passages that there are not.
    """

    models: Sequence[str] = ("starter",)
    precisions: Sequence[str] = ("int8",)
    dims: Sequence[int] | None = None
    bits: Sequence[int] = (32, 2)
    pools: Sequence[int] = (1,)
    passage_tokens: int | None = None
    late_chunking: bool = False

    def __post_init__(self) -> None:
        for name in ("models", "precisions", "bits", "pools"):
            if not getattr(self, name):
                raise InvalidInput(f"{name} should not be empty.")
        if wrong := [bits for bits in self.bits if bits not in (*BITS, 32)]:
            raise InvalidInput(f"bits should be some of 32, 16, 8, 4, 2, 1, got {wrong[0]!r}.")
        if wrong := [pool for pool in self.pools if not isinstance(pool, int) or pool < 1]:
            raise InvalidInput(f"pools should be at least 1, got {wrong[0]!r}.")
        check_cutting(self.passage_tokens, None, sys.maxsize, self.late_chunking)

    def cuttings(self, encoder: Encoder) -> list[Cutting | None]:
        """The ways asked for to cut documents.

        Raises:
            InvalidInput: the model does not read passages of so many tokens.
        """
        late = [False, True] if self.late_chunking else [False]
        return [check_cutting(self.passage_tokens, None, encoder.document_room, each) for each in late]

    def encoders(self) -> list[tuple[str, str, int]]:
        """(model, precision, dim), each checked to exist before anything is encoded.

        Raises:
            ModelError: there is no such model, precision or head.
        """
        found = []
        for model in dict.fromkeys(self.models):
            contract = model_folder.find(model).contract
            dims = self.dims or [head.dim for head in contract.heads]
            for precision in dict.fromkeys(self.precisions):
                contract.graph(precision)
                found += [(model, precision, contract.head(dim).dim) for dim in dict.fromkeys(dims)]
        return found


@dataclass(frozen=True)
class Variant:
    """One combination.

    passages: of documents that were cut, how; "" where each is one text.
    """

    model: str
    precision: str
    dim: int
    bits: int
    pool: int
    passages: str = ""

    def __str__(self) -> str:
        stored = "float32" if self.bits == 32 else f"{self.bits} bit"
        pooled = f", pool {self.pool}" if self.pool > 1 else ""
        cut = f", passages of {self.passages}" if self.passages else ""
        return f"{self.model} {self.precision}, dim {self.dim}, {stored}{pooled}{cut}"


@dataclass(frozen=True, eq=False)
class Scored:
    """What one variant, or BM25 (None), made of a collection.

    values: [measure][query id]. best: the first documents for each query. bytes_per_token: of a vector kept.
    bytes_per_text_token: of a vector before pooling, which tells pooled and unpooled apart. encode_ms,
    score_ms: median time to encode one query alone, and to score every document for one.
    """

    variant: Variant | None
    values: dict[str, dict[str, float]]
    best: dict[str, list[str]]
    bytes_per_token: float | None = None
    bytes_per_text_token: float | None = None
    bytes_per_document: float | None = None
    encode_ms: float | None = None
    score_ms: float | None = None

    @property
    def name(self) -> str:
        """For people."""
        return str(self.variant or "BM25")

    @property
    def query_ms(self) -> float | None:
        """Encoding and scoring."""
        return None if self.score_ms is None else self.score_ms + (self.encode_ms or 0.0)

    def mean(self, measure: str) -> float:
        """Over the queries."""
        return float(np.mean(list(self.values[measure].values())))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A collection and all that was run on it, BM25 first."""

    collection: Collection
    scored: list[Scored]


def evaluate_collection(
    collection: Collection,
    grid: Grid,
    cache: Path | None = None,
    threads: int | None = None,
    device: str = "cpu",
    show_progress: bool = False,
) -> Evaluation:
    """BM25 and every variant of the grid.

    Args:
        cache: where encodings are kept (`caches.cache_folder("eval")`); None keeps none.
    Raises:
        ModelError: a model, precision or head of the grid does not exist.
    """
    wanted = grid.encoders()
    run = bm25_run(collection)
    scored = [Scored(None, measure_queries(run, collection.qrels), _best(run))]
    encodings = Encodings(cache)
    for model, precision, dim in wanted:
        with Encoder.load(model, precision, dim, device, threads) as encoder:
            asked = list(collection.queries.values())
            queries = encodings.encode(encoder, asked, "query", show_progress)
            encode_ms = _encode_ms(encoder, asked)
            for cutting in grid.cuttings(encoder):
                documents = encoded(collection, encoder, encodings, cutting, show_progress)
                for pool in dict.fromkeys(grid.pools):
                    kept = documents
                    if pool > 1:
                        kept = documents._replace(vectors=encoder.pooled(documents.vectors, pool))
                    for bits in dict.fromkeys(grid.bits):
                        variant = Variant(model, precision, dim, bits, pool, _passages(cutting))
                        run, size, score_ms = _late(collection, queries, kept, bits, threads, show_progress)
                        n_tokens = kept.vectors.n_tokens
                        scored.append(
                            Scored(
                                variant,
                                measure_queries(run, collection.qrels),
                                _best(run),
                                size,
                                size * n_tokens / max(1, documents.vectors.n_tokens),
                                size * n_tokens / len(collection.documents),
                                encode_ms,
                                score_ms,
                            )
                        )
    return Evaluation(collection, scored)


def _passages(cutting: Cutting | None) -> str:
    if cutting is None:
        return ""
    return f"{cutting.tokens}" if cutting.window is None else f"{cutting.tokens}, late"


def _best(run: Run) -> dict[str, list[str]]:
    return {query: list(ranking)[:_SHOWN] for query, ranking in run.items()}


def _encode_ms(encoder: Encoder, queries: Sequence[str]) -> float:
    encoder.encode_queries(queries[:1])
    times = []
    for query in queries[:: max(1, len(queries) // _TIMED_QUERIES)][:_TIMED_QUERIES]:
        start = time.perf_counter()
        encoder.encode_queries([query])
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def late_run(
    collection: Collection, queries: TokenVectors, documents: TokenVectors, bits: int
) -> tuple[Run, float]:
    """MaxSim over every document at so many bits (32 = exact); and bytes a token."""
    run, size, _ = _late(collection, queries, Encoded(documents), bits, None, False)
    return run, size


def _late(
    collection: Collection,
    queries: TokenVectors,
    documents: Encoded,
    bits: int,
    threads: int | None,
    show_progress: bool,
) -> tuple[Run, float, float]:
    """The run, bytes a token, and the median time to score a query in ms."""
    names = list(collection.documents)
    score, size = _scorer(documents.vectors, bits, threads)
    run, times = {}, []
    title = f"search, dim {documents.vectors.dim}, {bits} bit"
    with progress_bar(len(queries), title, "query", show_progress) as bar:
        for query, matrix in zip(collection.queries, queries, strict=True):
            start = time.perf_counter()
            scores = documents.of_documents(score(matrix))
            times.append(1e3 * (time.perf_counter() - start))
            run[query] = ranking_of(scores, names)
            bar.step(1)
    return run, size, statistics.median(times)


def _scorer(
    documents: TokenVectors, bits: int, threads: int | None
) -> tuple[Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], float]:
    """Scores every document for a query's vectors; and bytes a token."""
    if bits == 32:
        values, offsets = documents.values, documents.offsets
        return lambda query: maxsim_arrays(query, values, offsets, n_threads=threads), 4.0 * documents.dim
    codec = (
        untrained(documents.dim, bits)
        if bits >= 8
        else ResidualCodec.train(_sample(documents), bits, documents.n_tokens)
    )
    columns = codec.encode(documents.values)
    return (
        lambda query: codec.scorer(query, threads).exact(columns, documents.offsets),
        codec.bytes_per_token(),
    )


def _sample(documents: TokenVectors) -> npt.NDArray[np.float32]:
    if documents.n_tokens <= _SAMPLE:
        return documents.values
    rows = np.random.default_rng(0).choice(documents.n_tokens, _SAMPLE, replace=False)
    return documents.values[np.sort(rows)]


def rows_of(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row a variant: collection, model, precision, dim, bits, pool, passages, sizes, times, measures."""
    collection = evaluation.collection
    base: dict[str, Any] = {"collection": collection.name, "documents": len(collection.documents)}
    base |= {"queries": len(collection.queries)}
    rows = []
    for scored in evaluation.scored:
        row = {**base, "model": "BM25"}
        if (variant := scored.variant) is not None:
            row |= {"model": variant.model, "precision": variant.precision, "dim": variant.dim}
            row |= {"bits": variant.bits, "pool": variant.pool, "passages": variant.passages}
            row |= {"bytes_per_token": scored.bytes_per_token}
            row |= {"bytes_per_text_token": scored.bytes_per_text_token}
            row |= {"bytes_per_document": scored.bytes_per_document}
            row |= {"encode_ms": scored.encode_ms, "score_ms": scored.score_ms}
        rows.append({**row, **{name: scored.mean(name) for name in scored.values}})
    return rows


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
    """`rows_of` a collection in BEIR layout, for one model; nothing is cached.

    Args:
        bits: 1, 2, 4, 8, 16, or 32 for exact float32 vectors.
        max_queries: only so many queries, evenly spread over the collection.
    """
    collection = read_collection(folder).with_queries(max_queries)
    grid = Grid(models=(model,), precisions=precisions, dims=dims, bits=bits)
    return rows_of(evaluate_collection(collection, grid, threads=threads, show_progress=show_progress))
