"""What a search did, beside its hits: its stages with their times, and which words of each hit matched."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from latebolt.alignment import TokenMatch, WordMatch
from latebolt.arrays import Float32, Int64
from latebolt.codec.base import Columns, Scorer
from latebolt.values import Hit


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
            are those of fresh token vectors, a hit's score comes from the stored ones.
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


class Trace:
    """Takes the times of a search's stages; one that is not wanted takes none and gets out of the way."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._seen: dict[str, tuple[float, int]] = {}
        self._roads: list[Road] = []

    @contextlib.contextmanager
    def stage(self, name: str, documents: int = 0) -> Iterator[None]:
        """Add the time of a block, and documents, to a stage."""
        if not self.wanted:
            yield
            return
        ms, before = self._seen.setdefault(name, (0.0, 0))
        start = time.perf_counter()
        yield
        self._seen[name] = (ms + 1e3 * (time.perf_counter() - start), before + documents)

    def count(self, name: str, documents: int) -> None:
        """Add documents to a stage that has begun, where their number is known only afterwards."""
        if self.wanted:
            ms, before = self._seen[name]
            self._seen[name] = (ms, before + documents)

    def road(self, segment: str, way: str, why: str) -> None:
        """Note how a segment was searched."""
        if self.wanted:
            self._roads.append(Road(segment, way, why))

    @property
    def roads(self) -> tuple[Road, ...]:
        """What was noted."""
        return tuple(self._roads)

    def scorer(self, scorer: Scorer) -> Scorer:
        """The same scorer, traced."""
        return _TracedScorer(self, scorer) if self.wanted else scorer

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What was seen."""
        return tuple(Stage(name, ms, documents) for name, (ms, documents) in self._seen.items())


class _TracedScorer:
    def __init__(self, trace: Trace, scorer: Scorer) -> None:
        self._trace, self._scorer = trace, scorer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def exact(self, columns: Columns, offsets: Int64, rows: Int64 | None = None) -> Float32:
        with self._trace.stage("score exactly", len(offsets) - 1 if rows is None else len(rows)):
            return self._scorer.exact(columns, offsets, rows)

    def approximate(self, columns: Columns, offsets: Int64, rows: Int64 | None = None) -> Float32 | None:
        with self._trace.stage("rank by centroids", len(offsets) - 1 if rows is None else len(rows)):
            return self._scorer.approximate(columns, offsets, rows)
