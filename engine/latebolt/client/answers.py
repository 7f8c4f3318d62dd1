"""What the server answers, as typed values; fields that a later server adds are ignored.

Hits and explanations are those of the library (`latebolt.hits`), so that what prints or handles the ones of
a local index takes these too.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from latebolt.hits import Explanation, Hit, PartialHits, Road, Span, Stage, TokenMatch, match_words


class IndexInfo(msgspec.Struct, frozen=True):
    """An index in figures; they are 0 in a list of indexes for one that cannot be used.

    Args:
        state: "ready", "newer_format", "damaged", "foreign" (no index), "unreadable", "other_model" or
            "incomplete".
        detail: what it is, and the way out, where it is not ready.
    """

    name: str
    documents: int = 0
    passages: int = 0
    tokens: int = 0
    bytes: int = 0
    deleted: int = 0
    generation: int = 0
    dimensions: int = 0
    bits: int = 0
    passage_tokens: int | None = None
    passage_overlap: int | None = None
    pool_factor: int = 1
    max_vectors: int | None = None
    model: str | None = None
    precision: str | None = None
    state: str = "ready"
    detail: str | None = None


class SnapshotInfo(msgspec.Struct, frozen=True):
    """A copy of an index on the server.

    Args:
        state: see `IndexInfo`; of one that is not ready there are no figures.
        created: seconds since 1970.
        bytes: of its files, which it may share with the index.
        generation: of the index, when it was copied.
    """

    index: str
    name: str
    state: str
    created: float | None = None
    documents: int | None = None
    bytes: int | None = None
    generation: int | None = None


class ModelInfo(msgspec.Struct, frozen=True):
    """The served model."""

    id: str
    dimensions: list[int]
    precision: str
    max_tokens: int
    aliases: list[str]


class Added(msgspec.Struct, frozen=True):
    """Documents that are on disk.

    Args:
        truncated: of them, or of their passages, those that were not read to their end.
        unread_script: whether most of the texts, by a sample, are in a script that the model does not read.
        ids: empty for an addition in the background.
    """

    added: int = 0
    truncated: int = 0
    unread_script: bool = False
    ids: list[str] = []

    def __add__(self, other: Added) -> Added:
        return Added(
            self.added + other.added,
            self.truncated + other.truncated,
            self.unread_script or other.unread_script,
            self.ids + other.ids,
        )


class Job(msgspec.Struct, frozen=True):
    """An addition in the background.

    Args:
        committed: of its documents, so many are on disk: the first ones, and all when it is "done".
        detail: why it ended as "failed", "cancelled" (by a request, or with its index) or "interrupted".
        code: of one that failed, the server's word for why, such as "storage_full".
    """

    id: str
    index: str
    state: Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
    documents: int
    created: float
    ended: float | None = None
    detail: str | None = None
    truncated: int | None = None
    unread_script: bool | None = None
    committed: int = 0
    code: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled", "interrupted")

    @property
    def added(self) -> Added:
        """What a job that is done has added."""
        return Added(self.documents, self.truncated or 0, bool(self.unread_script))


class Status(msgspec.Struct, frozen=True):
    """A word on the server's state."""

    status: str


class Indexes(msgspec.Struct, frozen=True):
    """All indexes."""

    data: list[IndexInfo]


class Snapshots(msgspec.Struct, frozen=True):
    """All snapshots, by index and name."""

    data: list[SnapshotInfo]


class Models(msgspec.Struct, frozen=True):
    """The models; one."""

    data: list[ModelInfo]


class Jobs(msgspec.Struct, frozen=True):
    """Jobs, newest first."""

    data: list[Job]


class Deleted(msgspec.Struct, frozen=True):
    """How many of the documents there were."""

    deleted: int


class Updated(msgspec.Struct, frozen=True):
    """How many documents have other metadata now."""

    updated: int


class Document(msgspec.Struct, frozen=True):
    """A document as it is stored."""

    id: str
    text: str | None = None
    metadata: dict[str, Any] | None = None


class Documents(msgspec.Struct, frozen=True):
    """Documents in the order of the ids; None for one that is not there."""

    documents: list[Document | None]


class _Part(msgspec.Struct, frozen=True):
    start: int
    end: int


class _Match(msgspec.Struct, frozen=True):
    query: _Part | None
    document: _Part | None
    similarity: float
    telling: bool = True

    def match(self) -> TokenMatch:
        return TokenMatch(_span(self.query), _span(self.document), self.similarity, self.telling)


def _span(part: _Part | None) -> Span:
    return (part.start, part.end) if part else (0, 0)


class _FoundHit(msgspec.Struct, frozen=True):
    id: str
    score: float
    text: str | None = None
    metadata: dict[str, Any] | None = None
    place: dict[str, Any] | None = None
    confidence: float | None = None
    weak: bool = False
    matches: list[_Match] = []

    def plain(self) -> Hit[str]:
        facts = self.metadata or {}, self.place or {}
        return Hit(self.id, self.score, self.text, *facts, self.confidence, self.weak)


class _Stage(msgspec.Struct, frozen=True):
    name: str
    ms: float
    documents: int


class _Road(msgspec.Struct, frozen=True):
    segment: str
    way: str
    why: str


class Found(msgspec.Struct, frozen=True):
    """An answer to a search; `stages` and `roads` where it was asked to explain, `missing_shards` where hits
    of some shards will do."""

    hits: list[_FoundHit]
    truncated: bool = False
    stages: list[_Stage] = []
    roads: list[_Road] = []
    missing_shards: list[int] = []

    def plain(self) -> PartialHits:
        """The hits, which say what shards are missing from them."""
        return PartialHits([hit.plain() for hit in self.hits], dict.fromkeys(self.missing_shards, ""))

    def explained(self, query: str) -> Explanation:
        """As `Index.search(explain=True)` gives it."""
        tokens = [[each.match() for each in hit.matches] for hit in self.hits]
        words = [match_words(query, hit.text or "", m) for hit, m in zip(self.hits, tokens, strict=True)]
        stages = tuple(Stage(each.name, each.ms, each.documents) for each in self.stages)
        roads = tuple(Road(each.segment, each.way, each.why) for each in self.roads)
        return Explanation(self.plain(), stages, words, tokens, roads)


class _Result(msgspec.Struct, frozen=True):
    index: int
    relevance_score: float
    confidence: float | None = None
    weak: bool = False

    def hit(self, documents: list[str]) -> Hit[int]:
        text = documents[self.index]
        return Hit(self.index, self.relevance_score, text, confidence=self.confidence, weak=self.weak)


class Ranked(msgspec.Struct, frozen=True):
    """Passages, best first."""

    results: list[_Result]

    def hits(self, documents: list[str]) -> list[Hit[int]]:
        """With the texts, which the server was not asked to send back."""
        return [each.hit(documents) for each in self.results]
