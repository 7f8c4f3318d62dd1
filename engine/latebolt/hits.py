"""What a search gives: hits, how they came about, and which words of them matched.

Plain values without NumPy, so that a client of a server, and the printing of its answers, load no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # knows defaults, as Python's own from 3.13 on

    Id = TypeVar("Id", str, int, default=str)
else:
    from typing import TypeVar

    Id = TypeVar("Id", str, int)

Span = tuple[int, int]  # characters [start, end) of a text

# A number with its separators, or letters with inner apostrophes and hyphens.
_WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class Hit(Generic[Id]):
    """One result. `id` is the document's id, a str (its position, an int, for `rerank`); higher `score` is
    better. `metadata` is empty where the document has none. `place` says where the text stands in what it was
    read from, such as {"page": 3}; empty where nobody said that.

    `confidence`, in [0, 1], says how likely the document answers the query, whatever the query's length and
    the model's scores are like, and `weak` that it is below the point which was measured for the model. Both
    follow from the score, so they are no part of comparisons. None and False where nothing tells: the model
    has no calibration, the score is not MaxSim of a text (mode "bm25", `search_vectors`)."""

    id: Id
    score: float
    text: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)
    place: dict[str, Any] = field(default_factory=dict, hash=False)
    confidence: float | None = field(default=None, compare=False)
    weak: bool = field(default=False, compare=False)

    def with_confidence(self, confidence: float, weak: bool) -> Hit[Id]:
        """The same hit with these."""
        return replace(self, confidence=confidence, weak=weak)

    def record(self) -> dict[str, Any]:
        """As JSON values; `metadata` is null where there is none, or an empty one. `place`, and `confidence`
        with `weak`, only if known."""
        known = {"id": self.id, "score": self.score, "text": self.text, "metadata": self.metadata or None}
        if self.place:
            known["place"] = self.place
        if self.confidence is not None:
            known |= {"confidence": self.confidence, "weak": self.weak}
        return known


class PartialHits(list[Hit]):
    """Hits of an index on shards, and which shards are missing from them: by number, why; "" where a server
    does not say that."""

    def __init__(self, hits: Iterable[Hit], missing: Mapping[int, str]) -> None:
        super().__init__(hits)
        self.missing = dict(missing)


class WordMatch(NamedTuple):
    """A query word, the document word its best token matched ("" for a marker), the cosine of the two, and
    whether that is a reason, see `TokenMatch`."""

    query_word: str
    document_word: str
    similarity: float
    telling: bool = True


class TokenMatch(NamedTuple):
    """A token of the query, the document's token it matched best, both as characters [start, end), and the
    cosine of the two. Markers, which no character stands for, have (0, 0).

    telling: whether it says anything of the document. It does not where the token is about as near to all of
    the text (`alignment.STANDS_OUT`), or its word stands in many of the index's texts
    (`search.common_words`). Of a search by words, `similarity` is what the word weighs as a share of what the
    rarest does.
    """

    query: Span
    document: Span
    similarity: float
    telling: bool = True


class Stage(NamedTuple):
    """One stage of a search: its time, and the documents (passages of those that were cut) it looked at, 0
    where it looks at none."""

    name: str
    ms: float
    documents: int


class Road(NamedTuple):
    """How one segment was searched, and why.

    way: "exact", every document exactly; "centroids", all ranked by their centroids and the best scored
    exactly; "lists", the same with those that lists by centroid bring up. why: a sentence.
    """

    segment: str
    way: str
    why: str


@dataclass(frozen=True)
class Explanation:
    """The hits of a search and how they came about.

    Args:
        hits: what the search gives without `explain`.
        stages: in the order in which they began.
        alignments: for each hit, its match of every query word; empty for a hit without a text. The cosines
            are those that the search scored by, with the vectors that the index keeps; where these are
            pooled, and stand for several tokens, those of the text encoded again.
        tokens: for each hit, its match of every token of the query, from which `alignments` were made.
        roads: of each segment that was searched by late interaction, how and why.
    """

    hits: list[Hit]
    stages: tuple[Stage, ...]
    alignments: list[list[WordMatch]]
    tokens: list[list[TokenMatch]]
    roads: tuple[Road, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON values: hits with their `matches`, stages and roads."""
        hits = [
            {**hit.record(), "matches": [match._asdict() for match in matches]}
            for hit, matches in zip(self.hits, self.alignments, strict=True)
        ]
        return {
            "hits": hits,
            "stages": [stage._asdict() for stage in self.stages],
            "roads": [road._asdict() for road in self.roads],
        }


def match_words(query: str, document: str, tokens: Sequence[TokenMatch]) -> list[WordMatch]:
    """The matches of words, from those of tokens; see `align`."""
    matches: dict[Span, WordMatch] = {}
    for token in tokens:
        if token.query[0] == token.query[1]:
            continue
        word, found = _word_at(query, token.query), token.document
        target = document[slice(*_word_at(document, found))] if found[0] < found[1] else ""
        match = WordMatch(query[slice(*word)], target, token.similarity, token.telling)
        if word not in matches or matches[word].similarity < match.similarity:
            matches[word] = match
    return [matches[word] for word in sorted(matches)]


def _word_at(text: str, span: Span) -> Span:
    """The word around some characters; the characters themselves where there is no word."""
    for word in _WORD.finditer(text, max(0, span[0] - 60), span[1] + 60):
        if word.start() <= span[0] < word.end():
            return word.start(), word.end()
    return span
