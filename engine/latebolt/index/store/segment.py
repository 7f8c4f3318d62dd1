"""One segment as a reader sees it: mapped token columns, documents, and which rows are alive.

All files are opened when the segment is, so that it stays whole when a newer commit removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Int64
from latebolt.errors import IndexCorrupt, InvalidInput
from latebolt.index.documents.origins import whole_text
from latebolt.index.documents.texts_reader import (
    Rows,
    StoredDocument,
    TextsReader,
    decoded_metadata,
    stored_metadata,
    stored_place,
)
from latebolt.index.filters.evaluate import Mask, Selector
from latebolt.index.filters.parse_dict import Where, parse_where
from latebolt.index.format import layout
from latebolt.index.format.layout import Column, FileRecord, SegmentRecord
from latebolt.index.format.mmap_array import RESTORE, Mapped, map_array, map_file
from latebolt.index.format.proof import prove_cells, prove_offsets, prove_passages
from latebolt.index.store.inverted_lists import Lists

COPY_TOKENS: Final = 1 << 18  # as codes, in a block of documents that a merge copies


class Document(NamedTuple):
    """One row as a reader gets it; `place`: where its text stands in what it was read from."""

    id: str
    text: str | None
    metadata: dict[str, Any] | None
    place: dict[str, Any]


@dataclass(frozen=True)
class Block:
    """Some live documents of a segment in row order.

    Args:
        path: the database they are from.
        documents: as stored, metadata as JSON.
        passages: number of each one's passage within its document; all 0 where none was cut.
        truncated: whether the model did not read each one's end.
        lengths: int64 [n], tokens a document.
        columns: name -> array of sum(lengths) rows.
    """

    path: Path
    documents: list[StoredDocument]
    passages: list[int]
    truncated: list[bool]
    lengths: Int64
    columns: dict[str, npt.NDArray[Any]]

    @property
    def ids(self) -> list[str]:
        """Ids of the documents."""
        return [document.id for document in self.documents]

    @property
    def texts(self) -> list[str | None]:
        """Texts of the documents."""
        return [document.text for document in self.documents]

    @property
    def metadata(self) -> list[dict[str, Any] | None]:
        """Metadata of the documents."""
        return [stored_metadata(self.path, document) for document in self.documents]


class Segment:
    """Documents and token columns of one segment. Made by `open_segment`."""

    def __init__(
        self,
        folder: Path,
        record: SegmentRecord,
        files: Mapping[str, Mapped],
        texts: TextsReader,
        n_centroids: int | None,
    ) -> None:
        self.folder, self.record, self.texts = folder, record, texts
        self._arrays = {name: mapped.array for name, mapped in files.items()}
        # Read when first asked for: an index is open before a large segment is read.
        self._unproved = files.get(layout.CELLS) if n_centroids is not None else None
        self._n_centroids = n_centroids
        self._selector = Selector(texts, record.n_documents)
        self.alive: Mask = np.ones(record.n_documents, np.bool_)
        self._counted_words: tuple[Mask, tuple[int, int]] | None = None

    def view(self, record: SegmentRecord, alive: Mask) -> Segment:
        """The same files with other rows alive."""
        twin = object.__new__(Segment)
        twin.__dict__.update(self.__dict__, record=record, alive=alive)
        return twin

    @property
    def name(self) -> str:
        """Number of the segment, never used again in this index."""
        return self.record.name

    @property
    def codec(self) -> str | None:
        """Name of the codec that wrote the columns."""
        return self.record.codec

    @property
    def columns(self) -> tuple[Column, ...]:
        """The token columns."""
        return self.record.columns

    @property
    def n_documents(self) -> int:
        """Rows, deleted ones included."""
        return self.record.n_documents

    @property
    def n_tokens(self) -> int:
        """Rows of the token columns, those of deleted documents included."""
        return self.record.n_tokens

    @property
    def n_deleted(self) -> int:
        """Deleted rows."""
        return self.n_documents - int(np.count_nonzero(self.alive))

    @property
    def offsets(self) -> Int64:
        """Int64 [n_documents + 1], read-only."""
        return self._arrays[layout.OFFSETS]

    def column(self, name: str) -> npt.NDArray[Any]:
        """A token column, mapped and read-only.

        Raises:
            IndexCorrupt: a token has a centroid that its codec does not have.
        """
        file = f"{name}.npy"
        unproved = self._unproved  # looked at once: another thread may be done with it
        if unproved is not None and file == layout.CELLS:
            assert self._n_centroids is not None
            prove_cells(self.folder / file, unproved, self._n_centroids)
            self._unproved = None
        return self._arrays[file]

    def check_finite(self, values: npt.NDArray[np.floating[Any]]) -> None:
        """Raise IndexCorrupt for scores, or token vectors, that only damaged floats can give."""
        if not np.isfinite(values).all():
            floats = [column.file for column in self.columns if np.dtype(column.dtype).kind == "f"]
            path = self.folder / (floats[0] if floats else "")
            raise IndexCorrupt(path, "content", "finite numbers", "others", RESTORE)

    @property
    def passages(self) -> npt.NDArray[np.uint32] | None:
        """Uint32 [n_documents], the number of each row's passage; None where every row is a document."""
        return self._arrays.get(layout.PASSAGES)

    @property
    def truncated(self) -> Mask | None:
        """Bool [n_documents], rows whose end the model did not read; None where there is none."""
        rows = self._arrays.get(layout.TRUNCATED)
        return None if rows is None else np.asarray(rows != 0)

    @property
    def n_truncated(self) -> int:
        """Live documents with a row whose end the model did not read."""
        if self.truncated is None:
            return 0
        rows = np.flatnonzero(self.truncated & self.alive)
        firsts = self.first_rows(rows)
        return len(rows if firsts is None else np.unique(firsts))

    def first_rows(self, rows: Int64 | None) -> Int64 | None:
        """The first row of the document that each of these rows (None for all) belongs to, which tells
        documents apart; None where every row is a document."""
        if self.passages is None:
            return None
        if rows is None:
            rows = np.arange(self.n_documents)
        return np.asarray(rows - self.passages[rows], np.int64)

    def count_tokens(self, rows: Int64 | None) -> int:
        """Tokens of these rows, None for all."""
        if rows is None:
            return self.n_tokens
        return int((self.offsets[rows + 1] - self.offsets[rows]).sum())

    def count_whole(self, rows: Int64 | None) -> int:
        """Documents, not passages, of rows that hold whole documents; None for all rows."""
        if self.passages is None:
            return self.n_documents if rows is None else len(rows)
        return int(np.count_nonzero((self.passages if rows is None else self.passages[rows]) == 0))

    def count_documents(self, rows: Mask) -> int:
        """Documents, not passages, among the rows of a mask that holds whole documents."""
        return int(np.count_nonzero(rows if self.passages is None else rows & (self.passages == 0)))

    @property
    def n_live(self) -> int:
        """Live documents."""
        return self.count_documents(self.alive)

    def counted_words(self) -> tuple[int, int]:
        """How many live documents have words, and how many words these are."""
        known = self._counted_words
        if known is None or known[0] is not self.alive:
            lengths = self.texts.lengths()
            dead = lengths[~self.alive]
            documents = int(np.count_nonzero(lengths)) - int(np.count_nonzero(dead))
            counted = documents, int(lengths.sum(dtype=np.int64)) - int(dead.sum(dtype=np.int64))
            known = self._counted_words = self.alive, counted
        return known[1]

    @property
    def lists(self) -> Lists | None:
        """Inverted lists; None where the segment is too small to have them."""
        if layout.LISTS not in self._arrays:
            return None
        names = (layout.LISTS, layout.LIST_OFFSETS, layout.LIST_STARTS, layout.LIST_CENTROIDS)
        return Lists(*(self._arrays[name] for name in names if name in self._arrays))

    @property
    def lists_are_current(self) -> bool:
        """Whether its lists, if it has any, are those that this version writes."""
        return self.lists is None or self.lists.starts is not None

    def documents(self, rows: Rows) -> list[Document]:
        """These rows in this order."""
        path = self.texts.path
        return [
            Document(each.id, each.text, stored_metadata(path, each), stored_place(path, each))
            for each in self.texts.documents(rows)
        ]

    def whole_documents(self, firsts: Int64) -> list[Document]:
        """The documents of which these, ascending, are the first rows, with their whole texts."""
        rows = self.texts.documents(self.rows_of_documents(firsts))
        found: list[Document] = []
        starts = set(firsts.tolist())
        for each in _split(rows, lambda document: document.row in starts):
            text = (
                None if each[0].text is None else whole_text([(row.text or "", row.origin) for row in each])
            )
            metadata = stored_metadata(self.texts.path, each[0])
            found.append(Document(each[0].id, text, metadata, stored_place(self.texts.path, each[0])))
        return found

    def ids(self, rows: Rows | None = None) -> list[str]:
        """Ids of these rows in this order; of all rows, deleted ones included, without an argument."""
        return self.texts.ids(rows)

    def rows_of(self, ids: Sequence[str]) -> Int64:
        """Ascending rows of the live documents with one of these ids."""
        rows = np.array(sorted({row for _, row in self.texts.rows_of_ids(ids)}), np.int64)
        return rows[self.alive[rows]]

    def known(self, firsts: Int64) -> list[tuple[str, int, bytes | None, str | None]]:
        """(id, first row, digest of the text, metadata as JSON) of the documents that begin in these rows."""
        labels, digests = self.texts.labels(firsts), self.texts.digests(firsts)
        return [
            (id, first, digest, metadata)
            for (id, metadata), first, digest in zip(labels, firsts.tolist(), digests, strict=True)
        ]

    def labels(self, rows: Int64) -> list[tuple[str, dict[str, Any] | None]]:
        """Id and metadata of these rows in this order."""
        return [
            (id, decoded_metadata(self.texts.path, row, content))
            for row, (id, content) in zip(rows.tolist(), self.texts.labels(rows), strict=True)
        ]

    def chosen(self, ids: Sequence[str] | None, where: Where | None) -> Int64:
        """Ascending rows of the live documents of these ids, None for all, that pass the filter."""
        if ids is None:
            return np.flatnonzero(self.select(where))
        rows = self.rows_of(ids)
        return rows if where is None else rows[self.select(where)[rows]]

    def firsts_of(self, rows: Int64) -> Int64:
        """Of these rows those that begin a document."""
        return rows if self.passages is None else rows[self.passages[rows] == 0]

    def has_field(self, field: str) -> bool:
        """Whether the metadata of a document, deleted or not, has the field."""
        return self._selector.has_field(field)

    def select(self, where: Where | None) -> Mask:
        """Bool [n_documents], a fresh array: alive and passing the filter."""
        if where is None:
            return self.alive.copy()
        return self._selector.select(parse_where(where)) & self.alive

    def blocks(self, max_tokens: int = COPY_TOKENS) -> Iterator[Block]:
        """Walk the live documents, about max_tokens (at least one document) at a time."""
        offsets = self.offsets
        start = 0
        while start < self.n_documents:
            reach = int(np.searchsorted(offsets, offsets[start] + max_tokens, side="right")) - 1
            # Documents without tokens would otherwise make a block of any size.
            stop = min(max(reach, start + 1), start + max_tokens, self.n_documents)
            block = self._block(start, stop)
            if block.documents:
                yield block
            start = stop

    def gather(self, rows: Int64) -> Block:
        """These rows, ascending, as a block; of a document that was cut all of its rows.

        Raises:
            IndexCorrupt: the database or a column is damaged.
        """
        lengths = np.asarray(self.offsets[rows + 1] - self.offsets[rows])
        ends = np.cumsum(lengths)
        tokens = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
            self.offsets[rows] - ends + lengths, lengths
        )
        columns = {column.name: self.column(column.name)[tokens] for column in self.columns}
        self._check_floats(columns)
        passages = np.zeros(len(rows), np.int64) if self.passages is None else self.passages[rows]
        truncated = np.zeros(len(rows), bool) if self.truncated is None else self.truncated[rows]
        documents = self.texts.documents(rows)
        return Block(self.texts.path, documents, passages.tolist(), truncated.tolist(), lengths, columns)

    def _check_floats(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        for values in columns.values():
            if values.dtype.kind == "f":
                self.check_finite(values)

    def rows_of_documents(self, firsts: Int64) -> Int64:
        """All rows of the documents of which these are the first rows, ascending as these are."""
        if self.passages is None:
            return firsts
        begins = np.flatnonzero(self.passages == 0)
        ends = np.append(begins[1:], self.n_documents)[np.searchsorted(begins, firsts)]
        counts = ends - firsts
        before = np.cumsum(counts) - counts
        return np.asarray(np.arange(counts.sum()) + np.repeat(firsts - before, counts), np.int64)

    def live_firsts(self, rows: Mask | None = None) -> Int64:
        """First rows of the live documents, of those of the mask only if there is one."""
        chosen = self.alive if rows is None else rows & self.alive
        return np.flatnonzero(chosen if self.passages is None else chosen & (self.passages == 0))

    def _block(self, start: int, stop: int) -> Block:
        alive, lengths = self.alive[start:stop], np.diff(self.offsets[start : stop + 1])
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        documents = self.texts.documents_between(start, stop)
        passages = np.zeros(stop - start, np.int64) if self.passages is None else self.passages[start:stop]
        truncated = np.zeros(stop - start, bool) if self.truncated is None else self.truncated[start:stop]
        columns = {column.name: self.column(column.name)[first:last] for column in self.columns}
        self._check_floats(columns)
        if not alive.all():
            documents = [document for document, keep in zip(documents, alive, strict=True) if keep]
            tokens = np.repeat(alive, lengths)
            columns = {name: column[tokens] for name, column in columns.items()}
            lengths, passages, truncated = lengths[alive], passages[alive], truncated[alive]
        return Block(self.texts.path, documents, passages.tolist(), truncated.tolist(), lengths, columns)


def _split(
    rows: Sequence[StoredDocument], begins: Callable[[StoredDocument], bool]
) -> Iterator[list[StoredDocument]]:
    part: list[StoredDocument] = []
    for row in rows:
        if part and begins(row):
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def open_segment(folder: Path, record: SegmentRecord, n_centroids: int | None = None) -> Segment:
    """Map the files of a segment, its deleted rows aside.

    Args:
        n_centroids: centroids that its codec has at least; None for a codec without.
    Raises:
        FileNotFoundError: a file is gone; the caller knows whether that is damage.
        IndexCorrupt: a file is not the one the manifest names, or its numbers point elsewhere.
    """
    names = [name for name in record.files if name not in (layout.TEXTS, record.deleted)]
    files = {name: map_file(folder / name, record.files[name]) for name in names}
    prove_offsets(folder / layout.OFFSETS, files[layout.OFFSETS], record.n_tokens)
    if layout.PASSAGES in files:
        prove_passages(folder / layout.PASSAGES, files[layout.PASSAGES])
    if layout.LISTS in files:
        ends = files[layout.LIST_OFFSETS]
        prove_offsets(folder / layout.LIST_OFFSETS, ends, len(files[layout.LISTS].array))
    if layout.LIST_STARTS in files:
        starts = files[layout.LIST_STARTS]
        prove_offsets(folder / layout.LIST_STARTS, starts, len(files[layout.LIST_CENTROIDS].array))
    texts = TextsReader(folder / layout.TEXTS, record.files[layout.TEXTS], record.n_documents)
    return Segment(folder, record, files, texts, n_centroids)


def read_alive(folder: Path, record: SegmentRecord) -> Mask:
    """Bool [n_documents] from the file of deleted rows."""
    if record.deleted is None:
        return np.ones(record.n_documents, np.bool_)
    path = folder / record.deleted
    packed = map_array(path, record.files[record.deleted])
    deleted = np.unpackbits(packed, count=record.n_documents, bitorder="little").view(np.bool_)
    if (n := int(np.count_nonzero(deleted))) != record.n_deleted:
        raise IndexCorrupt(path, "deleted rows", record.n_deleted, n, RESTORE)
    return ~deleted


def lasting_files(record: SegmentRecord) -> dict[str, FileRecord]:
    """Files that stay the same for the life of a segment."""
    return {name: file for name, file in record.files.items() if name != record.deleted}


def pack_deleted(alive: Mask) -> npt.NDArray[np.uint8]:
    """What `read_alive` reads."""
    return np.packbits(~alive, bitorder="little")


def check_same_columns(segments: Sequence[Segment]) -> None:
    """Raise InvalidInput unless the segments' token rows can stand in one segment."""
    for segment in segments[1:]:
        if (segment.columns, segment.codec) != (segments[0].columns, segments[0].codec):
            raise InvalidInput(
                f"segment {segment.name} has another codec or other columns than segment {segments[0].name}; "
                f"only segments of one codec can be merged."
            )
