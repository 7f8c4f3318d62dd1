"""Reads the database of one segment: documents by row, rows by id, by a metadata value, and by a word.

Knows nothing of deleted rows. The database is opened as immutable: no lock, no journal, no write, so it works
on a read-only mount and goes on working while the file is being removed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from latebolt.arrays import Int64
from latebolt.errors import IndexCorrupt, IndexInaccessible, IndexNewer, IndexUnusable
from latebolt.index.documents import documents
from latebolt.index.documents.documents import LONG_STRING, LONG_STRING_PREFIX, STRING, Leaf, Value, compare
from latebolt.index.documents.origins import TEXT_DIGEST_BYTES, Origin
from latebolt.index.documents.postings import (
    LENGTH_BYTES,
    POSTING_BYTES,
    Postings,
    unpack_lengths,
    unpack_postings,
)
from latebolt.index.format import layout
from latebolt.index.format.layout import FileRecord
from latebolt.index.format.mmap_array import RESTORE, check_size

Rows = Sequence[int] | Int64
T = TypeVar("T")
V = TypeVar("V")
_WORDS: Final = "SELECT 1 FROM sqlite_master WHERE name = 'postings'"  # of versions from 2 on
# The second is what becomes of a message that names a damaged part of the schema.
DATABASE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
_TEXT: Final = (str, type(None))
_BATCH: Final = 500  # parameters of one statement; every SQLite allows 999

# One constant statement an operator: what a caller wrote only ever travels as a parameter.
_OPS: Final = ("=", "<", "<=", ">", ">=")
_EXISTING: Final = "SELECT row FROM fields WHERE path = (SELECT number FROM paths WHERE path = ?)"
_FIELD: Final = {op: f"{_EXISTING} AND kind = ? AND value {op} ?" for op in _OPS}
_ID: Final = {op: f"SELECT row FROM documents WHERE id {op} ?" for op in _OPS}
# The columns of `StoredDocument`, with and without a table of origins.
_ORIGINS: Final = "SELECT 1 FROM sqlite_master WHERE name = 'origins'"
_WHERE_ROW: Final = "FROM documents d LEFT JOIN texts t ON t.row = d.row{origins} WHERE d.row "
_DOCUMENTS: Final = {
    False: "SELECT d.row, d.id, t.text, d.metadata, NULL, NULL, NULL, NULL, NULL "
    + _WHERE_ROW.format(origins=""),
    True: "SELECT d.row, d.id, t.text, d.metadata, o.digest, o.overlap, o.before, o.after, o.place "
    + _WHERE_ROW.format(origins=" LEFT JOIN origins o ON o.row = d.row"),
}


class StoredDocument(NamedTuple):
    """One document as stored; `metadata` is JSON."""

    row: int
    id: str
    text: str | None
    metadata: str | None
    origin: Origin | None = None


class TextsReader:
    """Documents of one segment. Threads may share it; a forked child opens the file anew.

    What the database says is looked at before anything is indexed by it: every method raises IndexCorrupt
    where that does not fit.

    Args:
        n_documents: rows of the segment.
    Raises:
        FileNotFoundError: the file is gone; the caller knows whether that is damage.
        IndexCorrupt: it is not the file the manifest names.
        IndexNewer: a newer version of latebolt wrote it.
        IndexInaccessible: the system refuses it.
    """

    def __init__(self, path: Path, record: FileRecord, n_documents: int) -> None:
        self.path, self._record, self._n_documents = path, record, n_documents
        self._lengths: npt.NDArray[np.uint32] | None = None
        self._connect()

    def _connect(self) -> None:
        check_size(self.path, self._record)
        # One connection with a lock, opened now: a connection a thread, opened when first needed, would come
        # too late for a segment that a newer commit has removed.
        self._lock, self._process = threading.Lock(), os.getpid()
        try:
            self._database = connect_immutable(self.path)
            owner = self._database.execute("PRAGMA application_id").fetchone()[0]
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            older = version == 1 and self._database.execute(_WORDS).fetchone() is not None
            has_origins = self._database.execute(_ORIGINS).fetchone() is not None
        except DATABASE_ERRORS as error:
            if not self.path.exists():
                raise FileNotFoundError(self.path) from error
            raise self._explained(error) from error
        versions = " or ".join(map(str, layout.TEXTS_READABLE))
        if owner == layout.TEXTS_APPLICATION_ID and version > layout.TEXTS_VERSION:
            raise IndexNewer(self.path, "user_version", versions, version)
        if owner != layout.TEXTS_APPLICATION_ID or version not in layout.TEXTS_READABLE or older:
            expected = f"{layout.TEXTS_APPLICATION_ID:#x} version {versions}"
            raise IndexCorrupt(
                self.path, "application_id", expected, f"{owner:#x} version {version}", RESTORE
            )
        self.has_words, self._has_origins = version >= 2, has_origins
        self.words_are_current = version == layout.TEXTS_VERSION

    def _explained(self, error: Exception) -> IndexUnusable:
        """Damage, unless the system did not let SQLite open what it needs, be it for want of file handles."""
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CANTOPEN:
            try:
                os.close(os.open(self.path, os.O_RDONLY))
                number = None
            except OSError as why:
                number = why.errno
            return IndexInaccessible(f"{self.path}: cannot be read ({error}).", number, writing=False)
        return IndexCorrupt(self.path, "content", "a readable SQLite database", f"'{error}'", RESTORE)

    def close(self) -> None:
        """Close the connection; the object is useless afterwards."""
        if self._process == os.getpid():
            self._database.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, sqlite3.Error):  # half made, or made in another thread
            self.close()

    def _rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        if self._process != os.getpid():  # SQLite forbids carrying a connection through a fork
            self._connect()
        with self._lock:
            try:
                return self._database.execute(statement, parameters).fetchall()
            except DATABASE_ERRORS as error:
                raise self._explained(error) from error

    def _row_numbers(self, statement: str, parameters: Sequence[Any]) -> Int64:
        return row_numbers(
            self.path, [row for (row,) in self._rows(statement, parameters)], self._n_documents
        )

    def _wrong(self, field: str, expected: str, got: object) -> IndexCorrupt:
        return IndexCorrupt(self.path, field, expected, got, RESTORE)

    def _documents(self, which: str, parameters: Sequence[Any]) -> list[StoredDocument]:
        found = []
        for row, id, text, metadata, *origin in self._rows(_DOCUMENTS[self._has_origins] + which, parameters):
            if not (type(id) is str and isinstance(text, _TEXT) and isinstance(metadata, _TEXT)):
                kinds = ", ".join(type(value).__name__ for value in (id, text, metadata))
                raise self._wrong(f"documents.row {row}", "an id, a text and metadata", kinds)
            found.append(StoredDocument(row, id, text, metadata, self._origin(row, text, origin)))
        return found

    def _origin(self, row: int, text: str | None, values: Sequence[Any]) -> Origin | None:
        digest, overlap, *texts = values
        if overlap is None:
            return None
        if not (
            _is_digest(digest)
            and type(overlap) is int
            and 0 <= overlap <= len(text or "")
            and all(isinstance(each, _TEXT) for each in texts)
        ):
            raise self._wrong(f"origins.row {row}", "a digest, an overlap and texts", "something else")
        return Origin(digest, overlap, *texts)

    def _ids(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[int, str]]:
        """(row, id), each row one of the segment's."""
        found: list[tuple[int, str]] = self._rows(statement, parameters)
        for row, id in found:
            if type(row) is not int or not 0 <= row < self._n_documents or type(id) is not str:
                expected = f"a row below {self._n_documents} and a text"
                raise self._wrong("documents (row, id)", expected, f"{row!r:.40}, a {type(id).__name__}")
        return found

    def documents(self, rows: Rows) -> list[StoredDocument]:
        """Documents of these rows, in this order; a row may be named twice.

        Raises:
            IndexCorrupt: the database lacks a row.
        """
        found: dict[int, StoredDocument] = {}
        for batch, among in _batches(_plain(rows)):
            found |= {each.row: each for each in self._documents(among, batch)}
        return self._in_order(found, rows)

    def _in_order(self, found: Mapping[int, T], rows: Rows) -> list[T]:
        try:
            return [found[int(row)] for row in rows]
        except KeyError as error:
            raise self._missing(error.args[0]) from error

    def documents_between(self, start: int, stop: int) -> list[StoredDocument]:
        """Documents of rows start..stop-1, in order."""
        found = self._documents("BETWEEN ? AND ? ORDER BY d.row", (start, stop - 1))
        if [document.row for document in found] != list(range(start, stop)):
            raise self._missing(
                next(i for i in range(start, stop) if i - start >= len(found) or found[i - start].row != i)
            )
        return found

    def _missing(self, row: int) -> IndexCorrupt:
        return IndexCorrupt(self.path, f"documents.row {row}", "present", "nothing", RESTORE)

    def ids(self, rows: Rows | None = None) -> list[str]:
        """Ids of these rows in this order, or of all."""
        if rows is None:
            every = self._ids("SELECT row, id FROM documents ORDER BY row")
            if len(every) != self._n_documents:
                raise self._wrong("documents (count)", str(self._n_documents), len(every))
            return [id for _, id in every]
        found: dict[int, str] = {}
        for batch, among in _batches(_plain(rows)):
            found.update(self._ids(f"SELECT row, id FROM documents WHERE row {among}", batch))
        return self._in_order(found, rows)

    def rows_of_ids(self, ids: Sequence[str]) -> list[tuple[str, int]]:
        """Every (id, row) whose id is one of these."""
        found: list[tuple[str, int]] = []
        for batch, among in _batches(ids):
            some = self._ids(f"SELECT row, id FROM documents WHERE id {among}", batch)
            found.extend((id, row) for row, id in some)
        return found

    def digests(self, rows: Rows) -> list[bytes | None]:
        """Digest of the text that begins in each of these rows, in this order; None where none is kept."""
        found: dict[int, bytes | None] = {}
        for batch, among in _batches(_plain(rows) if self._has_origins else []):
            for row, digest in self._rows(f"SELECT row, digest FROM origins WHERE row {among}", batch):
                if not _is_digest(digest):
                    raise self._wrong(f"origins.row {row}", "a digest", f"{digest!r:.40}")
                found[row] = digest
        return [found.get(int(row)) for row in rows]

    def labels(self, rows: Rows) -> list[tuple[str, str | None]]:
        """Id and metadata, as JSON, of these rows in this order."""
        found: dict[int, tuple[str, str | None]] = {}
        for batch, among in _batches(_plain(rows)):
            statement = f"SELECT row, id, metadata FROM documents WHERE row {among}"
            for row, id, metadata in self._rows(statement, batch):
                if type(id) is not str or not isinstance(metadata, _TEXT):
                    raise self._wrong(f"documents.row {row}", "an id and metadata", type(id).__name__)
                found[row] = id, metadata
        return self._in_order(found, rows)

    def rows_of_digests(self, digests: Sequence[bytes]) -> Int64:
        """First rows of the documents whose text has one of these digests."""
        found = [np.zeros(0, np.int64)]
        for batch, among in _batches(digests if self._has_origins else []):
            found.append(self._row_numbers(f"SELECT row FROM origins WHERE digest {among}", batch))
        return np.concatenate(found)

    def rows_with_id(self, op: str, value: Value) -> Int64:
        """Rows whose id compares so; none for a value that is no string."""
        if value.kind != STRING:
            return np.zeros(0, np.int64)
        return self._row_numbers(_ID[op], (value.value,))

    def rows_with_field(self, field: str) -> Int64:
        """Rows whose metadata has the field; a row may come twice."""
        return self._row_numbers(_EXISTING, (field,))

    def rows_with_value(self, field: str, op: str, value: Value) -> Int64:
        """Rows of which some value at the field compares so; a row may come twice."""
        rows = self._row_numbers(_FIELD[op], (field, value.kind, value.value))
        if value.kind != STRING:
            return rows
        return np.concatenate([rows, *self._rows_with_long_string(field, op, value)])

    def lengths(self) -> npt.NDArray[np.uint32]:
        """Words of each document; 0 where there is no text. Needs `has_words`."""
        if self._lengths is None:
            parts = [np.zeros(0, np.uint32)]
            for (content,) in self._rows("SELECT lengths FROM word_blocks ORDER BY first"):
                if not isinstance(content, bytes) or len(content) % LENGTH_BYTES:
                    raise self._wrong("word_blocks.lengths", "blobs of whole numbers", "something else")
                parts.append(unpack_lengths(content))
            lengths = np.concatenate(parts)
            if len(lengths) != self._n_documents:
                raise self._wrong("word_blocks (documents)", str(self._n_documents), len(lengths))
            self._lengths = lengths
        return self._lengths

    def postings(self, word: str) -> Postings:
        """Ascending rows of the documents that hold a word, and how often each does. Needs `has_words`."""
        parts: list[Postings] = []
        blocks = "SELECT first, content FROM postings WHERE word = ? ORDER BY first"
        for first, content in self._rows(blocks, (word,)):
            if not isinstance(content, bytes) or len(content) % POSTING_BYTES:
                raise self._wrong(f"postings of {word!r}", "blobs of whole entries", "something else")
            if type(first) is not int or not 0 <= first < self._n_documents:
                expected = f"a row below {self._n_documents}"
                raise self._wrong(f"postings.first of {word!r}", expected, f"{first!r:.40}")
            parts.append(unpack_postings(first, content))
        parts = parts or [unpack_postings(0, b"")]
        rows, counts = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        if len(rows) and (rows[-1] >= self._n_documents or (rows[1:] <= rows[:-1]).any()):
            raise self._wrong(f"postings of {word!r}", f"ascending rows below {self._n_documents}", "others")
        return rows, counts

    def rows_with_any(self, field: str, values: Sequence[Value]) -> Int64:
        """Rows of which some value at the field is one of these; a row may come twice."""
        found = [np.zeros(0, np.int64)]
        by_kind: dict[int, list[str | int | float]] = {}
        for value in dict.fromkeys(values):
            by_kind.setdefault(value.kind, []).append(value.value)
        for kind, wanted in by_kind.items():
            found += self._rows_among(field, kind, wanted)
        long = {str(each) for each in by_kind.get(STRING, ()) if len(str(each)) > LONG_STRING_PREFIX}
        prefixes = list(dict.fromkeys(each[:LONG_STRING_PREFIX] for each in long))
        for undecided in self._rows_among(field, LONG_STRING, prefixes):
            found.append(
                self._decided(undecided, field, lambda leaf: leaf.kind == STRING and leaf.value in long)
            )
        return np.concatenate(found)

    def _rows_among(self, field: str, kind: int, values: Sequence[Any]) -> Iterator[Int64]:
        for batch, among in _batches(values):
            yield self._row_numbers(f"{_EXISTING} AND kind = ? AND value {among}", (field, kind, *batch))

    def _decided(self, rows: Int64, field: str, passes: Callable[[Leaf], bool]) -> Int64:
        """Those of the rows of whose values at the field, which are read whole, some passes."""
        return np.array(
            [
                document.row
                for document in self.documents(rows)
                for leaf in documents.leaves(stored_metadata(self.path, document))
                if leaf.path == field and passes(leaf)
            ],
            np.int64,
        )

    def has_field(self, field: str) -> bool:
        """Whether the metadata of some document, deleted or not, has the field."""
        return bool(self._rows("SELECT 1 FROM paths WHERE path = ?", (field,)))

    def fields(self, most: int) -> list[str]:
        """Fields of the metadata, at most so many."""
        paths = self._rows("SELECT path FROM paths LIMIT ?", (most,))
        return [path for (path,) in paths if type(path) is str]

    def _rows_with_long_string(self, field: str, op: str, value: Value) -> Iterator[Int64]:
        """The same for strings of which the table holds a prefix; an equal prefix decides nothing."""
        prefix = str(value.value)[:LONG_STRING_PREFIX]
        strict = op.rstrip("=")
        if strict:
            yield self._row_numbers(_FIELD[strict], (field, LONG_STRING, prefix))
        if len(prefix) == LONG_STRING_PREFIX:
            undecided = self._row_numbers(_FIELD["="], (field, LONG_STRING, prefix))
            yield self._decided(undecided, field, lambda leaf: compare(leaf, op, value))


def _batches(values: Sequence[V]) -> Iterator[tuple[Sequence[V], str]]:
    """The values in as many as one statement takes, each with the condition that a column is among them."""
    for start in range(0, len(values), _BATCH):
        batch = values[start : start + _BATCH]
        yield batch, f"IN ({', '.join('?' * len(batch))})"


def _plain(rows: Rows) -> list[int]:
    """Rows as SQLite takes them."""
    return rows.tolist() if isinstance(rows, np.ndarray) else [int(row) for row in rows]


def stored_place(path: Path, document: StoredDocument) -> dict[str, Any]:
    """Where a row of the database at `path` stands in what it was read from; empty where nobody said.

    Raises:
        IndexCorrupt: it is no JSON object.
    """
    if document.origin is None or document.origin.place is None:
        return {}
    field = f"origins.place of row {document.row}"
    try:
        place = msgspec.json.decode(document.origin.place)
    except (msgspec.DecodeError, RecursionError) as error:
        raise IndexCorrupt(path, field, "JSON", f"'{error}'", RESTORE) from error
    if not isinstance(place, dict):
        raise IndexCorrupt(path, field, "an object", type(place).__name__, RESTORE)
    return place


def _is_digest(value: Any) -> bool:
    return value is None or (isinstance(value, bytes) and len(value) == TEXT_DIGEST_BYTES)


def stored_metadata(path: Path, document: StoredDocument) -> dict[str, Any] | None:
    """The metadata of a document of the database at `path`, see `decoded_metadata`."""
    return decoded_metadata(path, document.row, document.metadata)


def decoded_metadata(path: Path, row: int, content: str | None) -> dict[str, Any] | None:
    """Metadata of a row of the database at `path`.

    Raises:
        IndexCorrupt: it is no JSON object.
    """
    field = f"documents.metadata of row {row}"
    try:
        metadata = documents.decode_metadata(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise IndexCorrupt(path, field, "JSON", f"'{error}'", RESTORE) from error
    if metadata is not None and not isinstance(metadata, dict):
        raise IndexCorrupt(path, field, "an object", type(metadata).__name__, RESTORE)
    return metadata


def row_numbers(path: Path, rows: Sequence[Any], n_documents: int) -> Int64:
    """Rows that a database named, as numbers.

    Raises:
        IndexCorrupt: one is none of the segment's.
    """
    expected = f"a row below {n_documents}"
    try:
        numbers = np.fromiter(rows, np.int64, len(rows))
    except (TypeError, ValueError, OverflowError) as error:
        raise IndexCorrupt(path, "row", expected, f"'{error}'", RESTORE) from error
    wrong = (numbers < 0) | (numbers >= n_documents)
    if wrong.any():
        raise IndexCorrupt(path, "row", expected, numbers[np.argmax(wrong)], RESTORE)
    return numbers


def connect_immutable(path: Path) -> sqlite3.Connection:
    """A connection that never writes or locks."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def rows_replaced(old: Path, n_old: int, new: Path, n_new: int) -> Int64:
    """Rows of one database whose id also occurs in another; the smaller one is walked."""
    # An id may have many rows on both sides, one a passage: no row is looked at once for each of the others.
    if n_old <= n_new:
        condition = "EXISTS (SELECT 1 FROM new.documents AS n WHERE n.id = o.id)"
    else:
        condition = "o.id IN (SELECT id FROM new.documents)"
    database = connect_immutable(old)
    try:
        uri = f"{new.absolute().as_uri()}?mode=ro&immutable=1"
        database.execute("ATTACH ? AS new", (uri,))
        rows = database.execute(f"SELECT o.row FROM main.documents AS o WHERE {condition}").fetchall()
    except DATABASE_ERRORS as error:
        raise IndexCorrupt(old, "content", "a readable SQLite database", f"'{error}'", RESTORE) from error
    finally:
        database.close()
    return row_numbers(old, [row for (row,) in rows], n_old)
