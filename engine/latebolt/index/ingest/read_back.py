"""Documents of an index as a reader gets them back: those of some ids, those that pass a filter, or all with
token vectors made again from their codes; in stored order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from latebolt.codec.base import Codec
from latebolt.index.filters.parse_dict import Where
from latebolt.index.store.codecs import check_columns
from latebolt.index.store.segment import Block
from latebolt.index.store.store import Snapshot
from latebolt.values import TokenVectors

DECODE_TOKENS: Final = 1 << 15  # of a block of decoded vectors: 16 MB at 128 dimensions
_BATCH: Final = 512  # documents read at a time, of about so many characters in all
_BATCH_CHARACTERS: Final = 1 << 22


@dataclass(frozen=True, eq=False)
class StoredDocuments:
    """Some neighbouring documents of an index, or passages of documents, in the index's order.

    Args:
        ids, texts, metadata: one entry each; a text or metadata that was not given is None.
        passages: number of each one's passage within its document; all 0 where documents are not cut.
    """

    ids: list[str]
    texts: list[str | None]
    metadata: list[dict[str, Any] | None]
    passages: list[int]
    _block: Block
    _codec: Codec

    def __len__(self) -> int:
        return len(self.ids)

    def token_vectors(self, rows: Sequence[int] | None = None) -> TokenVectors:
        """Token vectors as searches see them, made again from what the index keeps of them.

        They are near the encoder's: at 16 bits a dimension all but equal, at 1 bit the farthest
        (`codec.base.reconstruction_report` measures it). Nearly unit length.

        Args:
            rows: positions in this block; all by default.
        Returns:
            One entry a row, in the order asked for.
        """
        lengths = self._block.lengths
        ends = np.cumsum(lengths)
        if rows is None:
            columns, kept = self._block.columns, lengths
        else:
            kept = lengths[np.asarray(rows, np.int64)]
            parts = [np.arange(ends[row] - lengths[row], ends[row]) for row in rows]
            tokens = np.concatenate([np.zeros(0, np.int64), *parts])
            columns = {name: column[tokens] for name, column in self._block.columns.items()}
        return TokenVectors(self._codec.decode(columns), np.concatenate([[0], np.cumsum(kept)]))


def walk(
    snapshot: Snapshot, codec: Callable[[str | None], Codec], max_tokens: int
) -> Iterator[StoredDocuments]:
    """The live documents of one state of an index, about max_tokens (at least one document) at a time.

    Args:
        codec: the codec of a name, None for that of an unquantised index.
    """
    for segment in snapshot.segments:
        check_columns(segment, reader := codec(segment.codec))
        for block in segment.blocks(max_tokens):
            yield StoredDocuments(block.ids, block.texts, block.metadata, block.passages, block, reader)


class Entry(NamedTuple):
    """A document of an index, with its whole text.

    Texts that earlier versions have cut are joined from their passages, and white space between these may
    differ from what it was.
    """

    id: str
    text: str | None
    metadata: Mapping[str, Any] | None


def entries(
    snapshot: Snapshot, where: Where | None = None, ids: Sequence[str] | None = None
) -> Iterator[Entry]:
    """Every live document of these ids, None for all, that passes the filter, once, oldest segment first."""
    for segment in snapshot.segments:
        firsts = segment.firsts_of(segment.chosen(ids, where))
        start, n = 0, 1
        while start < len(firsts):
            size = 0
            for each in segment.whole_documents(firsts[start : start + n]):
                size += len(each.text or "")
                yield Entry(each.id, each.text, each.metadata)
            start += n
            # As many as have a few megabytes of text, if they are like those before.
            n = max(1, min(2 * n, _BATCH, n * _BATCH_CHARACTERS // max(size, 1)))


def entries_of(snapshot: Snapshot, ids: Sequence[str]) -> list[Entry | None]:
    """The live documents of these ids, in this order; None for an id that is not there."""
    found: dict[str, Entry] = {}
    for segment in snapshot.segments:
        for each in segment.whole_documents(segment.firsts_of(segment.rows_of(ids))):
            found[each.id] = Entry(each.id, each.text, each.metadata)
    return [found.get(id) for id in ids]
