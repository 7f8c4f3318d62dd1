"""`Part`: an index that is a part of another one, and answers so that the whole's answer can be made of it.

It takes from the whole what a part cannot know: the encoder, which fields there are, what numbers are free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from latebolt.arrays import Float32
from latebolt.checks import check_timeout
from latebolt.codec.base import Codec
from latebolt.encoder.encoder import Encoder
from latebolt.index.documents.checked import CheckedDocument
from latebolt.index.filters.parse_dict import Where
from latebolt.index.format.layout import NEXT_ID
from latebolt.index.index import Index
from latebolt.index.ingest.sources import Batch
from latebolt.index.search.explain import Trace
from latebolt.index.search.query import Query, Whole
from latebolt.index.store.store import Snapshot
from latebolt.values import TokenVectors

T = TypeVar("T")


class Part(Index):
    """An index whose users speak for the whole. Made by `opened`."""

    _encoder_of: Callable[[], Encoder] | None = None
    _known_tokens: tuple[Snapshot, int] | None = None

    @classmethod
    def opened(
        cls, place: str | Path, encoder_of: Callable[[], Encoder] | None, settings: dict[str, Any]
    ) -> Part:
        """See `Index.open`.

        Args:
            encoder_of: gives the encoder, when texts are to be added; the recorded model by default.
        """
        part = cls.open(place, **settings)
        assert isinstance(part, cls)
        part._encoder_of = encoder_of
        return part

    @property
    def encoder(self) -> Encoder:
        """The encoder, asked for on first use."""
        if self._encoder is None and self._encoder_of is not None and self.model is not None:
            encoder = self._encoder_of()
            self._check_model(encoder)
            self._encoder = encoder
        return super().encoder

    def _threads(self) -> int:
        return self._load.get("threads") or super()._threads()

    def _check_fields(self, snapshot: Snapshot, where: Where | None) -> None:
        """Whoever knows all parts looks at fields: one that only another part has is no slip."""

    def now(self) -> Snapshot:
        """The last commit."""
        return self._store.snapshot()

    def codec(self, snapshot: Snapshot, name: str | None) -> Codec:
        """The codec of that name, None for the one of unquantised segments."""
        return self._codec(snapshot, name)

    def each(
        self,
        snapshot: Snapshot,
        queries: Sequence[tuple[Float32 | None, str]],
        work: Callable[[Query, int], T],
        wholes: Sequence[Whole],
        trace: Trace,
    ) -> list[T]:
        """What `work` makes of each query, vectors and text, and its number; several side by side."""
        return self._each(snapshot, queries, work, wholes, trace)

    def live_tokens(self, snapshot: Snapshot) -> int:
        """Tokens of live rows."""
        known = self._known_tokens
        if known is None or known[0] is not snapshot:
            known = self._known_tokens = snapshot, tokens_left(snapshot, None)
        return known[1]

    def add_given(
        self, documents: Sequence[CheckedDocument], vectors: TokenVectors, timeout: float | None
    ) -> None:
        """Add documents with ids and token vectors of unit length; see `Index.add_vectors`."""
        batch = Batch(0, documents)
        self._add_given(batch, vectors, check_timeout(timeout), self._codings.on())

    def present(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that documents have."""
        return [id for segment in self.now().segments for id in set(segment.ids(segment.rows_of(ids)))]

    def reserve_ids(self, n: int, timeout: float | None) -> int:
        """The first of n numbers that were never given out here, and never will be again; one commit."""
        with self._store.writer(check_timeout(timeout)) as writer:
            settings = writer.manifest.settings
            first = int(settings.get(NEXT_ID, 0))
            writer.set_settings({**settings, NEXT_ID: first + n})
            writer.commit()
        return first


def tokens_left(snapshot: Snapshot, where: Where | None) -> int:
    """Tokens of the live rows that a filter leaves."""
    total = 0
    for segment in snapshot.segments:
        if where is None and segment.n_deleted == 0:
            total += segment.n_tokens
        else:
            total += segment.count_tokens(segment.select(where).nonzero()[0])
    return total
