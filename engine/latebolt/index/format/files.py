"""The only functions of the index that write, sync, replace or remove a file.

Everything is written next to where it will be read and synced before a manifest may name it. A full disk
becomes `StorageFull` here, once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from latebolt import system
from latebolt.errors import IndexInaccessible, LateboltError, StorageFull
from latebolt.index.format import layout
from latebolt.index.format.layout import FileRecord
from latebolt.index.format.mmap_array import opened

_READ_BYTES = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def writing(path: Path, n_bytes: int | None = None) -> Iterator[None]:
    """Turn what the system says of a failed write into an error that names the file.

    Args:
        n_bytes: what the block is about to write, for the message.
    Raises:
        StorageFull: no space, or no quota, is left.
        IndexInaccessible: anything else the system refused.
    """
    try:
        yield
    except LateboltError:  # StorageFull of an inner block is an OSError too
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise _storage_full(path, n_bytes) from error
        raise _not_written(path, error.strerror or str(error), error.errno) from error
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise _storage_full(path, n_bytes) from error
        raise _not_written(path, str(error), None) from error


def _not_written(path: Path, reason: str, number: int | None) -> IndexInaccessible:
    return IndexInaccessible(
        f"{path}: cannot be written ({reason}). Check the folder's permissions and its disk; the index still "
        f"holds its last commit.",
        number,
        writing=True,
    )


def _storage_full(path: Path, n_bytes: int | None) -> StorageFull:
    need = "" if n_bytes is None else f" (needed about {max(n_bytes, 1) / 1e6:.1f} MB)"
    return StorageFull(
        f"{path}: the disk is full while writing this file{need}. Free space and add again; the index still "
        f"holds its last commit."
    )


class ArrayWriter:
    """Streams rows into an .npy file whose header is filled in at the end.

    Args:
        path: must not exist yet.
        row_shape: shape of one row, () for a 1-D array.
    """

    def __init__(self, path: Path, dtype: str, row_shape: tuple[int, ...] = ()) -> None:
        self.path, self.dtype, self.row_shape, self.n_rows = path, dtype, row_shape, 0
        self._digest = hashlib.blake2b(digest_size=layout.DIGEST_BYTES)
        with writing(path):
            self._file: IO[bytes] = path.open("xb")
            self._file.write(bytes(layout.NPY_HEADER_BYTES))

    def append(self, rows: np.ndarray[Any, Any]) -> None:
        """Add rows of shape [n, *row_shape]; the caller has checked shape and dtype."""
        block = np.ascontiguousarray(rows, dtype=self.dtype)
        if block.size:
            view = block.reshape(-1).view(np.uint8).data
            with writing(self.path, block.nbytes):
                self._file.write(view)
            self._digest.update(view)
        self.n_rows += len(block)

    def finish(self) -> FileRecord:
        """Write the header, sync, close."""
        shape = (self.n_rows, *self.row_shape)
        header = layout.npy_header(self.dtype, shape)
        with writing(self.path), self._file as file:
            file.seek(0)
            file.write(header)
            file.flush()
            os.fsync(file.fileno())
        self._digest.update(header)
        return FileRecord(layout.array_bytes(self.dtype, shape), self._digest.hexdigest(), self.dtype, shape)

    def close(self) -> None:
        """Give up: close the file and leave it to whoever removes the draft."""
        # Closing flushes; on a full disk that fails again, and the first error is the one to report.
        with contextlib.suppress(OSError):
            self._file.close()


def write_array(path: Path, array: np.ndarray[Any, Any]) -> FileRecord:
    """Write one array in one piece, synced. 0-D arrays keep their shape as [1]."""
    array = np.atleast_1d(array)
    writer = ArrayWriter(path, array.dtype.newbyteorder("<").str, array.shape[1:])
    try:
        writer.append(array)
        return writer.finish()
    finally:
        writer.close()


def seal(path: Path) -> FileRecord:
    """Sync a file that something else wrote and closed, and take its size and digest."""
    with writing(path), path.open("rb+") as file:
        os.fsync(file.fileno())
        return FileRecord(os.fstat(file.fileno()).st_size, digest_of(file))


def digest_of(file: IO[bytes], array: bool = False) -> str:
    """Digest of an open file as `FileRecord.digest` defines it; the position is left at the end."""
    digest = hashlib.blake2b(digest_size=layout.DIGEST_BYTES)
    file.seek(0)
    header = file.read(layout.NPY_HEADER_BYTES) if array else b""
    while block := file.read(_READ_BYTES):
        digest.update(block)
    digest.update(header)
    return digest.hexdigest()


def publish(path: Path, content: bytes) -> None:
    """Replace a file so that a reader, or a machine that lost power, has the old bytes or the new ones."""
    draft = path.with_name(path.name + layout.DRAFT_SUFFIX)
    with writing(path, len(content)):
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        system.replace(draft, path)
        sync_folder(path.parent)


def copy(source: Path, target: Path) -> None:
    """Copy the bytes of a file to one that does not exist yet, synced.

    Raises:
        FileNotFoundError: the source is gone; the caller knows whether that is damage.
        IndexCorrupt, IndexInaccessible: it cannot be read.
        StorageFull, IndexInaccessible: the copy cannot be written.
    """
    with opened(source) as old:
        with writing(target):
            new = target.open("xb")
        try:
            while block := old.read(_READ_BYTES):
                with writing(target, len(block)):
                    new.write(block)
            with writing(target):
                new.flush()
                os.fsync(new.fileno())
        finally:
            with contextlib.suppress(OSError):
                new.close()


def link(source: Path, target: Path) -> bool:
    """Give a file that never changes a second name; False where that is not allowed, as between two disks.

    Raises:
        FileNotFoundError: the file is gone.
        StorageFull: no space is left for a name.
    """
    if source.is_symlink():
        return False
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise _storage_full(target, None) from error
        return False
    return True


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    with writing(path):
        system.sync_folder(path)


def make_folder(path: Path) -> None:
    """Create one folder and its missing parents; an existing one is fine."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def make_within(root: Path, path: Path) -> None:
    """Create a folder and those between it and `root`; one that has gone is not made anew."""
    between = [each for each in path.parents if root in each.parents]
    with writing(path):
        for each in (*reversed(between), path):
            each.mkdir(exist_ok=True)


def remove(path: Path) -> None:
    """Remove a file or folder if possible.

    Only for what no manifest names: what cannot be removed now (an open file on Windows) is tried again by
    the next writer.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
