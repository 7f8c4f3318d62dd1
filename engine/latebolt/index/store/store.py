"""Opens an index folder: snapshots for readers, the lock for the writer.

Readers never write and never wait. A snapshot is one commit, whole, for as long as someone holds it, whatever
a writer commits or removes meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from latebolt.errors import IndexCorrupt, IndexExists, IndexUnusable
from latebolt.index.documents.documents import plain_json
from latebolt.index.format import files, layout
from latebolt.index.format.cleanup import remove_unnamed
from latebolt.index.format.layout import Column, Manifest, ModelRecord
from latebolt.index.format.lock import writer_lock
from latebolt.index.format.manifest_file import read_content, read_head, read_manifest
from latebolt.index.format.mmap_array import RESTORE, map_array
from latebolt.index.store.segment import Segment, lasting_files, open_segment, read_alive
from latebolt.index.store.segment_writer import SegmentWriter
from latebolt.index.store.writer import Writer

__all__ = ["StoredCodec", "Column", "ModelRecord", "Segment", "SegmentWriter", "Snapshot", "Store", "Writer"]

_TRIES: Final = 100  # commits that may overtake one opening
# What a creation that was cut short may leave; it is in nobody's way.
_LEFTOVERS: Final = frozenset(
    {layout.LOCK, layout.MANIFEST + layout.DRAFT_SUFFIX, layout.SEGMENTS, layout.CODECS}
)


@dataclass(frozen=True, eq=False)
class StoredCodec:
    """A stored codec; arrays are mapped and read-only."""

    name: str
    info: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]
    folder: Path


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One commit of an index."""

    manifest: Manifest
    codecs: Mapping[str, StoredCodec]
    segments: tuple[Segment, ...]

    @property
    def generation(self) -> int:
        """Commits before this one."""
        return self.manifest.generation

    @property
    def model(self) -> ModelRecord | None:
        """The encoder the index was made with."""
        return self.manifest.model

    @property
    def dim(self) -> int:
        """Width of token vectors."""
        return self.manifest.dim

    @property
    def bits(self) -> int:
        """Bits a dimension."""
        return self.manifest.bits

    @property
    def settings(self) -> Mapping[str, Any]:
        """Free-form settings."""
        return self.manifest.settings

    @property
    def codec(self) -> StoredCodec | None:
        """The codec for new segments."""
        return None if self.manifest.codec is None else self.codecs[self.manifest.codec]

    @property
    def n_documents(self) -> int:
        """Live documents."""
        return sum(segment.n_live for segment in self.segments)

    @property
    def n_tokens(self) -> int:
        """Tokens, those of deleted documents included."""
        return sum(record.n_tokens for record in self.manifest.segments)

    @property
    def n_bytes(self) -> int:
        """Size of all files the manifest names."""
        owned = [owner.files for owner in self.manifest.segments]
        owned += [owner.files for owner in self.manifest.codecs.values()]
        return sum(file.bytes for files_ in owned for file in files_.values())


class Store:
    """An index folder. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest_path = os.path.join(path, layout.MANIFEST)  # noqa: PTH118 - a str, joined once
        self._process, self._lock = os.getpid(), threading.Lock()
        self._head: bytes | None = None
        self._current = _EMPTY
        self._staged = self._found_folder = self.closed = False

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        dim: int,
        bits: int,
        model: ModelRecord | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Store:
        """Make an empty index in a folder that is missing, empty, or holds what a creation cut short left.

        Raises:
            IndexExists: there is an index, or something else.
        """
        store = cls.stage(path, dim=dim, bits=bits, model=model, settings=settings)
        store.make()
        return store

    @classmethod
    def stage(
        cls,
        path: str | os.PathLike[str],
        *,
        dim: int,
        bits: int,
        model: ModelRecord | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Store:
        """An empty index that the disk knows nothing of before its first commit, or `make`.

        A writer that commits nothing leaves the disk as it was.

        Raises:
            IndexExists: there is an index, or something else; later too, if another process is quicker.
        """
        folder = Path(path)
        plain = plain_json(settings or {}, "settings")
        _refuse_existing(folder)
        store = cls(folder)
        manifest = Manifest(layout.FORMAT, layout.version_of(()), 0, 1, model, dim, bits, plain)
        store._current = Snapshot(manifest, {}, ())
        store._staged, store._found_folder = True, folder.exists()
        return store

    def make(self, timeout: float = 0.0) -> None:
        """Make a staged index as it is, empty. One that is there stays as it is.

        Args:
            timeout: seconds to wait for another process that is making one here.
        Raises:
            IndexExists: another process has made one here since this one was staged.
            IndexLocked: another process is at it still.
        """
        self.check_open()
        if self._staged:
            with self._held(timeout):
                if self._staged:
                    files.publish(self._path_of_manifest, layout.encode_manifest(self.manifest))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """Open an index and its last commit.

        Raises:
            IndexNotFound: there is none at this path.
            IndexCorrupt: a file contradicts the manifest.
        """
        store = cls(Path(path))
        store.snapshot()
        return store

    @property
    def staged(self) -> bool:
        """Whether the index waits for its first commit."""
        return self._staged

    @property
    def place(self) -> str:
        """Where the index lies, for people."""
        return str(self.path)

    @property
    def address(self) -> tuple[str | Path, dict[str, Any]]:
        """What opens the index again in another process: see `Index.open`, with settings of its own."""
        return self.path.absolute(), {}

    def refresh(self) -> bool:
        """Look for a newer commit now; whether there is one since the last look.

        Every snapshot does that of an index in a folder.
        """
        before = self._head
        self.snapshot()
        return self._head != before

    def check_writable(self) -> None:
        """Raise IndexReadOnly, before anything is encoded, if the index cannot be changed here."""
        self.check_open()

    def check_open(self) -> None:
        """Raise IndexUnusable if this store was closed."""
        if self.closed:
            raise IndexUnusable(f"{self.path}: this index was closed. Open it again with Index.open.")

    @property
    def manifest(self) -> Manifest:
        """The manifest last read."""
        self.check_open()
        return self._current.manifest

    def snapshot(self) -> Snapshot:
        """The last commit. For 43 bytes read, the same object as before if there is none newer.

        Raises:
            IndexNotFound: the folder has gone.
            IndexCorrupt: a file contradicts the manifest.
        """
        if self._process != os.getpid():  # the lock may have been held by a thread that the fork did not copy
            self._process, self._lock = os.getpid(), threading.Lock()
        if self.closed or self._staged:
            self.check_open()
            return self._current
        with self._lock:
            for _ in range(_TRIES):
                content = read_head(self.path, self._manifest_path)
                if content == self._head:
                    return self._current
                content = read_content(self.path)
                manifest = layout.decode_manifest(content, self.path / layout.MANIFEST)
                try:
                    self._current = self._open(manifest)
                except FileNotFoundError as error:
                    # Removed because a newer commit does not need it, or lost: only the manifest can tell.
                    if read_content(self.path) == content:
                        missing = Path(error.filename or error.args[0])
                        raise IndexCorrupt(missing, "existence", "a file", "nothing", RESTORE) from error
                    continue
                self._head = content[: layout.MANIFEST_HEAD_BYTES]
                return self._current
        raise IndexCorrupt(
            self.path / layout.MANIFEST,
            "generation",
            "stable while opening",
            f"{_TRIES} commits",
            "Try again.",
        )

    def _open(self, manifest: Manifest) -> Snapshot:
        """Open what is new; files that the current snapshot holds are immutable and stay as they are."""
        known = {segment.name: segment for segment in self._current.segments}
        segments = []
        for record in manifest.segments:
            folder = self.path / layout.SEGMENTS / record.name
            old = known.get(record.name)
            # Compared and not assumed: someone may have put another index at this path.
            same = old is not None and lasting_files(old.record) == lasting_files(record)
            base = old if old is not None and same else None
            if base is None:
                base = open_segment(folder, record, layout.n_centroids(manifest, record))
            alive = read_alive(folder, record)
            alive.flags.writeable = False
            segments.append(base.view(record, alive))
        codecs = {}
        for name, codec in manifest.codecs.items():
            if codec == self._current.manifest.codecs.get(name):
                codecs[name] = self._current.codecs[name]
                continue
            folder = self.path / layout.CODECS / name
            arrays = {
                file.removesuffix(".npy"): map_array(folder / file, r) for file, r in codec.files.items()
            }
            codecs[name] = StoredCodec(name, codec.info, arrays, folder)
        return Snapshot(manifest, codecs, tuple(segments))

    @contextlib.contextmanager
    def writer(self, timeout: float = 0.0) -> Iterator[Writer]:
        """Hold the index for writing; leaving the block discards what was not committed.

        Args:
            timeout: seconds to wait for another process. Threads of this one take turns.
        Raises:
            IndexLocked: another process is writing, or this thread is already.
            IndexExists: the index was staged, and another process has made one here since.
        """
        # Before the lock, whose file would otherwise be made in a folder that is no index.
        self.snapshot()
        with self._held(timeout):
            snapshot = self.snapshot()
            try:
                writer = Writer(self.path, snapshot.manifest, snapshot.segments)
                try:
                    yield writer
                finally:
                    writer.close()
            finally:
                # What is on disk decides, not what the writer believes: it may have been interrupted between
                # publishing and noticing.
                with contextlib.suppress(OSError, IndexUnusable):
                    remove_unnamed(self.path, read_manifest(self.path))

    @contextlib.contextmanager
    def _held(self, timeout: float) -> Iterator[None]:
        """The lock; of a staged index with the folders that a writer needs, for as long as it needs them."""
        if not self._staged:
            with writer_lock(self.path, timeout):
                yield
            return
        with writer_lock(self.path, timeout, make=not self._found_folder):
            if not self._staged:  # another thread has made it meanwhile
                yield
                return
            _refuse_existing(self.path)
            try:
                for name in (layout.SEGMENTS, layout.CODECS):
                    files.make_within(self.path, self.path / name)
                files.sync_folder(self.path.absolute().parent)
                yield
            finally:
                if self._path_of_manifest.exists():
                    self._staged = False
                else:
                    self._remove_staged()

    def _remove_staged(self) -> None:
        for name in (*_LEFTOVERS - {layout.LOCK}, layout.LOCK):
            files.remove(self.path / name)
        if not self._found_folder:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    @property
    def _path_of_manifest(self) -> Path:
        return Path(self._manifest_path)

    def close(self) -> None:
        """Forget the current snapshot; its files close with the last user of its segments.

        Whatever is asked of the store afterwards is an IndexUnusable.
        """
        self.closed = True
        self._head, self._current = None, _EMPTY


_EMPTY: Final = Snapshot(Manifest(layout.FORMAT, layout.version_of(()), 0, 1, None, 0, 0, {}), {}, ())


def _refuse_existing(folder: Path) -> None:
    try:
        names = {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise IndexExists(f"{folder}: is a file. Choose a path where nothing is yet.") from error
    if layout.MANIFEST in names:
        raise IndexExists(f"{folder}: there is an index already. Open it, or remove the folder first.")
    if names - _LEFTOVERS:
        raise IndexExists(
            f"{folder}: the folder holds other files ({min(names - _LEFTOVERS)}). Choose a path where "
            f"nothing is yet."
        )
