"""Streams documents and their token columns into the files of a new segment.

Memory stays bounded by one `append`. Nothing names the files until a commit does, so a segment given up on
needs no more than its folder removed.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Int64
from latebolt.codec.base import Codec
from latebolt.errors import IndexUnusable, InvalidInput
from latebolt.index.documents.checked import CheckedDocument
from latebolt.index.documents.documents import Metadata, Row, decode_metadata, leaves
from latebolt.index.documents.texts_reader import StoredDocument, stored_metadata
from latebolt.index.documents.texts_writer import TextsWriter
from latebolt.index.format import files, layout
from latebolt.index.format.layout import Column, SegmentRecord
from latebolt.index.store.inverted_lists import lists_wanted, write_lists
from latebolt.index.store.segment import COPY_TOKENS, Block, Segment

T = TypeVar("T", CheckedDocument, StoredDocument)


class Commit(Protocol):
    """What a segment is written for; see `Writer`, which is one."""

    def acting(self) -> contextlib.AbstractContextManager[None]:
        """Inside, an error makes the commit unusable, unless it refuses what it was given."""

    def codec_of(self, name: str | None) -> Codec | None:
        """The codec of that name, where this version knows its kind."""

    def take_in(self, draft: SegmentWriter) -> None:
        """Make a segment part of it, once."""


class SegmentWriter:
    """One new segment. Made by `Writer.new_segment`.

    Args:
        folder: of the segment; must not exist yet. Its name becomes the segment's.
    """

    def __init__(self, folder: Path, columns: Sequence[Column], codec: str | None, commit: Commit) -> None:
        self.folder, self.codec, self.columns, self._commit = folder, codec, tuple(columns), commit
        self.n_documents = self.n_tokens = 0
        self.finished = self.failed = False
        self._passages, self._truncated = array("I"), bytearray()
        self._closing = contextlib.ExitStack()
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise InvalidInput(f"columns should have different names, got {names}.")
        with self._writing():
            files.make_within(folder.parent.parent, folder)
            self._offsets = self._open(layout.OFFSETS, layout.OFFSETS_DTYPE, ())
            self._offsets.append(np.zeros(1, np.int64))
            self._arrays = {c.name: self._open(c.file, c.dtype, c.shape(0)[1:]) for c in self.columns}
            self._texts = TextsWriter(folder / layout.TEXTS)
            self._closing.callback(self._texts.close)

    @property
    def name(self) -> str:
        """Number the segment will have."""
        return self.folder.name

    def _open(self, name: str, dtype: str, row_shape: tuple[int, ...]) -> files.ArrayWriter:
        writer = files.ArrayWriter(self.folder / name, dtype, row_shape)
        self._closing.callback(writer.close)
        return writer

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        # Once a write went wrong the files may disagree with each other: close them and refuse to go on.
        if self.finished or self.failed:
            state = "is finished" if self.finished else "failed to write"
            raise IndexUnusable(
                f"{self.folder}: this segment {state}; begin a new one with Writer.new_segment."
            )
        try:
            yield
        except BaseException:
            self.close()
            raise

    def append(
        self,
        documents: Sequence[CheckedDocument],
        lengths: npt.ArrayLike,
        columns: Mapping[str, npt.NDArray[Any]],
        passages: Sequence[int] | None = None,
        truncated: Sequence[bool] | None = None,
    ) -> None:
        """Add documents, or passages of documents.

        Args:
            documents: of an id that comes more than once, the last one counts.
            lengths: integers [n], tokens a document.
            columns: one array a column, with sum(lengths) rows.
            passages: each one's number within its document, whose passages follow each other from 0 on;
                None where each is a document.
            truncated: whether the model did not read each one's end; None for none.
        Raises:
            InvalidInput: lengths or columns do not fit; nothing was added.
            StorageFull: the segment is lost, the last commit is not.
        """
        n = len(documents)
        with self._commit.acting():
            self._append(
                _rows_of(documents, lambda document: decode_metadata(document.metadata)),
                lengths,
                columns,
                [0] * n if passages is None else passages,
                [False] * n if truncated is None else truncated,
            )

    def copy(self, source: Segment, block_tokens: int = COPY_TOKENS) -> None:
        """Append the live documents of a segment, of this index or another, as they are stored.

        Args:
            source: its columns are this segment's, and so is what its codec's numbers mean.
            block_tokens: tokens copied at a time.
        """
        with self._commit.acting():
            for block in source.blocks(block_tokens):
                self._append_block(block, block.columns)

    def append_encoded(self, block: Block, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Append stored documents with other columns, see `append`, made of their own."""
        with self._commit.acting():
            self._append_block(block, columns)

    def _append_block(self, block: Block, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        def decode(document: StoredDocument) -> Metadata | None:
            return stored_metadata(block.path, document)

        rows = _rows_of(block.documents, decode)
        self._append(rows, block.lengths, columns, block.passages, block.truncated)

    def _append(
        self,
        rows: Sequence[Row],
        lengths: npt.ArrayLike,
        columns: Mapping[str, npt.NDArray[Any]],
        passages: Sequence[int],
        truncated: Sequence[bool],
    ) -> None:
        counts = _checked_lengths(lengths, len(rows))
        assert len(rows) == len(passages) == len(truncated)
        n_tokens = int(counts.sum())
        self._check_columns(columns, n_tokens)
        with self._writing():
            for name, writer in self._arrays.items():
                writer.append(columns[name])
            self._offsets.append(self.n_tokens + np.cumsum(counts))
            self._texts.append(rows)
            self._passages.extend(passages)
            self._truncated.extend(truncated)
            self.n_documents += len(rows)
            self.n_tokens += n_tokens

    def _check_columns(self, columns: Mapping[str, npt.NDArray[Any]], n_tokens: int) -> None:
        if set(columns) != set(self._arrays):
            raise InvalidInput(f"columns should be {sorted(self._arrays)}, got {sorted(columns)}.")
        for column in self.columns:
            values, shape = columns[column.name], column.shape(n_tokens)
            if values.shape != shape or values.dtype != np.dtype(column.dtype):
                raise InvalidInput(
                    f"column {column.name!r} should be {column.dtype} of shape {shape}, "
                    f"got {values.dtype.str} of shape {values.shape}."
                )

    def finish(self) -> None:
        """Complete the segment: from now on the writer's deletions and later segments see its documents.

        A second call does nothing; a segment without documents vanishes.
        """
        self._commit.take_in(self)

    def complete(self) -> tuple[SegmentRecord, Int64]:
        """Complete and sync all files; for the commit.

        Returns:
            The record, and the rows that a later document of the same id replaces.
        """
        with self._writing():
            records = {layout.OFFSETS: self._offsets.finish()}
            records |= {column.file: self._arrays[column.name].finish() for column in self.columns}
            if lists_wanted(self.columns, self.n_tokens):
                records |= write_lists(self.folder, records, self._commit.codec_of(self.codec))
            passages = np.array(self._passages, np.uint32)
            if passages.any():
                records[layout.PASSAGES] = files.write_array(self.folder / layout.PASSAGES, passages)
            if any(self._truncated):
                truncated = np.frombuffer(self._truncated, np.uint8)
                records[layout.TRUNCATED] = files.write_array(self.folder / layout.TRUNCATED, truncated)
            records[layout.TEXTS], repeated = self._texts.finish()
            files.sync_folder(self.folder)
            self.finished = True
        record = SegmentRecord(
            name=self.folder.name,
            codec=self.codec,
            n_documents=self.n_documents,
            n_tokens=self.n_tokens,
            columns=self.columns,
            files=records,
        )
        first_rows = np.arange(self.n_documents) - passages
        rows, last_rows = repeated.T
        return record, rows[first_rows[rows] != first_rows[last_rows]]

    def close(self) -> None:
        """Give up, unless finished: close all files and leave them to whoever removes the draft."""
        self.failed = not self.finished
        self._closing.close()


def _checked_lengths(lengths: npt.ArrayLike, n_documents: int) -> Int64:
    counts = np.asarray(lengths)
    if counts.shape != (n_documents,) or (counts.size and counts.dtype.kind not in "iu"):
        raise InvalidInput(
            f"lengths should be {n_documents} integers, one a document, got {counts.dtype} {counts.shape}."
        )
    counts = counts.astype(np.int64)
    if np.any(counts < 0):
        raise InvalidInput(f"lengths[{int(np.argmax(counts < 0))}] should not be negative.")
    return counts


def _rows_of(documents: Sequence[T], decode: Callable[[T], Metadata | None]) -> list[Row]:
    rows: list[Row] = []
    content, found = None, leaves(None)
    for each in documents:
        if each.metadata != content:  # passages of a document share it, and so do many documents of a folder
            content, found = each.metadata, leaves(decode(each))
        rows.append(Row(each.id, each.text, each.metadata, found, each.origin))
    return rows
