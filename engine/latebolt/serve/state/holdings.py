"""What a server holds beside its model, as its routes see it: by default what is in its data folder.

A server whose indexes lie on shards elsewhere holds other things of these shapes, see `shards`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from latebolt.encoder.encoder import Encoder
from latebolt.hits import Explanation, Hit
from latebolt.index.documents.checked import CheckedDocument
from latebolt.index.filters.parse_dict import Where
from latebolt.index.search.fusion import Mode
from latebolt.serve.problems import IndexState


class Found(NamedTuple):
    """Hits of one query, and the numbers of shards that gave no answer."""

    hits: list[Hit]
    missing: tuple[int, ...] = ()


class Added(NamedTuple):
    """Ids, how many texts were not read to their end, whether most are in a script that is not read."""

    ids: list[str]
    truncated: int
    unread_script: bool


class Wanted(NamedTuple):
    """What searches must have in common to be answered together.

    Args:
        k, exhaustive, mode: see `Index.search`.
        where: its filter, as JSON.
        partial: whether hits of some shards will do.
    """

    k: int
    where: bytes
    exhaustive: bool
    mode: Mode
    partial: bool = False


class AnyIndexes(Protocol):
    """Indexes by name. Threads share it; errors are those of `Indexes`."""

    def create(
        self,
        name: str,
        dim: int,
        bits: int,
        passage_tokens: int | None,
        passage_overlap: int | None,
        pool_factor: int = 1,
        max_vectors: int | None = None,
    ) -> dict[str, Any]:
        """Make an empty index and describe it."""

    def names(self) -> list[str]:
        """Names of all indexes."""

    def check(self, name: str) -> object:
        """Open an index, whose errors come up now."""

    def describe(self, name: str) -> dict[str, Any]:
        """An index in figures."""

    def all(self) -> list[dict[str, Any]]:
        """All indexes in figures; of those that cannot be used, their state and what to do."""

    def states(self) -> dict[str, tuple[IndexState, str]]:
        """The state of each index, and what to do where that is not "ready"."""

    def search(self, name: str, queries: Sequence[str], wanted: Wanted) -> list[Found]:
        """The best documents for each query."""

    def explain(self, name: str, query: str, wanted: Wanted) -> tuple[Explanation, tuple[int, ...]]:
        """The best documents for a query and how they came about, and shards that gave no answer."""

    def read(self, name: str, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Documents by their ids, None for one that is not there."""

    def add(self, name: str, documents: Sequence[CheckedDocument]) -> Added:
        """Add or replace documents, which are on disk when this returns."""

    def remove(self, name: str, ids: Sequence[str] | None, where: Where | None = None) -> int:
        """Delete documents; says how many of them there were."""

    def update(
        self, name: str, ids: Sequence[str] | None, where: Where | None, change: Mapping[str, Any]
    ) -> int:
        """Change documents' metadata; says of how many."""

    def close(self) -> None:
        """Release all indexes."""


class AnyJobs(Protocol):
    """Additions in the background."""

    def start(self) -> None:
        """Run jobs from now on."""

    def begin(self, index: str, documents: Sequence[CheckedDocument]) -> dict[str, Any]:
        """Queue an addition, and describe it."""

    def get(self, id: str) -> dict[str, Any]:
        """A job."""

    def all(self) -> list[dict[str, Any]]:
        """All jobs that are remembered, newest first."""

    def cancel(self, id: str) -> dict[str, Any]:
        """End a job, unless it has ended, and give its last state."""

    def delete_index(self, name: str) -> None:
        """Delete an index, which ends its jobs."""

    def close(self, seconds: float) -> None:
        """Let the job that runs commit what it works at, for some time."""


class AnySnapshots(Protocol):
    """Copies of indexes."""

    def make(self, index: str, name: str | None) -> dict[str, Any]:
        """Copy an index's last commit and describe the copy."""

    def all(self) -> list[dict[str, Any]]:
        """All snapshots, described."""

    def remove(self, index: str, name: str) -> None:
        """Remove a snapshot."""


class AnyData(Protocol):
    """Where indexes lie, as far as it may vanish while a server runs."""

    def look(self) -> tuple[bool, bool]:
        """Whether it is there, and whether that is news since the last look."""

    def was_there_since(self, moment: float) -> bool:
        """Whether it is there and has not been away since a moment of `time.monotonic()`."""

    def close(self) -> None:
        """Let go of it."""


class Holdings(NamedTuple):
    """All of it."""

    data: AnyData
    indexes: AnyIndexes
    snapshots: AnySnapshots
    jobs: AnyJobs


# What gives them, of an encoder of each width.
Hold = Callable[[Callable[[int], Encoder]], Holdings]
