"""`ShardService`: what runs where a shard's data is, and does what the one who asks wants of it.

It wraps an ordinary index, which it opens by its folder. Queries come with their vectors, so that a model is
loaded only when texts are first to be added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latebolt.encoder.encoder import Encoder
from latebolt.encoder.tally import gathered
from latebolt.index.ingest.read_back import Entry
from latebolt.index.search.bm25 import count_words
from latebolt.index.search.explain import Trace
from latebolt.index.search.known_fields import known_fields, missing_fields
from latebolt.index.search.matches import stored_vectors
from latebolt.index.search.query import Query, Request, Whole
from latebolt.index.search.read_hits import read_hits
from latebolt.index.store.store import Snapshot
from latebolt.sharding.part import Part, tokens_left
from latebolt.sharding.protocol import (
    AddAnswer,
    AddRequest,
    AddVectorsRequest,
    Answer,
    ChangeRequest,
    CountRequest,
    Figures,
    SearchRequest,
    ShardAnswer,
    ShardCounts,
    ShardState,
)
from latebolt.sharding.set_file import shard_setting


class ShardService:
    """One shard of a set. Threads may share it.

    Args:
        place: the shard's folder, or another place that `Index.open` takes.
        encoder_of: gives the encoder that texts are added with; by default the recorded model is loaded.
        settings: `device` and `threads` of `Index.open`.
    Raises:
        IndexNotFound, IndexCorrupt, IndexNewer: see `Index.open`.
    """

    def __init__(
        self,
        place: str | Path,
        encoder_of: Callable[[], Encoder] | None = None,
        **settings: Any,
    ) -> None:
        self._part = Part.opened(place, encoder_of, settings)

    def state(self) -> ShardState:
        """The shard as it is now."""
        part = self._part
        snapshot = part.now()
        shard = shard_setting(snapshot.settings)
        figures, info = self._figures(snapshot), part.info()
        return ShardState(figures, shard, snapshot.dim, snapshot.bits, snapshot.model, info)

    def count(self, request: CountRequest) -> ShardCounts:
        """See `CountRequest`."""
        snapshot = self._part.now()
        segments, where = snapshot.segments, request.where
        missing = missing_fields(segments, where)
        return ShardCounts(
            self._figures(snapshot),
            tokens_left(snapshot, where),
            tuple(count_words(segments, query) for query in request.queries),
            tuple(missing),
            tuple(known_fields(segments)) if missing else (),
        )

    def search(self, request: SearchRequest) -> ShardAnswer:
        """See `SearchRequest`.

        Raises:
            InvalidInput: a setting does not fit.
            IndexUnusable: words are asked for, and a segment has none.
        """
        part, snapshot = self._part, self._part.now()
        trace = Trace(request.explain)
        wanted = Request(request.k, request.where, request.exhaustive, request.mode)
        wholes = self._wholes(request, snapshot)

        def answer(query: Query, number: int) -> Answer:
            found = query.find(wanted)
            with trace.stage("read texts", len(found)):
                hits = read_hits(found, None, None)
            return Answer(
                hits,
                [each.maxsim for each in found],
                [each.ranks for each in found if each.ranks is not None],
                None if request.exhaustive else query.rankings,
                [stored_vectors(each, lambda name: part.codec(snapshot, name)) for each in found]
                if request.explain and request.mode != "bm25"
                else (),
            )

        queries = list(zip(request.matrices, request.queries, strict=True))
        answers = part.each(snapshot, queries, answer, wholes, trace)
        return ShardAnswer(self._figures(snapshot), answers, trace.stages, trace.roads)

    def add(self, request: AddRequest) -> AddAnswer:
        """Add documents in one commit, which is on disk when this returns; see `Index.add`."""
        with gathered() as tally:
            self._part.add_checked(request.documents, request.timeout)
        return AddAnswer(tally.n_texts, tally.n_truncated, tally.letters)

    def add_vectors(self, request: AddVectorsRequest) -> None:
        """Add documents with token vectors in one commit, which is on disk when this returns."""
        self._part.add_given(request.documents, request.vectors, request.timeout)

    def delete(self, request: ChangeRequest) -> int:
        """Delete documents in one commit; says how many there were."""
        return self._part.delete(request.ids, request.timeout, request.where)

    def update_metadata(self, request: ChangeRequest) -> int:
        """Change documents' metadata in one commit; says of how many."""
        return self._part.update_metadata(
            request.ids, request.where, timeout=request.timeout, **request.change
        )

    def get(self, ids: Sequence[str]) -> list[Entry | None]:
        """See `Index.get`."""
        return self._part.get(ids)

    def present(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that documents have."""
        return self._part.present(ids)

    def fields(self, most: int) -> list[str]:
        """See `Index.fields`."""
        return self._part.fields(most)

    def reserve_ids(self, n: int, timeout: float | None = None) -> int:
        """The first of n numbers that this shard never gave out, and never will again; one commit."""
        return self._part.reserve_ids(n, timeout)

    def close(self) -> None:
        """Release the shard's files."""
        self._part.close()

    def _figures(self, snapshot: Snapshot) -> Figures:
        return Figures(snapshot.generation, snapshot.n_documents, self._part.live_tokens(snapshot))

    def _wholes(self, request: SearchRequest, snapshot: Snapshot) -> list[Whole]:
        """What each query has to know of the whole; without that in the request a shard is the whole."""
        tokens = 0 if request.tokens is None else request.tokens
        documents = snapshot.n_documents if request.documents is None else request.documents
        return [
            Whole(
                tokens,
                documents,
                request.words[number] if request.words else None,
                request.cuts[number] if request.cuts else None,
            )
            for number in range(len(request.queries))
        ]
