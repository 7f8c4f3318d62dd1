"""Large collections made from real ones, with real queries whose answers are known.

The documents that answer the queries are kept whole. All others are cut into runs of 8 to 24 tokens; a
simulated passage is some runs of random documents between the first and the last token of one of them. Every
source document exists in several variants, each moved by a direction of its own and by noise on every token,
so that lengths and neighbourhoods stay those of real text while no two passages are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt import Encoder, TokenVectors
from latebolt.evaluate import read_collection

Int64 = npt.NDArray[np.int64]
SHIFT, NOISE = 0.25, 0.15  # lengths of what is added to unit vectors: to a whole variant, to each token
RUN, RUNS = (8, 24), (2, 6)  # tokens a run and runs a passage, both ends included


@dataclass(frozen=True)
class Source:
    """Documents that answer queries, and the variants that passages are cut from.

    Args:
        planted: the documents that answer.
        values: float16 [n_tokens, dim] of the variants; offsets int64 [n_variants + 1].
    """

    planted: TokenVectors
    values: npt.NDArray[np.float16]
    offsets: Int64

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Int64, Int64]:
        """`n` passages: (lengths [n], rows of `values` [sum of lengths])."""
        n_runs = rng.integers(RUNS[0], RUNS[1] + 1, n)
        document = rng.integers(0, len(self.offsets) - 1, int(n_runs.sum()))
        first, last = self.offsets[document], self.offsets[document + 1]
        start = first + (rng.random(len(document)) * (last - first)).astype(np.int64)
        length = np.minimum(rng.integers(RUN[0], RUN[1] + 1, len(document)), last - start)
        # The document's own first and last token around the first run's passage.
        begins = np.cumsum(n_runs) - n_runs
        starts = np.insert(start, begins, first[begins])
        lengths = np.insert(length, begins, 1)
        ends = np.cumsum(n_runs + 1)
        starts, lengths = np.insert(starts, ends, last[begins] - 1), np.insert(lengths, ends, 1)
        places = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        return np.add.reduceat(lengths, np.cumsum(n_runs + 2) - n_runs - 2), places + np.arange(len(places))


def write_vectors(path: Path, root: Path, names: list[str], n_queries: int) -> None:
    """Encode the collections at `root` with the starter, unless `path` is there.

    Args:
        n_queries: of each collection, evenly spread.
    """
    if not path.exists():
        np.savez(path, **_encode(root, names, n_queries))


def read_queries(path: Path) -> tuple[TokenVectors, Int64]:
    """Token vectors of the queries, and which of `Source.planted` answers each."""
    with np.load(path) as kept:
        _, answers = np.unique(kept["answers"], return_inverse=True)
        return TokenVectors(kept["queries"].astype(np.float32), kept["query_offsets"]), answers


def read_source(path: Path, variants: int) -> Source:
    """What `write_vectors` kept, with so many variants of each document that answers no query."""
    with np.load(path) as kept:
        documents = TokenVectors(kept["documents"].astype(np.float32), kept["document_offsets"])
        answers = np.unique(kept["answers"])
    others = np.setdiff1d(np.arange(len(documents)), answers)
    pool = TokenVectors.from_matrices([documents[int(i)] for i in others], documents.dim)
    rng = np.random.default_rng(1)
    values = np.concatenate([_variant(pool, rng) for _ in range(variants)])
    lengths = np.tile(pool.lengths, variants)
    return Source(
        TokenVectors.from_matrices([documents[int(i)] for i in answers], documents.dim),
        values,
        np.concatenate([[0], np.cumsum(lengths)]),
    )


def _variant(pool: TokenVectors, rng: np.random.Generator) -> npt.NDArray[np.float16]:
    shift = rng.standard_normal((len(pool), pool.dim), np.float32) * np.float32(SHIFT / pool.dim**0.5)
    values = pool.values + np.repeat(shift, pool.lengths, axis=0)
    values += rng.standard_normal(values.shape, np.float32) * np.float32(NOISE / pool.dim**0.5)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values.astype(np.float16)


def _encode(root: Path, names: list[str], n_queries: int) -> dict[str, npt.NDArray[Any]]:
    encoder = Encoder.load("starter", precision="int8", dim=128)
    documents, queries, answers = [], [], []
    n_documents = 0
    for name in names:
        collection = read_collection(root / name)
        place = {document: n_documents + i for i, document in enumerate(collection.documents)}
        asked = list(collection.queries)[:: max(1, len(collection.queries) // n_queries)][:n_queries]
        answers += [place[max(collection.qrels[q], key=collection.qrels[q].__getitem__)] for q in asked]
        queries += list(encoder.encode_queries([collection.queries[q] for q in asked]))
        documents += list(encoder.encode_documents(list(collection.documents.values())))
        n_documents += len(collection.documents)
    all_documents, all_queries = (TokenVectors.from_matrices(part, 128) for part in (documents, queries))
    return {
        "documents": all_documents.values.astype(np.float16),
        "document_offsets": all_documents.offsets,
        "queries": all_queries.values.astype(np.float16),
        "query_offsets": all_queries.offsets,
        "answers": np.array(answers),
    }
