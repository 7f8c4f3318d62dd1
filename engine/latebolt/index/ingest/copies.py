"""Writes stored documents once more, under another id or with other metadata, without touching their vectors.

The codes are copied as they stand into a new segment, whose rows replace the old ones when it is complete: to
readers and after a crash that is the same as any other addition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from latebolt.index.format.layout import Column
from latebolt.index.store.segment import COPY_TOKENS, Segment
from latebolt.index.store.segment_writer import SegmentWriter
from latebolt.index.store.writer import Writer


class Label(NamedTuple):
    """The document in a segment's rows from `first` on, and what it is to be called: metadata is JSON."""

    first: int
    id: str
    metadata: str | None


class Copies:
    """Copies within one index that is being written. Sources are segments of any commit it began from."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._drafts: dict[tuple[str | None, tuple[Column, ...]], SegmentWriter] = {}

    def copy(self, source: Segment, labels: Sequence[Label]) -> None:
        """Copy documents of a segment, each under its label."""
        draft = self._draft(source)
        for some in _parts(source, labels):
            firsts = np.array([label.first for label in some], np.int64)
            block = source.gather(source.rows_of_documents(firsts))
            named = iter(some)
            documents = []
            for document, passage in zip(block.documents, block.passages, strict=True):
                if passage == 0:
                    label = next(named)
                documents.append(document._replace(id=label.id, metadata=label.metadata))
            draft.append_encoded(dataclasses.replace(block, documents=documents), block.columns)

    def finish(self) -> None:
        """Complete the segments being written."""
        for draft in self._drafts.values():
            draft.finish()
        self._drafts.clear()

    def _draft(self, source: Segment) -> SegmentWriter:
        codec = source.codec
        if codec is not None and codec not in self._writer.manifest.codecs:
            codec = self._writer.codec  # which was made from it by appending centroids
        key = codec, source.columns
        if key not in self._drafts:
            self._drafts[key] = self._writer.new_segment(source.columns, codec, unquantised=codec is None)
        return self._drafts[key]


def _parts(source: Segment, labels: Iterable[Label]) -> Iterator[list[Label]]:
    """The labels in parts of about COPY_TOKENS, at least one document each."""
    part: list[Label] = []
    held = 0
    for label in labels:
        held += source.count_tokens(source.rows_of_documents(np.array([label.first], np.int64)))
        part.append(label)
        if held >= COPY_TOKENS:
            yield part
            part, held = [], 0
    if part:
        yield part
