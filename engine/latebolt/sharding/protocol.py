"""What is asked of a shard and what it answers: plain values that can be pickled, and who carries them.

A search takes at most three rounds. `count` tells what only all shards together know: how rare the query's
words are, how many tokens the filter leaves, which fields there are. `search` is then answered as one index
of all segments would. In mode "hybrid" both rankings are cut to the best of the whole, which is known when
all have answered; a shard whose best were cut away, so that others of it may come in, is asked once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from latebolt.arrays import Float32
from latebolt.encoder.tally import Letters
from latebolt.hits import Hit, Road, Stage
from latebolt.index.documents.checked import CheckedDocument
from latebolt.index.filters.parse_dict import Where
from latebolt.index.format.layout import ModelRecord
from latebolt.index.search.bm25 import WordCounts
from latebolt.index.search.fusion import Mode
from latebolt.index.search.query import Cut, Rankings, Ranks
from latebolt.values import TokenVectors

T_co = TypeVar("T_co", covariant=True)

Method = Literal[
    "state",
    "count",
    "search",
    "get",
    "present",
    "fields",
    "add",
    "add_vectors",
    "delete",
    "update_metadata",
    "reserve_ids",
]
READS: frozenset[Method] = frozenset({"state", "count", "search", "get", "present", "fields"})
"""Methods that change nothing: any replica answers them, and they may be asked twice."""


class Figures(NamedTuple):
    """A commit of a shard: its generation, live documents, and tokens of live rows."""

    generation: int
    documents: int
    tokens: int


class ShardState(NamedTuple):
    """A shard as it is now.

    Args:
        shard: its number and how many there are, as it says itself; None for an index of no set.
        info: see `Index.info`.
    """

    figures: Figures
    shard: tuple[int, int] | None
    dim: int
    bits: int
    model: ModelRecord | None
    info: dict[str, Any]

    @property
    def fingerprint(self) -> str | None:
        """What tells its model from others; None for none."""
        return None if self.model is None else self.model.fingerprint


@dataclass(frozen=True)
class CountRequest:
    """Asks for what a search needs to know of the whole.

    Args:
        queries: texts whose words are counted.
        where: the filter, None for none.
    """

    queries: tuple[str, ...] = ()
    where: Where | None = None


class ShardCounts(NamedTuple):
    """A shard's part of what a search needs to know of the whole.

    Args:
        tokens: of the rows that the filter leaves.
        words: for each query.
        missing: fields that the filter compares and no document here has.
        fields: those that documents have, where some are missing; at most 2,000.
    """

    figures: Figures
    tokens: int
    words: tuple[WordCounts, ...]
    missing: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchRequest:
    """A search, of several queries.

    Args:
        queries: their texts; "" where only vectors were given.
        matrices: float32 [n_query, dim] each; None in mode "bm25".
        k, where, exhaustive, mode: see `Index.search`.
        tokens, documents: that the filter leaves in the whole, and that the whole has.
        words: for each query, counted in the whole; empty in mode "late".
        cuts: for each query in mode "hybrid", once they are known; empty before.
        explain: also give stages, roads and the vectors of hits. One query only.
    """

    queries: tuple[str, ...]
    matrices: tuple[Float32 | None, ...]
    k: int = 10
    where: Where | None = None
    exhaustive: bool = False
    mode: Mode = "late"
    tokens: int | None = None
    documents: int | None = None
    words: tuple[WordCounts, ...] = ()
    cuts: tuple[Cut, ...] = ()
    explain: bool = False


class Answer(NamedTuple):
    """A shard's answer to one query.

    Args:
        hits: its k best, best first, ties by id, without confidence.
        maxsim: for each hit, the part of its score that is late interaction with all of the query.
        ranks: for each hit in mode "hybrid", how it stood in each ranking; else empty.
        rankings: in mode "hybrid", the scores of candidates in each ranking.
        vectors: for each hit of an explained search, float32 [n_tokens, dim] as searches see them.
    """

    hits: list[Hit]
    maxsim: list[float | None]
    ranks: Sequence[Ranks] = ()
    rankings: Rankings | None = None
    vectors: Sequence[Float32] = ()


class ShardAnswer(NamedTuple):
    """A shard's answers to a search, all of one commit."""

    figures: Figures
    answers: list[Answer]
    stages: tuple[Stage, ...] = ()
    roads: tuple[Road, ...] = ()


@dataclass(frozen=True)
class AddRequest:
    """Documents with ids, which belong to this shard; see `Index.add_checked`.

    Args:
        timeout: seconds to wait for another process that is writing.
    """

    documents: Sequence[CheckedDocument]
    timeout: float | None = None


@dataclass(frozen=True)
class AddVectorsRequest:
    """Documents with ids and token vectors of unit length, which belong to this shard."""

    documents: Sequence[CheckedDocument]
    vectors: TokenVectors
    timeout: float | None = None


class AddAnswer(NamedTuple):
    """What `Tally` counts of an addition."""

    texts: int
    truncated: int
    letters: Letters


@dataclass(frozen=True)
class ChangeRequest:
    """Documents that are to be deleted, or whose metadata are to be changed.

    Args:
        ids: None for all.
        where: of those that pass the filter.
        change: `set`, `unset` and `replace` of `Index.update_metadata`; empty for a deletion.
    """

    ids: Sequence[str] | None
    where: Where | None = None
    timeout: float | None = None
    change: Mapping[str, Any] = field(default_factory=dict)


class Pending(Protocol[T_co]):
    """An answer that is on its way, as `concurrent.futures.Future` is one."""

    def result(self, timeout: float | None = None) -> T_co:
        """The answer, or the error that came instead.

        Raises:
            TimeoutError: it is not there after so many seconds.
        """

    def cancel(self) -> object:
        """It is no longer wanted. Must not wait."""


class Shard(Protocol):
    """A shard as the one who asks sees it. A transport implements this; threads share it.

    `call` must not wait: what is asked is on its way when it returns. The other end calls the method of that
    name of a `ShardService` with these arguments, and gives back what it returns or raises.
    """

    def call(self, method: Method, *arguments: Any) -> Pending[Any]:
        """Ask."""

    def close(self) -> None:
        """Release what it holds."""
