"""Indexes on shards, in place of a data folder's: searched and changed here, made and split elsewhere.

Where shards give no answer, that is an error, or, where a search asks for it, a partial answer. What goes by
one folder (making and deleting indexes, snapshots, additions in the background) is refused with the way out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from latebolt.encoder import legibility
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.tally import gathered
from latebolt.errors import IndexNotFound, LateboltError
from latebolt.hits import Explanation
from latebolt.index.documents.checked import CheckedDocument
from latebolt.index.filters.parse_dict import Where
from latebolt.serve import log, metrics
from latebolt.serve.engine.batcher import count_truncated, count_unread_script
from latebolt.serve.problems import IndexState, Problem
from latebolt.serve.state.holdings import Added, Found, Hold, Holdings, Wanted
from latebolt.serve.state.indexes import described, state_of
from latebolt.sharding.protocol import Shard
from latebolt.sharding.sharded_index import ShardedIndex

_LOOK_SECONDS: Final = 2.0  # that a look at all indexes waits for one
_LOCK_SECONDS: Final = 20.0  # that a change waits for another process that writes to a shard


class ShardedIndexes:
    """Indexes by name, each of several shards. Thread-safe.

    Args:
        shards: of each index, in the order of their numbers.
        encoder_of: the encoder of a width.
        seconds: that a search waits for a shard.
    """

    def __init__(
        self,
        shards: Mapping[str, Sequence[Shard]],
        encoder_of: Callable[[int], Encoder],
        seconds: float,
    ) -> None:
        self._shards, self.encoder_of, self._seconds = dict(shards), encoder_of, seconds
        self._open: dict[str, ShardedIndex] = {}
        self._lock = threading.Lock()
        self._warned_of_script: set[str] = set()

    def replace(self, shards: Mapping[str, Sequence[Shard]], seconds: float) -> None:
        """Go by other shards from now on. What is under way goes on with those that it began with."""
        with self._lock:
            self._shards, self._seconds, self._open = dict(shards), seconds, {}

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
        """Refused.

        Raises:
            Problem: 409.
        """
        raise refused("makes no indexes", 'Make one with "latebolt index" and split it with "latebolt split"')

    def names(self) -> list[str]:
        """Names of all indexes."""
        return sorted(self._shards)

    def check(self, name: str) -> ShardedIndex:
        """Open an index.

        Raises:
            IndexNotFound: there is none of that name.
            ShardUnavailable: a shard of it gives no answer.
            ModelMismatch, IndexCorrupt: it cannot be used.
        """
        return self._opened(name, self._seconds)

    def describe(self, name: str) -> dict[str, Any]:
        """An index in figures, of all shards together."""
        return self._described(name, self._seconds)

    def all(self) -> list[dict[str, Any]]:
        """All indexes in figures; of those that cannot be used, their state and what to do."""
        found = []
        for name in self.names():
            try:
                found.append(self._described(name, _LOOK_SECONDS))
            except LateboltError as error:
                state, detail = state_of(error)
                found.append({"name": name, "object": "index", "state": state, "detail": detail})
        return found

    def states(self) -> dict[str, tuple[IndexState, str]]:
        """The state of each index, and what to do where that is not "ready"."""
        return {each["name"]: (each["state"], each.get("detail", "")) for each in self.all()}

    def search(self, name: str, queries: Sequence[str], wanted: Wanted) -> list[Found]:
        """The best documents for each query.

        Raises:
            InvalidInput: the filter does not fit.
            ShardUnavailable: a shard gives no answer, and `partial` is not wanted; or none does.
        """
        index = self._opened(name, self._seconds, wanted.partial)
        where = msgspec.json.decode(wanted.where)
        hits = index.search_many(queries, wanted.k, where, wanted.exhaustive, wanted.mode)
        return [Found(each, tuple(sorted(each.missing))) for each in hits]

    def explain(self, name: str, query: str, wanted: Wanted) -> tuple[Explanation, tuple[int, ...]]:
        """The best documents for a query and how they came about, and shards that gave no answer.

        Raises:
            InvalidInput, ShardUnavailable: see `search`.
        """
        index = self._opened(name, self._seconds, wanted.partial)
        where = msgspec.json.decode(wanted.where)
        found = index.search(query, wanted.k, where, wanted.exhaustive, wanted.mode, explain=True)
        return found, tuple(sorted(getattr(found.hits, "missing", ())))

    def read(self, name: str, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Documents by their ids, None for one that is not there."""
        found = self.check(name).get(ids)
        return [None if each is None else each._asdict() for each in found]

    def add(self, name: str, documents: Sequence[CheckedDocument]) -> Added:
        """Add or replace documents, a commit for each shard; all are on disk when this returns.

        Raises:
            ShardUnavailable: some shards have committed their part, and others have not.
        """
        index = self.check(name)
        with metrics.stage("write"), gathered() as tally:
            ids = index.add_checked(documents, _LOCK_SECONDS)
        count_truncated("document", tally.n_truncated)
        unread = tally.letters.are_mostly_unread
        if unread:
            count_unread_script()
            self._warn_of_script(name, index.encoder.contract.name)
        return Added(ids, tally.n_truncated, unread)

    def _warn_of_script(self, name: str, model: str) -> None:
        if name not in self._warned_of_script:
            self._warned_of_script.add(name)
            way_out = legibility.way_out(model)
            log.event("script not read", logging.WARNING, index=name, model=model, way_out=way_out)

    def remove(self, name: str, ids: Sequence[str] | None, where: Where | None = None) -> int:
        """Delete documents; says how many of them there were.

        Raises:
            ShardUnavailable: see `add`.
        """
        with metrics.stage("write"):
            return self.check(name).delete(ids, _LOCK_SECONDS, where)

    def update(
        self, name: str, ids: Sequence[str] | None, where: Where | None, change: Mapping[str, Any]
    ) -> int:
        """Change documents' metadata as `Index.update_metadata` does; says of how many.

        Raises:
            ShardUnavailable: see `add`.
        """
        with metrics.stage("write"):
            return self.check(name).update_metadata(ids, where, timeout=_LOCK_SECONDS, **change)

    def close(self) -> None:
        """Release all shards."""
        for shards in self._shards.values():
            for shard in shards:
                shard.close()

    def _described(self, name: str, seconds: float) -> dict[str, Any]:
        return described(name, self._opened(name, seconds).info())

    def _opened(self, name: str, seconds: float, partial: bool = False) -> ShardedIndex:
        with self._lock:
            found, shards, opened = self._open.get(name), self._shards.get(name), self._open
        if shards is None:
            raise IndexNotFound("there is no index of that name.")
        if found is None:
            found = opened[name] = self._made(name, shards, seconds, partial)
        return found.asked(seconds, partial)

    def _made(self, name: str, shards: Sequence[Shard], seconds: float, partial: bool) -> ShardedIndex:
        def encoder() -> Encoder:
            try:
                return self.encoder_of(made.dim)
            except Problem as error:
                detail = "the index has a width that this model has not."
                raise Problem(409, detail, "model_mismatch") from error

        made = ShardedIndex(shards, encoder, name, seconds, partial)
        made.encoder  # noqa: B018 - whether it fits is told now, and not by a search
        return made


class NoData:
    """In place of a data folder, where there is none that could go."""

    def look(self) -> tuple[bool, bool]:
        """It is there, as it always was."""
        return True, False

    def was_there_since(self, moment: float) -> bool:
        """It was."""
        return True

    def close(self) -> None:
        """Nothing is held."""


class NoSnapshots:
    """There are none, and none are made."""

    def make(self, index: str, name: str | None) -> dict[str, Any]:
        """Refused.

        Raises:
            Problem: 409.
        """
        raise refused("makes no snapshots", 'Copy the folder of each shard with "latebolt backup"')

    def all(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def remove(self, index: str, name: str) -> None:
        """There is none.

        Raises:
            IndexNotFound: always.
        """
        raise Problem(404, "there is no snapshot of that name.", "snapshot_not_found")


class NoJobs:
    """There are none, and none are begun."""

    def start(self) -> None:
        """Nothing runs."""

    def begin(self, index: str, documents: Sequence[CheckedDocument]) -> dict[str, Any]:
        """Refused.

        Raises:
            Problem: 409.
        """
        raise refused(
            "adds nothing in the background", "Send some documents at a time, and wait for each answer"
        )

    def get(self, id: str) -> dict[str, Any]:
        """There is none.

        Raises:
            Problem: 404.
        """
        raise Problem(404, "there is no job of that id.", "job_not_found")

    def all(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def cancel(self, id: str) -> dict[str, Any]:
        """See `get`."""
        return self.get(id)

    def delete_index(self, name: str) -> None:
        """Refused.

        Raises:
            Problem: 409.
        """
        raise refused("deletes no indexes", "Deploy it without the index, and remove the shards' folder")

    def close(self, seconds: float) -> None:
        """Nothing runs."""


def refused(what: str, way_out: str) -> Problem:
    """409 for what a server of shards does not do."""
    return Problem(409, f"this server, whose indexes lie on shards, {what}. {way_out}.", "sharded_server")


def sharded_holdings(shards: Mapping[str, Sequence[Shard]], seconds: float) -> Hold:
    """What a server of shards holds; see `ShardedIndexes`, and `Service`."""

    def hold(encoder_of: Callable[[int], Encoder]) -> Holdings:
        return Holdings(NoData(), ShardedIndexes(shards, encoder_of, seconds), NoSnapshots(), NoJobs())

    return hold
