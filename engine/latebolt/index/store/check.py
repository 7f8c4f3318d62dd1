"""Verifies every byte of an index against its manifest, and the contents against each other.

Opening an index looks at sizes and headers only; this reads everything, and finds any changed byte of the
manifest or of a file that it names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from latebolt.errors import IndexCorrupt, IndexUnusable
from latebolt.index.documents.texts_reader import DATABASE_ERRORS, TextsReader, connect_immutable
from latebolt.index.format import layout
from latebolt.index.format.files import digest_of
from latebolt.index.format.layout import CodecRecord, FileRecord, Manifest, SegmentRecord
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.format.mmap_array import map_array, opened
from latebolt.index.format.proof import check_offsets, check_passages
from latebolt.index.store.segment import read_alive

_BLOCK: Final = 1 << 20
_SEGMENT_FIX: Final = (
    "Restore this file from a copy of the index; without one, the documents of this segment have to be added "
    "again to a new index."
)
_CODEC_FIX: Final = (
    "Restore this file from a copy of the index; without one, no document of this codec can be read and the "
    "index has to be built again."
)
_DELETED_FIX: Final = (
    "Restore this file from a copy of the index; without one, deleted documents cannot be told."
)


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with one file."""

    path: Path
    field: str
    message: str

    def __str__(self) -> str:
        return self.message


def check_index(
    path: str | os.PathLike[str], on_file: Callable[[Path, int], None] | None = None
) -> list[Damage]:
    """Check all files of the last commit; it may go on being read and written.

    Args:
        on_file: called with each file and its size in bytes once it was read, for a progress bar.
    Returns:
        All problems found; empty if the index is whole.
    Raises:
        IndexNotFound: there is no index.
    """
    folder = Path(path)
    report = on_file or (lambda file, n_bytes: None)
    while True:
        try:
            manifest = read_manifest(folder)
        except IndexCorrupt as error:
            return [_problem(error)]
        problems = [_problem(error) for error in _damage(folder, manifest, report)]
        # A commit may have removed files while we read them; then their absence is no damage.
        if not problems or _same_commit(folder, manifest):
            return problems


def verify_index(path: Path) -> None:
    """Raise for the first thing that is wrong with an index that nobody is writing to.

    Raises:
        IndexNotFound: there is no index.
        IndexCorrupt: the manifest, or a file it names, is not what was written.
    """
    for error in _damage(path, read_manifest(path), lambda file, n_bytes: None):
        raise error


def verify_files(named: Iterable[tuple[Path, FileRecord, str]]) -> None:
    """Raise IndexCorrupt for the first of some files, see `named_files`, that is not what was written."""
    for path, record, fix in named:
        _check_bytes(path, record, fix)


def _same_commit(folder: Path, manifest: Manifest) -> bool:
    try:
        return read_manifest(folder) == manifest
    except IndexCorrupt:
        return True


def named_files(folder: Path, manifest: Manifest) -> Iterator[tuple[Path, FileRecord, str]]:
    """Every file of a commit but the manifest: path, record, and what to do if it is damaged."""
    for name, codec in manifest.codecs.items():
        yield from files_of_codec(folder, name, codec)
    for segment in manifest.segments:
        yield from files_of_segment(folder, segment)


def files_of_codec(folder: Path, name: str, codec: CodecRecord) -> Iterator[tuple[Path, FileRecord, str]]:
    """Those of `named_files` that one codec has."""
    for file, record in codec.files.items():
        yield folder / layout.CODECS / name / file, record, _CODEC_FIX


def files_of_segment(folder: Path, segment: SegmentRecord) -> Iterator[tuple[Path, FileRecord, str]]:
    """Those of `named_files` that one segment has."""
    for file, record in segment.files.items():
        fix = _DELETED_FIX if file == segment.deleted else _SEGMENT_FIX
        yield folder / layout.SEGMENTS / segment.name / file, record, fix


def _damage(folder: Path, manifest: Manifest, on_file: Callable[[Path, int], None]) -> Iterator[IndexCorrupt]:
    damaged = set()
    for path, record, fix in named_files(folder, manifest):
        try:
            _check_bytes(path, record, fix)
        except IndexCorrupt as error:
            damaged.add(path)
            yield error
        on_file(path, record.bytes)
    for segment in manifest.segments:
        place = folder / layout.SEGMENTS / segment.name
        for check in _CHECKS:
            try:
                check(place, segment, damaged)
            except IndexCorrupt as error:
                yield error
            except FileNotFoundError:  # reported above, or gone with a newer commit
                continue


def _check_bytes(path: Path, record: FileRecord, fix: str) -> None:
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != record.bytes:
                raise IndexCorrupt(path, "size", f"{record.bytes} bytes", f"{size} bytes", fix)
            if record.dtype is not None and record.shape is not None:
                header = layout.npy_header(record.dtype, record.shape)
                if (got := file.read(len(header))) != header:
                    raise IndexCorrupt(path, "header", repr(header), repr(got), fix)
            digest = digest_of(file, array=record.dtype is not None)
            if digest != record.digest:
                raise IndexCorrupt(path, "digest", record.digest, digest, fix)
    except FileNotFoundError as error:
        raise IndexCorrupt(path, "existence", "a file", "nothing", fix) from error
    except IndexCorrupt:
        raise
    except IndexUnusable as error:
        raise IndexCorrupt(path, "content", "readable", f"'{error}'", fix) from error


# The contents below agree with each other whenever digests do, unless a writer had a fault. A file known to
# be damaged is not looked into.


def _check_offsets(place: Path, segment: SegmentRecord, damaged: set[Path]) -> None:
    path = place / layout.OFFSETS
    if path not in damaged:
        offsets = map_array(path, segment.files[layout.OFFSETS])
        check_offsets(path, offsets, segment.n_tokens, _SEGMENT_FIX)


def _check_passages(place: Path, segment: SegmentRecord, damaged: set[Path]) -> None:
    path = place / layout.PASSAGES
    if layout.PASSAGES in segment.files and path not in damaged:
        check_passages(path, map_array(path, segment.files[layout.PASSAGES]), _SEGMENT_FIX)


def _check_lists(place: Path, segment: SegmentRecord, damaged: set[Path]) -> None:
    paths = [place / name for name in (layout.LISTS, layout.LIST_OFFSETS)]
    if layout.LISTS not in segment.files or damaged.intersection(paths):
        return
    rows, offsets = (map_array(path, segment.files[path.name]) for path in paths)
    check_offsets(paths[1], offsets, len(rows), _SEGMENT_FIX)
    starts = place / layout.LIST_STARTS
    if layout.LIST_STARTS in segment.files and starts not in damaged:
        n_lists = len(offsets) - 1
        check_offsets(starts, map_array(starts, segment.files[layout.LIST_STARTS]), n_lists, _SEGMENT_FIX)
    begins = np.zeros(len(rows) + 1, np.bool_)
    begins[offsets] = True
    for start in range(0, len(rows), _BLOCK):
        part = rows[max(0, start - 1) : start + _BLOCK].astype(np.int64)
        # Within a list rows ascend; a list begins anywhere.
        wrong = part >= segment.n_documents
        wrong[1:] |= (np.diff(part) <= 0) & ~begins[max(1, start) : start + len(part) - (start > 0)]
        if wrong.any():
            entry = max(0, start - 1) + int(np.argmax(wrong))
            expected = f"an ascending row below {segment.n_documents}"
            raise IndexCorrupt(paths[0], f"lists[{entry}]", expected, rows[entry], _SEGMENT_FIX)


def _check_deleted(place: Path, segment: SegmentRecord, damaged: set[Path]) -> None:
    if segment.deleted is not None and place / segment.deleted not in damaged:
        read_alive(place, segment)


def _check_texts(place: Path, segment: SegmentRecord, damaged: set[Path]) -> None:
    path = place / layout.TEXTS
    if path in damaged:
        return
    reader = TextsReader(path, segment.files[layout.TEXTS], segment.n_documents)  # magic and version
    try:
        if reader.has_words:
            reader.lengths()
    finally:
        reader.close()
    database = connect_immutable(path)
    try:
        verdict = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise IndexCorrupt(path, "content", "a sound SQLite database", f"'{verdict}'", _SEGMENT_FIX)
        found = database.execute("SELECT count(*), min(row), max(row) FROM documents").fetchone()
        expected = (segment.n_documents, 0, segment.n_documents - 1)
        if found != expected:
            raise IndexCorrupt(path, "documents (count, first, last)", expected, found, _SEGMENT_FIX)
    except DATABASE_ERRORS as error:
        raise IndexCorrupt(path, "content", "a sound SQLite database", f"'{error}'", _SEGMENT_FIX) from error
    finally:
        database.close()


def _check_truncated(place: Path, segment: SegmentRecord, damaged: set[Path]) -> None:
    path = place / layout.TRUNCATED
    if layout.TRUNCATED not in segment.files or path in damaged:
        return
    rows = map_array(path, segment.files[layout.TRUNCATED])
    if (rows > 1).any():
        row = int(np.argmax(rows > 1))
        raise IndexCorrupt(path, f"truncated[{row}]", "0 or 1", rows[row], _SEGMENT_FIX)


def _check_owners(place: Path, segment: SegmentRecord, damaged: set[Path]) -> None:
    """Passages that follow each other belong to one document."""
    path, numbers_path = place / layout.TEXTS, place / layout.PASSAGES
    if layout.PASSAGES not in segment.files or damaged.intersection((path, numbers_path)):
        return
    numbers = map_array(numbers_path, segment.files[layout.PASSAGES])
    before = None
    with contextlib.closing(connect_immutable(path)) as database:
        try:
            for row, id in database.execute("SELECT row, id FROM documents ORDER BY row"):
                if 0 < row < len(numbers) and numbers[row] and id != before:
                    raise IndexCorrupt(
                        path, f"documents.row {row}, id", f"'{before}'", f"'{id}'", _SEGMENT_FIX
                    )
                before = id
        except DATABASE_ERRORS as error:
            raise IndexCorrupt(path, "content", "readable", f"'{error}'", _SEGMENT_FIX) from error


_CHECKS: Final = (
    _check_offsets,
    _check_passages,
    _check_truncated,
    _check_lists,
    _check_deleted,
    _check_texts,
    _check_owners,
)


def _problem(error: IndexCorrupt) -> Damage:
    return Damage(Path(str(error.path)), error.field, str(error))
