"""Brings an index to a list of documents: encodes what is new or has changed, leaves all else as it is.

A document is known by the digest of its text. The same text under another id, or with other metadata, keeps
its vectors, which are copied (see `copies`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from latebolt.arrays import Int64
from latebolt.errors import InvalidInput
from latebolt.index.documents.checked import CheckedDocument, check_documents, same_metadata
from latebolt.index.documents.origins import text_digest
from latebolt.index.filters.evaluate import Mask
from latebolt.index.ingest.copies import Copies, Label
from latebolt.index.ingest.sources import BATCH_CHARACTERS, BATCH_DOCUMENTS, Batch, lots_of
from latebolt.index.store.segment import Segment

BATCH: Final = 512  # documents looked up at a time
LOOKUP_CHARACTERS: Final = 4_000_000  # of their texts
_FIELDS: Final = 5

Action = Literal["added", "changed", "removed"]


@dataclass(frozen=True)
class SyncCounts:
    """What `Index.sync` did, in documents.

    Args:
        added: were not there.
        changed: had another text or other metadata.
        kept: are as they were.
        removed: were not in the list, and are gone. 0 without `prune`.
        missing: were not in the list, and are still there.
        reused: of those added and changed, how many the index had the text of, so that nothing was encoded.
        truncated: of those encoded, how many have an end that the model did not read.
    """

    added: int = 0
    changed: int = 0
    kept: int = 0
    removed: int = 0
    missing: int = 0
    reused: int = 0
    truncated: int = 0


class Unlisted(NamedTuple):
    """A document of the index that was not in the list.

    Args:
        moved: its text is in the list under another id.
    """

    id: str
    metadata: Mapping[str, Any] | None
    moved: bool


class _Known(NamedTuple):
    segment: int
    first: int
    digest: bytes | None
    metadata: str | None


def checked(rows: Iterable[Any]) -> Iterator[list[CheckedDocument]]:
    """Rows of (id, text), or with metadata, place and breaks behind, in checked batches.

    A text of None stands for that of the index.

    Raises:
        InvalidInput: a row is none of these, or a value does not fit; names the position.
    """
    first = 0
    for part, _ in lots_of(rows, _length, BATCH, LOOKUP_CHARACTERS):
        yield _checked(part, first)
        first += len(part)
        del part  # before the next ones are read


def _checked(part: Sequence[Any], first: int) -> list[CheckedDocument]:
    for i, row in enumerate(part, first):
        if not isinstance(row, tuple | list) or not 2 <= len(row) <= _FIELDS:
            raise InvalidInput(
                f"rows[{i}] should be (id, text) or (id, text, metadata), got {type(row).__name__}"
                f"{f' of {len(row)}' if isinstance(row, tuple | list) else ''}."
            )
    columns = zip(*((*row, None, None, None)[:_FIELDS] for row in part), strict=True)
    ids, texts, metadata, places, breaks = columns
    return check_documents(len(part), ids, texts, metadata, first=first, places=places, breaks=breaks)


def _length(row: Any) -> int:
    """Characters of the text of a row that has not been checked yet."""
    text = row[1] if isinstance(row, tuple | list) and len(row) > 1 else None
    return len(text) if isinstance(text, str) else 0


class Pace:
    """Says when the next commit is due.

    Args:
        seconds: between two; None: never.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds, self._begun = seconds, time.monotonic()

    def due(self) -> bool:
        """Whether the time is up; begins to count anew if so."""
        if self._seconds is None or time.monotonic() - self._begun < self._seconds:
            return False
        self._begun = time.monotonic()
        return True


class Sync:
    """One run over the list. `decide` says of each batch what has to be encoded, and copies what has not.

    Args:
        segments: of the commit it begins from.
        copies: None to decide only.
        tell: gets each document that is added, changed or removed.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        copies: Copies | None,
        tell: Callable[[Action, str], None] = lambda action, id: None,
    ) -> None:
        self._segments, self._copies, self._tell = segments, copies, tell
        self._seen: list[Mask] = [np.zeros(segment.n_documents, np.bool_) for segment in segments]
        self._listed: set[bytes] = set()  # digests of the texts in the list
        self._positions: dict[str, int] = {}
        self.added = self.changed = self.kept = self.reused = 0

    def decide(self, documents: Sequence[CheckedDocument]) -> list[CheckedDocument]:
        """Those of some documents of the list that have to be encoded.

        Raises:
            InvalidInput: an id comes twice in the list, or a document without a text is not in the index.
        """
        self._check_new(documents)
        known = self._lookup([document.id for document in documents])
        digests = [None if each.text is None else text_digest(each.text) for each in documents]
        wanted = [
            digest
            for document, digest in zip(documents, digests, strict=True)
            if digest is not None and (document.id not in known or known[document.id].digest != digest)
        ]
        sources = self._with_digests(wanted)
        self._listed.update(digest for digest in digests if digest is not None)
        rest: list[CheckedDocument] = []
        copied: dict[int, list[Label]] = {}
        for document, digest in zip(documents, digests, strict=True):
            before = known.get(document.id)
            if before is not None:
                self._seen[before.segment][before.first] = True
                if document.text is None and before.digest is not None:
                    self._listed.add(before.digest)
            same = before is not None and digest in (None, before.digest)
            if before is not None and same and _same_metadata(before, document):
                self.kept += 1
                continue
            if before is None and document.text is None:
                raise InvalidInput(
                    f"rows[{self._positions[document.id]}] has no text, and the index has no document "
                    f"{document.id!r} whose text could stay. Give its text."
                )
            self._count(before, document.id)
            source = before if same else sources.get(digest or b"")
            if source is None:
                rest.append(document)
                continue
            self.reused += 1
            label = Label(source.first, document.id, document.metadata)
            copied.setdefault(source.segment, []).append(label)
        if self._copies is not None:
            for number, labels in copied.items():
                self._copies.copy(self._segments[number], labels)
        return rest

    def unlisted(self) -> Iterator[list[Unlisted]]:
        """The documents of the index that were not in the list, some at a time."""
        for number, segment in enumerate(self._segments):
            firsts = segment.live_firsts(~self._seen[number])
            for start in range(0, len(firsts), BATCH):
                some = firsts[start : start + BATCH]
                digests = segment.texts.digests(some)
                yield [
                    Unlisted(id, metadata, digest in self._listed)
                    for (id, metadata), digest in zip(segment.labels(some), digests, strict=True)
                ]

    def counts(self, removed: int, missing: int, truncated: int) -> SyncCounts:
        """What was done, with what only the caller knows."""
        return SyncCounts(self.added, self.changed, self.kept, removed, missing, self.reused, truncated)

    def removed(self, ids: Sequence[str]) -> None:
        """Tell of documents that are removed."""
        for id in ids:
            self._tell("removed", id)

    def _count(self, before: _Known | None, id: str) -> None:
        if before is None:
            self.added += 1
        else:
            self.changed += 1
        self._tell("added" if before is None else "changed", id)

    def _check_new(self, documents: Sequence[CheckedDocument]) -> None:
        for position, document in enumerate(documents, len(self._positions)):
            before = self._positions.setdefault(document.id, position)
            if before != position:
                raise InvalidInput(
                    f"rows[{position}] has the id {document.id!r}, and so has rows[{before}]. Give every "
                    "document an id of its own."
                )

    def _lookup(self, ids: Sequence[str]) -> dict[str, _Known]:
        """What the index has of these ids."""
        found: dict[str, _Known] = {}
        for number, segment in enumerate(self._segments):
            found |= {
                id: _Known(number, first, digest, content)
                for id, first, digest, content in segment.known(segment.firsts_of(segment.rows_of(ids)))
            }
        return found

    def _with_digests(self, digests: Sequence[bytes]) -> dict[bytes, _Known]:
        """A live document for each of these texts that the index has one of."""
        found: dict[bytes, _Known] = {}
        for number, segment in enumerate(self._segments):
            rows: Int64 = segment.texts.rows_of_digests(digests)
            for _, first, digest, content in segment.known(rows[segment.alive[rows]]):
                if digest is not None:
                    found.setdefault(digest, _Known(number, first, digest, content))
        return found


def _same_metadata(before: _Known, document: CheckedDocument) -> bool:
    if document.text is None and document.metadata is None:  # all of it as the index has it
        return True
    return same_metadata(before.metadata, document.metadata)


def batched(run: Sync, parts: Iterable[Sequence[CheckedDocument]]) -> Iterator[Batch]:
    """What of the list has to be encoded, in batches as large as an addition's."""
    first = 0
    documents = itertools.chain.from_iterable(map(run.decide, parts))
    for lot, goes_on in lots_of(documents, lambda each: each.size, BATCH_DOCUMENTS, BATCH_CHARACTERS):
        yield Batch(first, lot, goes_on)
        first += len(lot)
        del lot  # before the next ones are read
