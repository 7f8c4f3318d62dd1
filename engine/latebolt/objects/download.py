"""Downloads objects into files: pieces some at a time, each file checked by its digest before it has its
name.

A file that was interrupted goes on where it stopped. Memory holds as many pieces as are under way, however
large the files are; nothing beyond the size that the commit says is asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final, NamedTuple

from latebolt import system
from latebolt.errors import IndexCorrupt
from latebolt.index.format import files, layout
from latebolt.index.format.files import writing
from latebolt.index.format.layout import FileRecord
from latebolt.objects import commits
from latebolt.objects.object_store import ObjectStore
from latebolt.progress import progress_bar

PIECE_BYTES: Final = 8 << 20
PIECES_AT_ONCE: Final = 8  # 64 MiB of memory at most
_READ_BYTES: Final = 1 << 20


class Wanted(NamedTuple):
    """A file to download.

    Args:
        name: of the object.
        target: where the file is to be, in a folder that may not be there yet.
    """

    name: str
    record: FileRecord
    target: Path


class _Piece(NamedTuple):
    wanted: Wanted
    start: int
    stop: int


class Digest:
    """The digest of a file's bytes in order, as `FileRecord` has it."""

    def __init__(self, record: FileRecord) -> None:
        self._digest = hashlib.blake2b(digest_size=layout.DIGEST_BYTES)
        self._left = layout.NPY_HEADER_BYTES if record.dtype is not None else 0
        self._header = b""

    def update(self, data: bytes) -> None:
        """The next bytes."""
        head, rest = data[: self._left], data[self._left :]
        self._header += head
        self._left -= len(head)
        self._digest.update(rest)

    def result(self) -> str:
        """In hex, when all bytes are in."""
        self._digest.update(self._header)
        return self._digest.hexdigest()


class _Incoming:
    """One file on its way."""

    def __init__(self, wanted: Wanted, part: Path, start: int) -> None:
        self.wanted, self._part, self.resumed = wanted, part, start > 0
        self._digest = Digest(wanted.record)
        with writing(wanted.target):
            self._file: IO[bytes] = part.open("r+b" if start else "wb")
            while start > 0:
                block = self._file.read(min(_READ_BYTES, start))
                self._digest.update(block)
                start = start - len(block) if block else 0

    def take(self, data: bytes) -> None:
        """Write the next bytes."""
        with writing(self.wanted.target, len(data)):
            self._file.write(data)
        self._digest.update(data)

    def finish(self) -> str | None:
        """Give the file its name, or the digest that it has if that is the wrong one."""
        with writing(self.wanted.target), self._file as file:
            file.flush()
            os.fsync(file.fileno())
        if (digest := self._digest.result()) != self.wanted.record.digest:
            files.remove(self._part)
            return digest
        with writing(self.wanted.target):
            self.wanted.target.parent.mkdir(parents=True, exist_ok=True)
            system.replace(self._part, self.wanted.target)
            system.sync_folder(self.wanted.target.parent)
        return None

    def close(self) -> None:
        """Leave what is there to the next try."""
        with contextlib.suppress(OSError):
            self._file.close()


def download(
    store: ObjectStore,
    wanted: Sequence[Wanted],
    parts: Path,
    between: Callable[[], None] = lambda: None,
    show_progress: bool = False,
) -> None:
    """Download files; those that are done have their names, whatever ends it.

    Args:
        parts: a folder for what is on its way, which nobody else uses meanwhile.
        between: called before each piece; what it raises ends the work.
    Raises:
        FileNotFoundError: an object is not there, or not any more.
        IndexCorrupt: an object is not what the commit says.
        ObjectStoreError: the store refuses, or cannot be reached.
        StorageFull, IndexInaccessible: the files cannot be written.
    """
    files.make_folder(parts)
    total = sum(each.record.bytes for each in wanted)
    with progress_bar(-(-total // 10**6), "download", "MB", show_progress) as bar:
        done = 0
        broken: list[tuple[Wanted, str]] = []
        incoming: _Incoming | None = None
        try:
            for piece, data in _fetched(store, _pieces(wanted, parts), between):
                if incoming is None:
                    incoming = _Incoming(piece.wanted, _part(parts, piece.wanted), piece.start)
                    done += piece.start
                if len(data) != piece.stop - piece.start:
                    place, record = store.place_of(piece.wanted.name), piece.wanted.record
                    got = f"{piece.start + len(data)} bytes"
                    raise IndexCorrupt(place, "size", f"{record.bytes} bytes", got, commits.FIX)
                incoming.take(data)
                bar.step((done + len(data)) // 10**6 - done // 10**6)
                done += len(data)
                if piece.stop == piece.wanted.record.bytes:
                    digest, resumed = incoming.finish(), incoming.resumed
                    incoming = None
                    if digest is not None:
                        if not resumed:
                            place = store.place_of(piece.wanted.name)
                            raise IndexCorrupt(
                                place, "digest", piece.wanted.record.digest, digest, commits.FIX
                            )
                        broken.append((piece.wanted, digest))
        finally:
            if incoming is not None:
                incoming.close()
    if broken:  # what was on the disk of an earlier try may be to blame: from the beginning
        download(store, [each for each, _ in broken], parts, between)


def _part(parts: Path, wanted: Wanted) -> Path:
    return parts / f"{wanted.name.rpartition('/')[2]}.part"


def _pieces(wanted: Sequence[Wanted], parts: Path) -> Iterator[_Piece]:
    for each in wanted:
        size, part = each.record.bytes, _part(parts, each)
        start = 0
        with contextlib.suppress(OSError):
            start = part.stat().st_size
        start = start if start <= size else 0
        yield _Piece(each, start, min(start + PIECE_BYTES, size))
        for place in range(start + PIECE_BYTES, size, PIECE_BYTES):
            yield _Piece(each, place, min(place + PIECE_BYTES, size))


def _fetched(
    store: ObjectStore, pieces: Iterator[_Piece], between: Callable[[], None]
) -> Iterator[tuple[_Piece, bytes]]:
    """The bytes of pieces, in order, while the next ones are under way."""
    workers = ThreadPoolExecutor(PIECES_AT_ONCE, thread_name_prefix="latebolt-objects")
    running: deque[tuple[_Piece, Future[bytes]]] = deque()
    try:
        for piece in pieces:
            between()
            running.append((piece, workers.submit(store.read, piece.wanted.name, piece.start, piece.stop)))
            if len(running) == PIECES_AT_ONCE:
                first, data = running.popleft()
                yield first, data.result()
        while running:
            first, data = running.popleft()
            yield first, data.result()
    finally:
        workers.shutdown(wait=True, cancel_futures=True)
