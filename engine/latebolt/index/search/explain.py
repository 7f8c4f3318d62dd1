"""Notes what a search does while it runs: its stages, their times, and which way segments were searched."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from latebolt.arrays import Float32, Int64
from latebolt.codec.base import Columns, Scorer
from latebolt.hits import Road, Stage


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
