"""Writes the database of one segment: ids, texts, metadata, the values that filters compare, and words.

Rows are numbered as the segment's documents are. `texts_reader` is the other half.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.index.documents import documents
from latebolt.index.documents.documents import Row
from latebolt.index.documents.postings import PostingsBlock
from latebolt.index.format import files, layout
from latebolt.index.format.layout import FileRecord


class TextsWriter:
    """Streams documents into a new database.

    Args:
        path: must not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._n_rows = path, 0
        self._paths: dict[str, int] = {}
        self._words = PostingsBlock(0)
        with files.writing(path):
            # Nobody reads a draft, so a journal and syncs would protect nothing; `seal` syncs the result.
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for pragma in (
                "journal_mode=OFF",
                "synchronous=OFF",
                "locking_mode=EXCLUSIVE",
                "cache_size=-32000",
            ):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.execute(f"PRAGMA application_id={layout.TEXTS_APPLICATION_ID}")
            self._database.execute(f"PRAGMA user_version={layout.TEXTS_VERSION}")
            self._database.execute("BEGIN")
            for statement in layout.TEXTS_SCHEMA:
                self._database.execute(statement)

    def append(self, rows: Sequence[Row]) -> None:
        """Add documents after those already there."""
        first, execute = self._n_rows, self._database.executemany
        numbered = range(first, first + len(rows))
        with files.writing(self.path):
            execute(
                "INSERT INTO documents VALUES (?, ?, ?)",
                ((i, row.id, row.json) for i, row in zip(numbered, rows, strict=True)),
            )
            execute(
                "INSERT INTO texts VALUES (?, ?)",
                ((i, row.text) for i, row in zip(numbered, rows, strict=True) if row.text is not None),
            )
            execute("INSERT INTO origins VALUES (?, ?, ?, ?, ?, ?)", self._origins(rows))
            # A list may hold a value twice.
            execute("INSERT OR IGNORE INTO fields VALUES (?, ?, ?, ?)", self._fields(rows))
            for row in rows:
                self._words.add(row.text)
                if self._words.full:
                    self._write_words()
        self._n_rows += len(rows)

    def _origins(self, rows: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
        for i, row in enumerate(rows, self._n_rows):
            if (origin := row.origin) is not None:
                yield i, origin.digest, origin.overlap, origin.before, origin.after, origin.place

    def _fields(self, rows: Sequence[Row]) -> Iterator[tuple[int, int, Any, int]]:
        for i, row in enumerate(rows, self._n_rows):
            for path, kind, value in row.leaves:
                if kind == documents.STRING and len(value) > documents.LONG_STRING_PREFIX:
                    kind, value = documents.LONG_STRING, value[: documents.LONG_STRING_PREFIX]
                yield self._path_number(path), kind, value, i

    def _write_words(self) -> None:
        block, self._words = self._words, PostingsBlock(self._words.next_row)
        self._database.execute("INSERT INTO word_blocks VALUES (?, ?)", (block.first, block.lengths))
        self._database.executemany("INSERT INTO postings VALUES (?, ?, ?)", block.postings())

    def _path_number(self, path: str) -> int:
        number = self._paths.get(path)
        if number is None:
            number = self._paths[path] = len(self._paths)
            self._database.execute("INSERT INTO paths VALUES (?, ?)", (number, path))
        return number

    def finish(self) -> tuple[FileRecord, npt.NDArray[np.int64]]:
        """Index, close and sync the file.

        Returns:
            Its record, and int64 [n, 2]: each row whose id comes again in a later row, and the last such row.
        """
        with files.writing(self.path):
            if self._words.next_row > self._words.first:
                self._write_words()
            for statement in layout.TEXTS_INDEXES:
                self._database.execute(statement)
            repeated = self._database.execute(
                "SELECT d.row, r.last FROM documents d JOIN (SELECT id, max(row) AS last FROM documents"
                " GROUP BY id HAVING count(*) > 1) r ON d.id = r.id WHERE d.row < r.last"
            )
            pairs = np.fromiter(itertools.chain.from_iterable(repeated), np.int64).reshape(-1, 2)
            self._database.execute("COMMIT")
            self._database.close()
        return files.seal(self.path), pairs

    def close(self) -> None:
        """Give up: close the file and leave it to whoever removes the draft."""
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
