"""How much of the exact top ten a first stage keeps: queries made from documents of the corpus itself, exact
answers by MaxSim of all, and the share of these among the documents that the stage hands on. Pure.

Queries come from documents that are held out, of which nothing is fitted; they are searched for among all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from latebolt.adapters.stages.base import Stage
from latebolt.arrays import Bool, Float32, Int64
from latebolt.scoring import maxsim
from latebolt.values import TokenVectors

K: Final = 10
QUERIES: Final = 100
_WINDOW: Final = 12  # token vectors of a query that is cut out of a document
_WORDS: Final = range(4, 25)  # of a sentence that a query is made of
_HELD_OUT: Final = 0.2
_SENTENCE_END: Final = re.compile(r"(?<=[.!?。！？])\s+|\n+")


@dataclass(frozen=True, eq=False)
class Sample:
    """Some documents of a corpus, and what is asked of them.

    Args:
        documents: token vectors, one entry a document.
        held_out: bool [n_documents], those that queries were made of.
        queries: token vectors.
        total: documents of the corpus.
    """

    documents: TokenVectors
    held_out: Bool
    queries: TokenVectors
    total: int

    @property
    def fitted(self) -> TokenVectors:
        """The documents that something may be fitted to."""
        kept = [self.documents[int(i)] for i in np.flatnonzero(~self.held_out)]
        return TokenVectors.from_matrices(kept, self.documents.dim)

    def exact(self, k: int = K) -> list[Int64]:
        """Of each query the k best documents, all of them compared."""
        found = (np.argsort(-maxsim(query, self.documents), kind="stable")[:k] for query in self.queries)
        return [np.asarray(each, np.int64) for each in found]

    def candidates(self, wanted: int, k: int = K) -> int:
        """Candidates that stand for `wanted` of the whole corpus: as large a share, but twice k at least."""
        return max(1, min(wanted, max(2 * k, round(wanted * len(self.documents) / max(self.total, 1)))))


def fraction(id: str, purpose: str) -> float:
    """A number in [0, 1) that an id has always, another one for each purpose."""
    digest = hashlib.blake2b(id.encode(), digest_size=8, person=purpose.encode()[:16]).digest()
    return int.from_bytes(digest, "little") / 2.0**64


def is_held_out(id: str) -> bool:
    """Whether queries are made of a document, a fifth of all."""
    return fraction(id, "held out") < _HELD_OUT


def sentence_of(text: str) -> str | None:
    """A sentence of a text as somebody might ask it, behind the first where there are several; or None."""
    fitting = [part for part in _SENTENCE_END.split(text) if len(part.split()) in _WORDS]
    return fitting[min(1, len(fitting) - 1)] if fitting else None


def window_of(matrix: Float32) -> Float32:
    """Neighbouring token vectors out of the middle of a document, float32 [1 .. 12, dim]."""
    start = max(0, (len(matrix) - _WINDOW) // 2)
    return matrix[start : start + _WINDOW]


def stage_overlap(stage: Stage, sample: Sample, exact: Sequence[Int64], candidates: int) -> float:
    """Share of the exact answers among the candidates of a first stage, each compared exactly afterwards.

    Args:
        exact: see `Sample.exact`.
        candidates: documents that it hands on.
    Returns:
        0 to 1; 1 where nothing is asked.
    """
    filled = np.flatnonzero(sample.documents.lengths)
    made = stage.of_documents([sample.documents[int(i)] for i in filled])
    if not made:
        return 1.0
    if stage.is_multi:
        pooled = TokenVectors.from_matrices(made)
        found = [maxsim(stage.of_query(query), pooled) for query in sample.queries]
    else:
        vectors = np.stack(made)
        if stage.is_cosine:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        found = [vectors @ stage.of_query(query) for query in sample.queries]
    nearest = [filled[np.argsort(-scores, kind="stable")[:candidates]] for scores in found]
    return overlap(nearest, exact)


def overlap(found: Sequence[Int64], exact: Sequence[Int64]) -> float:
    """Share of the exact answers that were found, over all queries; 1 where nothing is asked."""
    wanted = sum(len(each) for each in exact)
    shared = sum(len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True))
    return shared / wanted if wanted else 1.0
