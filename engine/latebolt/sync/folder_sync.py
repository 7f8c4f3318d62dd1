"""One run that brings an index in line with files and folders: only what is new or has changed is read.

`decide` what a file is by its record, read it where that is in doubt, and let `Index.sync` do the rest.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from latebolt.corpus.documents import Document, documents_of
from latebolt.corpus.files import Skipped, SourceFile
from latebolt.corpus.naming import Naming
from latebolt.corpus.readers.apart import ReaderProcess
from latebolt.index.documents.origins import text_digest
from latebolt.index.format import layout
from latebolt.index.ingest.sync import SyncCounts, Unlisted
from latebolt.sync.file_records import (
    MOST_DOCUMENTS,
    FileRecord,
    FileRecords,
    absolute,
    digest_of_file,
    load_records,
    same_at_a_glance,
    save_records,
)

if TYPE_CHECKING:
    from latebolt.index.index import Index

COMMIT_SECONDS: Final = 300.0
_FILES: Final = 256  # looked up in the index at a time

Row = tuple[Any, ...]


@dataclass
class FolderSync:
    """A run over some files, given as they were named; to be used in a `with`.

    Args:
        sources: the files.
        names: what of the command line they stand for: files, and folders.
        skipped: gets the files that could not be read; their documents stay.
        whole: see `read_documents`.
        made: see `FileRecords`.
        again: read every file, whatever is remembered.
    """

    sources: Sequence[SourceFile]
    names: Sequence[str]
    skipped: list[Skipped]
    whole: bool
    made: str
    again: bool = False
    missing: list[str] = field(default_factory=list)
    _first: tuple[SourceFile, Iterator[Document]] | None = None
    _process: ReaderProcess = field(default_factory=ReaderProcess)

    def __enter__(self) -> FolderSync:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def peek(self) -> Document | None:
        """The first document of all, which is read now; None if there is none.

        Raises:
            InvalidInput: a file that was named cannot be read.
        """
        for number, source in enumerate(self.sources):
            documents = documents_of(source, self.whole, self.skipped, self._process)
            if (first := next(documents, None)) is not None:
                self.sources = self.sources[number:]
                self._first = source, itertools.chain([first], documents)
                return first
        return None

    def lines(self) -> Iterator[Document]:
        """All documents, as they are read."""
        for source in self.sources:
            yield from self._documents(source)

    def _documents(self, source: SourceFile) -> Iterator[Document]:
        if self._first is not None and self._first[0] is source:
            begun, self._first = self._first[1], None
            return begun
        return documents_of(source, self.whole, self.skipped, self._process)

    def run(
        self,
        index: Index,
        prune: bool = False,
        dry_run: bool = False,
        show_progress: bool = False,
        timeout: float | None = None,
        on_change: Callable[[str, str], None] | None = None,
    ) -> SyncCounts:
        """Do it. `missing` then names the documents whose files are gone, and which stay without `prune`.

        Raises:
            InvalidInput: a file that was named cannot be read.
        """
        known = load_records(index.path, self.made)
        new: dict[str, FileRecord] = {}

        def rows() -> Iterator[Row]:
            yield from self._rows(index, FileRecords(self.made) if self.again else known, new)
            if not dry_run and is_there(index.path):
                # What an interruption must not lose: which documents are this run's to remove, another time.
                save_records(index.path, FileRecords(self.made, {**known.files, **_unread(known, new)}))

        counts = index.sync(
            rows(),
            prune=self._gone(known, prune),
            dry_run=dry_run,
            show_progress=show_progress,
            timeout=timeout,
            commit_every=COMMIT_SECONDS,
            on_change=on_change,
        )
        if not dry_run:
            kept = {
                path: record
                for path, record in known.files.items()
                if not (prune and self._covers(path) and not self._unreadable(path))
            }
            save_records(index.path, FileRecords(self.made, {**kept, **_with_lost(known, new, prune)}))
        return counts

    def _rows(self, index: Index, old: FileRecords, new: dict[str, FileRecord]) -> Iterator[Row]:
        same = self._unchanged(index, old)
        naming = Naming(id for record in same.values() for id in record.documents)
        for source in self.sources:
            if (record := same.get(source.path)) is None:
                yield from self._read(source, naming, new)
            else:
                new[absolute(record.name)] = record
                yield from ((id, None) for id in record.documents)

    def _unchanged(self, index: Index, old: FileRecords) -> dict[Path | None, FileRecord]:
        """The records of those files whose bytes are as they were, and whose documents the index has."""
        found: dict[Path | None, FileRecord] = {}
        sources = iter(self.sources)
        while some := list(itertools.islice(sources, _FILES)):
            records = [
                (source.path, record)
                for source in some
                if source.path is not None and (record := self._same(old, source.path)) is not None
            ]
            ids = [id for _, record in records for id in record.documents]
            digests = dict(zip(ids, index.digests(ids), strict=True))
            found |= {
                path: record
                for path, record in records
                if all(digests[id] == digest for id, digest in record.documents.items())
            }
        return found

    def _same(self, old: FileRecords, path: Path) -> FileRecord | None:
        """The record of a file whose bytes are as they were."""
        record = old.files.get(absolute(path))
        if record is None or record.name != str(path):
            return None
        try:
            state = path.stat()
            if same_at_a_glance(record, str(path), state):
                return record
            if state.st_size != record.size or digest_of_file(path) != record.digest:
                return None
        except OSError:  # whoever reads it says why it cannot be
            return None
        return _renewed(record, state)

    def _read(self, source: SourceFile, naming: Naming, new: dict[str, FileRecord]) -> Iterator[Row]:
        path, state, digest, read_ns = source.path, None, "", time.time_ns()
        if path is not None:
            with contextlib.suppress(OSError):  # whoever reads it says why it cannot be
                state, digest = path.stat(), digest_of_file(path)
        documents: dict[str, str] = {}
        for document in naming.named(self._documents(source)):
            yield document.id, document.text, document.metadata, document.place, document.breaks
            if len(documents) <= MOST_DOCUMENTS:  # a file with more leaves no record
                # The index checks both; what was decoded from a file has no half of a character any more.
                documents[document.id or ""] = text_digest(document.text).hex()
        if path is not None and state is not None and 0 < len(documents) <= MOST_DOCUMENTS:
            new[absolute(path)] = FileRecord(
                str(path), state.st_size, state.st_mtime_ns, read_ns, digest, documents
            )

    def _gone(self, known: FileRecords, prune: bool) -> Callable[[Unlisted], bool]:
        """Says whether a document that was not met is one of this run's files, and to be removed."""
        owners = {
            id: path
            for path, record in known.files.items()
            for id in itertools.chain(record.documents, record.lost)
        }

        def gone(document: Unlisted) -> bool:
            path = owners.get(document.id)
            if path is None:
                named = (document.metadata or {}).get("file")
                path = absolute(named) if isinstance(named, str) and named else None
            if path is None or self._unreadable(path):
                return False
            # A file that was moved here from elsewhere is not kept twice.
            if not self._covers(path) and not (document.moved and not os.path.lexists(path)):
                return False
            if not prune:
                self.missing.append(document.id)
            return prune

        return gone

    def _covers(self, path: str) -> bool:
        return any(path == name or path.startswith(name + os.sep) for name in self._given)

    @cached_property
    def _given(self) -> list[str]:
        return [absolute(name).rstrip(os.sep) for name in self.names if name != "-"]

    def _unreadable(self, path: str) -> bool:
        """Whether a file could not be read, so that nobody knows what is in it now."""
        above = map(str, Path(path).parents)
        return not self._refused.isdisjoint((path, *above)) and not _is_empty(path)

    @cached_property
    def _refused(self) -> set[str]:
        """What was passed over: files, and folders that could not be listed. Asked when all has been read."""
        return {absolute(each.path) for each in self.skipped}


def _unread(known: FileRecords, new: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
    """The new records so that they never pass for the same at a glance, with all that was known of each."""
    return {
        path: msgspec.structs.replace(record, read_ns=0, size=-1)
        for path, record in _with_lost(known, new, False).items()
    }


def _with_lost(known: FileRecords, new: Mapping[str, FileRecord], prune: bool) -> dict[str, FileRecord]:
    """The new records, each with the documents that its file had before and which nobody has removed."""
    found = {}
    for path, record in new.items():
        before = known.files.get(path)
        lost = [] if before is None or prune else [*before.documents, *before.lost]
        lost = sorted({id for id in lost if id not in record.documents})
        found[path] = msgspec.structs.replace(record, lost=lost)
    return found


def _renewed(record: FileRecord, state: os.stat_result) -> FileRecord:
    return msgspec.structs.replace(
        record, size=state.st_size, mtime_ns=state.st_mtime_ns, read_ns=time.time_ns()
    )


def is_there(index: Path) -> bool:
    """Whether an index has been made there."""
    return (index / layout.MANIFEST).is_file()


def _is_empty(path: str) -> bool:
    try:
        return Path(path).stat().st_size == 0
    except OSError:
        return False
